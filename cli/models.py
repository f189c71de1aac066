"""nvae-codec models: the models that are here."""

from __future__ import annotations

import json

import click


@click.command("models")
@click.option("--json", "as_json", is_flag=True, help="A JSON list.")
def models_command(as_json: bool) -> None:
    """List the models that came with the package: name, identity, bytes and the first line of the card."""
    from nvae_codec.model_library import DEFAULT_MODEL, installed_models

    listed = []
    for info in installed_models():
        card = info.path.with_name("card.md")
        lines = card.read_text(encoding="utf-8").splitlines() if card.is_file() else []
        title = next((line.lstrip("# ") for line in lines if line.strip()), "")
        listed.append(
            {
                "name": info.name,
                "id": info.id,
                "identity": info.identity.hex(),
                "default": info.name == DEFAULT_MODEL,
                "bytes": info.path.stat().st_size,
                "path": str(info.path),
                "card": title,
            }
        )
    if as_json:
        click.echo(json.dumps(listed, indent=2))
        return
    for model in listed:
        click.echo(f"{model['name']:<12} {model['id']}  {model['bytes']:>11,} bytes  {model['card']}")
