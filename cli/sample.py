"""nvae-codec sample: images from a model's prior."""

import click

from nvae_codec.runtime import Runtime

from .grids import Drawing, Grid, drawing_options, grid_options, open_network, output_option, plan_grid, write_grid
from .options import force_option, integer_option, network_options, reporting_options
from .report import Outcome, Reporter


@click.command("sample")
@click.argument("model", metavar="RUN")
@output_option
@grid_options(
    16, 4, count_text="Number of images.",
    size_text="Size of an image: its side, or width and height.  [default: the training's crops]",
)  # fmt: skip
@integer_option(
    "--fixed-scales", least=0, default=0, text="The images of a row share the latents of the N coarsest scales."
)
@integer_option(
    "--readjust-bn", least=0, default=0,
    text="Re-adjust batch norms by N batches of samples of the temperature; the official code takes 500.",
)  # fmt: skip
@drawing_options
@network_options
@force_option
@reporting_options
def sample_command(
    model: str,
    output: str,
    grid: Grid,
    fixed_scales: int,
    readjust_bn: int,
    drawing: Drawing,
    runtime: Runtime,
    force: bool,
    report: Reporter,
) -> int:
    """Draw images from the prior of RUN as one grid.

    RUN is a training run's folder or checkpoint, or the name of a model whose checkpoint is in its folder.
    """
    from nvae_codec.network.sampling import groups_of_scales, make_grid, readjust_batch_norm, sample

    job = plan_grid(output, force=force)
    with open_network(model, runtime) as network:
        fixed = groups_of_scales(network.recipe, fixed_scales)
        if readjust_bn:
            readjust_batch_norm(network, drawing.temperature, readjust_bn, grid.size, drawing.seed)
        how = {"fixed_groups": fixed, "columns": grid.columns, **vars(drawing)}
        with report.progress(network.recipe.name, grid.count) as bar:
            images = sample(network, grid.count, grid.size, on_images=bar.advance, **how)
    write_grid(job, make_grid(images, grid.columns), force=force)
    pixels = images.shape[0] * images.shape[1] * images.shape[2]
    report.count(output, Outcome(f"{len(images)} samples of {network.recipe.name}", len(images), pixels))
    return report.finish() if job.target else report.exit_code
