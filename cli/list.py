"""nvae-codec list: the images of an archive."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .files import naming
from .info import name_model

if TYPE_CHECKING:
    from nvae_codec.container.archive.reader import Archive


@click.command("list")
@click.argument("file", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def list_command(file: Path, as_json: bool) -> None:
    """List the images of an archive, without decoding them: name, size, colour, method, segment."""
    from nvae_codec import open_archive

    with naming(file):
        archive = open_archive(file)
    described = describe_archive(archive)
    if as_json:
        click.echo(json.dumps(described, indent=1))
        return
    for row in described["images"]:
        size, colour = f"{row['width']}x{row['height']}", f"{row['bits']}-bit {row['mode']}"
        click.echo(f"{size:>11}  {colour:<17}  {row['method']:<6}  {row['segment']:>4}  {row['name']}")


def describe_archive(archive: Archive) -> dict[str, Any]:
    """The fields of ``list --json``; ``info --json`` has all but the images."""
    from nvae_codec.container.header import METHOD_NAMES, VERSION

    rows = [
        {
            "name": entry.name,
            "width": entry.width,
            "height": entry.height,
            "mode": entry.colour.mode,
            "bits": entry.colour.bits,
            "method": METHOD_NAMES[entry.kind],
            "segment": number,
        }
        for number, segment in enumerate(archive.segments, 1)
        for entry in segment.entries
    ]
    dims = sum(entry.dims for entry in archive.entries)
    return {
        "file": str(archive.path),
        "format_version": VERSION,
        "model": {
            "name": name_model(archive.identity),
            "id": archive.identity[:4].hex(),
            "identity": archive.identity.hex(),
        },
        "shard": None if archive.shard is None else str(archive.shard),
        "segments": [{"images": len(s.entries), "bytes": s.length} for s in archive.segments],
        "methods": {method: sum(row["method"] == method for row in rows) for method in ("model", "webp", "stored")},
        "file_bytes": archive.file_bytes,
        "bits_per_dim": round(8 * archive.file_bytes / dims, 6) if dims else None,
        "images": rows,
    }
