"""nvae-codec import-nvlabs: a checkpoint of the official NVAE code as a run of ours."""

from pathlib import Path

import click

from .options import reporting_options
from .report import Reporter, echo


@click.command("import-nvlabs")
@click.argument("checkpoint", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "-o",
    "--out",
    "run",
    required=True,
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Folder of the recipe and the checkpoint, as train makes it.",
)
@click.option("--name", metavar="NAME", help="Name of the model.  [default: RUN's]")
@click.option("-f", "--force", is_flag=True, help="Overwrite the run.")
@reporting_options
def import_nvlabs_command(checkpoint: Path, run: Path, name: str | None, force: bool, report: Reporter) -> None:
    """Read an official CHECKPOINT, running no code from it, as a run for freeze and train --resume."""
    from nvae_codec.errors import NvaeCodecError
    from nvae_codec.integrations.nvlabs import import_network, make_recipe, read_official
    from nvae_codec.recipes.files import format_recipe
    from nvae_codec.training.checkpoint import FILE, Average, save_checkpoint
    from nvae_codec.training.optimizers import make_optimizer

    if (run / FILE).exists() and not force:
        raise NvaeCodecError(f"{run}: a run is here already; -f overwrites it")
    official = read_official(checkpoint)
    recipe = make_recipe(official, name or run.resolve().name)
    network = import_network(official, recipe)
    run.mkdir(parents=True, exist_ok=True)
    (run / "recipe.toml").write_text(format_recipe(recipe), encoding="utf-8")
    average = Average(network, recipe.training.ema)
    done = {"step": official.step, "seconds": 0.0, "imported": checkpoint.name}
    save_checkpoint(run, recipe, network, average, make_optimizer(recipe.training, network.parameters()), done)
    count = sum(parameter.numel() for parameter in network.parameters())
    if report.quiet:
        return
    echo(f"{run}: {recipe.name}, {count:,} parameters, {sum(recipe.network.groups)} groups, step {official.step}")
