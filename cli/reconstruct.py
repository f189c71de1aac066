"""nvae-codec reconstruct: what a model's latents keep of images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nvae_codec.errors import NvaeCodecError
from nvae_codec.runtime import Runtime

from .files import check_outputs, find_all_inputs
from .grids import Drawing, Grid, drawing_options, grid_options, open_network, output_option, plan_grid, write_grid
from .options import EXISTING, force_option, network_options, reporting_options
from .report import Outcome, Reporter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nvae_codec.evaluation.inputs import Input


@click.command("reconstruct")
@click.argument("model", metavar="RUN")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...", type=EXISTING)
@output_option
@grid_options(
    8, 8, count_text="Largest number of images.",
    size_text="Size of the crop from the middle.  [default: what all have, at most 256]",
)  # fmt: skip
@drawing_options
@network_options
@force_option
@reporting_options
def reconstruct_command(
    model: str,
    inputs: tuple[Path, ...],
    output: str,
    grid: Grid,
    drawing: Drawing,
    runtime: Runtime,
    force: bool,
    report: Reporter,
) -> int:
    """Show images above what comes back from their latents alone under RUN.

    RUN is a training run's folder or checkpoint, or the name of a model whose checkpoint is in its folder.
    INPUT is an image file, a folder of them, or an .npz file with images, uint8 (N,H,W,3) or (N,H,W).
    """
    from nvae_codec.evaluation.inputs import find_inputs
    from nvae_codec.network.sampling import crop_middles, make_pairs, reconstruct

    job = plan_grid(output, force=force)
    own = find_all_inputs((*inputs, Path(model)) if Path(model).exists() else inputs)
    check_outputs((job.target,), own)
    with open_network(model, runtime) as network:
        found = [read(each) for each in find_inputs(inputs)[: grid.count]]
        originals = crop_middles(found, network.recipe, grid.size)
        with report.progress(network.recipe.name, len(originals)) as bar:
            made = reconstruct(network, originals, on_images=bar.advance, **vars(drawing))
    write_grid(job, make_pairs(originals, made, grid.columns), force=force, inputs=own)
    pixels = sum(each.shape[0] * each.shape[1] for each in made)
    report.count(output, Outcome(f"{len(made)} reconstructions by {network.recipe.name}", len(made), pixels))
    return report.finish() if job.target else report.exit_code


def read(found: Input) -> NDArray[np.uint8]:
    """An image's pixels, uint8 (H, W, 3). Raises NvaeCodecError with its name."""
    try:
        return found.read_rgb().require_pixels("the model")
    except NvaeCodecError as error:
        raise type(error)(f"{found.name}: {error}") from None
