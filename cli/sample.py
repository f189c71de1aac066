"""nvae-codec sample: images from a model's prior."""

from __future__ import annotations

import click

from .grids import Size, how_to_draw, load_network, plan_grid, write_grid


@click.command("sample")
@click.argument("model", metavar="RUN")
@click.option("--count", type=click.IntRange(1), default=16, show_default=True, metavar="N", help="Images.")
@click.option("--columns", type=click.IntRange(1), default=4, show_default=True, metavar="N", help="Images a row.")
@click.option("--size", type=Size(), help="Side of an image, or width and height.  [default: the training's crops]")
@click.option(
    "--fixed-scales",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    metavar="N",
    help="The images of a row share the latents of the N coarsest scales.",
)
@click.option(
    "--readjust-bn",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    metavar="N",
    help="Re-adjust batch norms by N batches of samples of the temperature; the official code takes 500.",
)
@how_to_draw
def sample_command(
    model: str,
    count: int,
    columns: int,
    size: tuple[int, int] | None,
    fixed_scales: int,
    readjust_bn: int,
    output: str,
    temperature: float,
    pixels: str,
    seed: int,
    device: str,
    force: bool,
) -> None:
    """Draw images from the prior of RUN as one grid.

    RUN is a training run's folder or checkpoint, or the name of a model whose checkpoint is here.
    """
    from typing import cast

    from nvae_codec.network.sampling import Pixels, groups_of_scales, make_grid, readjust_batch_norm, sample

    job = plan_grid(output, force=force)
    network = load_network(model, device)
    fixed = groups_of_scales(network.recipe, fixed_scales)
    if readjust_bn:
        readjust_batch_norm(network, temperature, readjust_bn, size, seed)
    how = cast(Pixels, pixels)
    images = sample(
        network, count, size, temperature=temperature, seed=seed, pixels=how, fixed_groups=fixed, columns=columns
    )
    write_grid(job, make_grid(images, columns), force=force)
