"""nvae-codec reconstruct: what a model's latents keep of images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nvae_codec.errors import NvaeCodecError

from .files import check_outputs, find_all_inputs
from .grids import Size, how_to_draw, load_network, plan_grid, write_grid

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nvae_codec.evaluation.inputs import Input


@click.command("reconstruct")
@click.argument("model", metavar="RUN")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...", type=click.Path(exists=True, path_type=Path))
@click.option("--count", type=click.IntRange(1), default=8, show_default=True, metavar="N", help="Images at most.")
@click.option("--columns", type=click.IntRange(1), default=8, show_default=True, metavar="N", help="Images a row.")
@click.option("--size", type=Size(), help="Of the middle that is taken of each.  [default: what all have, at most 256]")
@how_to_draw
def reconstruct_command(
    model: str,
    inputs: tuple[Path, ...],
    count: int,
    columns: int,
    size: tuple[int, int] | None,
    output: str,
    temperature: float,
    pixels: str,
    seed: int,
    device: str,
    force: bool,
) -> None:
    """Show images above what comes back from their latents alone under RUN.

    RUN is a training run's folder or checkpoint, or the name of a model whose checkpoint is here.
    INPUT is an image file, a folder of them, or an .npz file with images, uint8 (N,H,W,3) or (N,H,W).
    """
    from typing import cast

    from nvae_codec.evaluation.inputs import find_inputs
    from nvae_codec.network.sampling import Pixels, cut_middles, make_pairs, reconstruct

    job = plan_grid(output, force=force)
    own = find_all_inputs((*inputs, Path(model)) if Path(model).exists() else inputs)
    check_outputs((job.target,), own)
    network = load_network(model, device)
    originals = cut_middles([read(found) for found in find_inputs(inputs)[:count]], network.recipe, size)
    how = cast(Pixels, pixels)
    made = reconstruct(network, originals, temperature=temperature, seed=seed, pixels=how)
    write_grid(job, make_pairs(originals, made, columns), force=force, inputs=own)


def read(found: Input) -> NDArray[np.uint8]:
    """A image's pixels, uint8 (H, W, 3). Raises NvaeCodecError with its name."""
    try:
        return found.read_rgb().require_pixels("the model")
    except NvaeCodecError as error:
        raise type(error)(f"{found.name}: {error}") from None
