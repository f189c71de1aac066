"""What sample and reconstruct share: a float network by its run, sizes of images, and a grid of them as a PNG."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nvae_codec.errors import UnknownModelError

from .files import Job, check_target, write_target
from .options import Command, FiniteRange

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nvae_codec.files import Inputs
    from nvae_codec.network.nvae import Nvae


class Size(click.ParamType[tuple[int, int]]):
    """N or WxH to (H, W)."""

    name = "N|WxH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Read a size; fails for anything else."""
        parts = str(value).lower().split("x")
        if len(parts) > 2 or not all(part.isdecimal() and 0 < int(part) < 1 << 16 for part in parts):
            self.fail(f"{value!r} is not a side like 64 or a width and a height like 96x64", param, ctx)
        return int(parts[-1]), int(parts[0])


def how_to_draw(command: Command) -> Command:
    """-o, --size, --temperature, --pixels, --seed, --device, --force."""
    for option in (
        click.option("-f", "--force", is_flag=True, help="Overwrite; send binary data to a terminal."),
        click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True),
        click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of all random numbers."),
        click.option(
            "--pixels",
            type=click.Choice(["auto", "draw", "mean"]),
            default="auto",
            show_default=True,
            help="How pixels follow from latents; auto draws them, but takes the mean of binary ones.",
        ),
        click.option(
            "--temperature",
            type=FiniteRange(0),
            default=1.0,
            show_default=True,
            metavar="T",
            help="Factor of the latents' sigmas; at 0 they are means.",
        ),
        click.option("-o", "output", required=True, metavar="PNG|-", help="Where the grid goes."),
    ):
        command = option(command)
    return command


def load_network(model: str, device: str) -> Nvae:
    """The float network of a run (a folder or its checkpoint), or of a model's folder that holds its checkpoint."""
    from nvae_codec.training.checkpoint import FILE, load_average
    from nvae_codec.zoo.library import MODELS_FOLDER

    run = Path(model) if Path(model).exists() else MODELS_FOLDER / model
    if not (run / FILE if run.is_dir() else run).is_file():
        raise UnknownModelError(f"{model}: no training run here (a frozen model codes; its run is what is drawn from)")
    return load_average(run)[1].to(device)


def plan_grid(output: str, *, force: bool) -> Job:
    """Where the grid goes. Raises NvaeCodecError, before any work, where it could not be written."""
    job = Job(None, None if output == "-" else Path(output))
    check_target(job, force=force)
    return job


def write_grid(job: Job, grid: NDArray[np.uint8], *, force: bool, inputs: Inputs | None = None) -> None:
    """Write a grid of images as a PNG, over none of the inputs."""
    from nvae_codec.images.raster import RasterImage
    from nvae_codec.images.write import write_png

    write_target(job, write_png(RasterImage.from_pixels(grid)), force=force, inputs=inputs)
