"""nvae-codec info: what is in a file."""

from __future__ import annotations

import json
from typing import Any

import click

from .files import Job, find_files, read_source
from .options import ANY_PATH
from .report import run_jobs


@click.command("info")
@click.argument("file", metavar="FILE", type=ANY_PATH)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def info_command(file: str, as_json: bool) -> int:
    """Say what is in an .nvae file, without decoding it.

    FILE may be - for stdin. The file's own checksum is verified; `nvae-codec test` verifies the pixels too.
    """

    def show(job: Job) -> str:
        described = describe(job)
        if as_json:
            click.echo(json.dumps(described, indent=2))
        else:
            for name, value in described.items():
                click.echo(f"{name.replace('_', ' '):<18}{_in_words(value)}")
        return ""

    return run_jobs(find_files(file, (".nvae",)), show, quiet=True, verbose=False)


def describe(job: Job) -> dict[str, Any]:
    """The fields of ``info --json``; of an archive how many images and segments there are, not which."""
    from nvae_codec import open_archive
    from nvae_codec.container.archive.reader import is_archive_file

    from .list import describe_archive

    if job.source is None or not is_archive_file(job.source):
        return describe_file(job.name, read_source(job))
    described = describe_archive(open_archive(job.source))
    return described | {"images": len(described["images"]), "segments": len(described["segments"])}


def describe_file(name: str, data: bytes) -> dict[str, Any]:
    """The fields of ``info --json``; raises DamagedFileError."""
    from nvae_codec.container.header import METHOD_NAMES, MODEL_KINDS, VERSION, split_parts

    parts = split_parts(data)
    header = parts.header
    dims = header.width * header.height * header.colour.channels
    model = None
    if header.kind in MODEL_KINDS:
        model = {"name": name_model(header.model_id), "id": header.model_id.hex()}
    return {
        "file": name,
        "format_version": VERSION,
        "width": header.width,
        "height": header.height,
        "mode": header.colour.mode,
        "bits": header.colour.bits,
        "method": METHOD_NAMES[header.kind],
        "model": model,
        "plan": list(header.plan),
        "file_bytes": len(data),
        "payload_bytes": len(parts.payload),
        "metadata_bytes": len(parts.metadata),
        "bits_per_dim": round(8 * len(data) / dims, 6),
        "checksum": header.content_checksum[::-1].hex(),
    }


def name_model(model_id: bytes) -> str | None:
    """The name of the model of that identity, if it is here."""
    from nvae_codec.errors import UnknownModelError
    from nvae_codec.zoo.library import find_by_identity

    try:
        return find_by_identity(model_id).name
    except UnknownModelError:
        return None


def _in_words(value: Any) -> str:
    if isinstance(value, dict) and "id" not in value:
        return ", ".join(f"{count} {name}" for name, count in value.items() if count) or "none"
    if isinstance(value, dict):
        return f"{value['name'] or 'not here'} ({value['id']})"
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
