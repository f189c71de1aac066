"""nvae-codec models: the models that are here."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from nvae_codec.zoo.library import ModelInfo


@click.command("models")
@click.option("--json", "as_json", is_flag=True, help="A JSON list.")
def models_command(as_json: bool) -> None:
    """List the models that are here: name, identity, bytes and what the card says first.

    They came with the package or lie in a folder that NVAE_CODEC_MODELS names. Older ones still decode their files.
    """
    from nvae_codec.zoo.library import DEFAULT_MODEL, installed_models, more_models, older_models

    current = [*installed_models(), *more_models()]
    default = next((info for info in current if info.name == DEFAULT_MODEL), None)
    listed = [describe_model(info, default=info is default, older=False) for info in current]
    listed += [describe_model(info, default=False, older=True) for info in older_models()]
    if as_json:
        click.echo(json.dumps(listed, indent=2))
        return
    for model in listed:
        click.echo(f"{model['name']:<12} {model['id']}  {model['bytes']:>11,} bytes  {model['card']}")


def describe_model(info: ModelInfo, *, default: bool, older: bool) -> dict[str, Any]:
    """A row of ``models --json``."""
    return {
        "name": info.name,
        "id": info.id,
        "identity": info.identity.hex(),
        "default": default,
        "older": older,
        "bytes": info.path.stat().st_size,
        "path": str(info.path),
        "card": "an older model of that name" if older else summarize(info.path.parent),
    }


def summarize(folder: Path) -> str:
    """The first sentence of a model's card (README.md at Hugging Face), up to a colon, or its title without any."""
    card = next((folder / name for name in ("card.md", "README.md") if (folder / name).is_file()), None)
    text = card.read_text(encoding="utf-8") if card is not None else ""
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n") if paragraph.strip()]
    sentences = [paragraph for paragraph in paragraphs if not paragraph.startswith("#")]
    return re.split(r"[:.](?: |$)", (sentences or paragraphs or [""])[0].lstrip("# "))[0]
