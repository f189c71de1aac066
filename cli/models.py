"""nvae-codec models: the installed models and recipes."""

import json

import click

from .describe import describe_model, format_table
from .options import reporting_options
from .report import Reporter, echo


@click.command("models")
@click.option("--json", "as_json", is_flag=True, help="A JSON list.")
@click.option("--recipes", is_flag=True, help="The recipes that nvae-codec train takes by name.")
@reporting_options
def models_command(as_json: bool, recipes: bool, report: Reporter) -> None:
    """List the installed models: name, identity, bytes and the first sentence of the card.

    They come with the package or are in a folder that NVAE_CODEC_MODELS names.
    """
    from nvae_codec.zoo.library import DEFAULT_MODEL, installed_models, more_models

    if recipes:
        _list_recipes(as_json)
        return
    infos = [*installed_models(), *more_models()]
    default = next((info for info in infos if info.name == DEFAULT_MODEL), None)
    rows = [describe_model(info, default=info is default) for info in infos]
    if as_json:
        echo(json.dumps(rows, indent=2))
        return
    table = [[row["name"], row["id"], row["bytes"], row["card"]] for row in rows]
    echo(format_table(("name", "identity", "bytes", "card"), table, left=("name", "identity", "card")))


def _list_recipes(as_json: bool) -> None:
    from nvae_codec.recipes.files import list_recipes, summarize_recipe

    rows = [{"name": name, "path": str(path), "about": summarize_recipe(path)} for name, path in list_recipes().items()]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    table = [[row["name"], row["about"].partition(";")[0].partition(". ")[0]] for row in rows]
    click.echo(format_table(("recipe", "about"), table, left=("recipe", "about")))
