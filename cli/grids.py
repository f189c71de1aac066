"""The common parts of sample and reconstruct: the float network of a run, options of drawing, a grid as a PNG."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nvae_codec.errors import NvaeCodecError
from nvae_codec.runtime import Runtime

from .files import Job, check_target, write_target
from .options import Command, FiniteRange, choice_option, integer_option, together

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nvae_codec.files import Inputs
    from nvae_codec.network.nvae import Nvae
    from nvae_codec.network.sampling import Pixels


class Size(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """N or WxH to (H, W)."""

    name = "N|WxH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Read a size; fails for anything else."""
        parts = str(value).lower().split("x")
        if len(parts) > 2 or not all(part.isdecimal() and 0 < int(part) < 1 << 16 for part in parts):
            self.fail(f"{value!r} is not a size like 64 or a width and a height like 96x64", param, ctx)
        return int(parts[-1]), int(parts[0])


@dataclass(frozen=True)
class Drawing:
    """How images are drawn: the factor of the latents' sigmas, how pixels follow from latents, and the seed."""

    temperature: float
    pixels: Pixels
    seed: int


@dataclass(frozen=True)
class Grid:
    """Images in a grid: how many, in how many columns, and their size (height, width)."""

    count: int
    columns: int
    size: tuple[int, int] | None


drawing_options = together(
    "drawing",
    Drawing,
    click.option(
        "--temperature",
        type=FiniteRange(0),
        default=1.0,
        show_default=True,
        metavar="T",
        help="Factor of the latents' sigmas; at 0 they are means.",
    ),
    choice_option(
        "--pixels",
        ("auto", "draw", "mean"),
        text="How pixels follow from latents; auto draws them, but takes the mean of binary ones.",
    ),
    integer_option("--seed", least=0, default=0, text="Seed of all random numbers."),
)


def grid_options(count: int, columns: int, *, count_text: str, size_text: str) -> Callable[[Command], Command]:
    """The options of a Grid, with the defaults and the help that a command gives them."""
    return together(
        "grid",
        Grid,
        integer_option("--count", default=count, text=count_text),
        integer_option("--columns", default=columns, text="Images per row of the grid."),
        click.option("--size", type=Size(), metavar="N|WxH", help=size_text),
    )


output_option = click.option("-o", "output", required=True, metavar="PNG|-", help="File for the grid, - for stdout.")


@contextmanager
def open_network(model: str, runtime: Runtime) -> Iterator[Nvae]:
    """The float network of a run (its folder or checkpoint) or of a shipped model, by its name.

    It is on the runtime's device and evaluated with its threads. Raises UnknownModelError and NvaeCodecError.
    """
    import torch

    from nvae_codec.training.checkpoint import load_average

    if runtime.device == "cuda" and not torch.cuda.is_available():
        raise NvaeCodecError("there is no CUDA device; use --device cpu")
    device = "cuda" if runtime.device != "cpu" and torch.cuda.is_available() else "cpu"
    with runtime.scope_threads():
        yield load_average(model)[1].to(device)


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
