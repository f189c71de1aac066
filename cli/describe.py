"""The fields of files, archives and models that ``info``, ``list`` and ``models`` show."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nvae_codec.container.archive.index import Entry
    from nvae_codec.container.archive.reader import Archive
    from nvae_codec.container.header import Header
    from nvae_codec.zoo.library import ModelInfo

Fields = dict[str, Any]


def describe_file(name: str, data: bytes) -> Fields:
    """The fields of ``info --json`` for one image; raises DamagedFileError."""
    from nvae_codec.container.extensions import ADAPTATION, find_extension
    from nvae_codec.container.header import MODEL_KINDS, VERSION, split_parts

    parts = split_parts(data)
    header = parts.header
    dims = header.width * header.height * header.colour.channels
    model = None
    if header.kind in MODEL_KINDS:
        model = {"name": name_model(header.model_id), "id": header.model_id.hex()}
    return {
        "file": name,
        "format_version": VERSION,
        **_describe_image(header),
        "model": model,
        "plan": list(header.plan),
        "images": 1,
        "file_bytes": len(data),
        "bytes_per_image": len(data),
        "payload_bytes": len(parts.payload),
        "metadata_bytes": len(parts.metadata),
        "adaptation_bytes": len(find_extension(header.extensions, ADAPTATION) or b""),
        "bits_per_dim": round(8 * len(data) / dims, 6),
        "checksum": header.content_checksum[::-1].hex(),
    }


def _describe_image(image: Header | Entry) -> Fields:
    from nvae_codec.container.header import METHOD_NAMES

    size = {"width": image.width, "height": image.height}
    return size | {"mode": image.colour.mode, "bits": image.colour.bits, "method": METHOD_NAMES[image.kind]}


def describe_archive(archive: Archive) -> Fields:
    """The fields of ``list --json``. bytes of an image: its segment's, shared in proportion to dims."""
    from nvae_codec.container.header import VERSION

    rows = []
    for number, segment in enumerate(archive.segments, 1):
        segment_dims = sum(entry.dims for entry in segment.entries)
        rows += [
            {
                "name": entry.name,
                **_describe_image(entry),
                "segment": number,
                "bytes": round(segment.length * entry.dims / segment_dims),
                "bits_per_dim": round(8 * segment.length / segment_dims, 6),
            }
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
        "bytes_per_image": round(archive.file_bytes / len(rows)) if rows else None,
        "bits_per_dim": round(8 * archive.file_bytes / dims, 6) if dims else None,
        "images": rows,
    }


def summarize_archive(archive: Archive) -> Fields:
    """The fields of ``info --json`` for an archive: how many images and segments there are, not which."""
    described = describe_archive(archive)
    return described | {"images": len(described["images"]), "segments": len(described["segments"])}


def describe_model(info: ModelInfo, *, default: bool) -> Fields:
    """A row of ``models --json``."""
    return {
        "name": info.name,
        "id": info.id,
        "identity": info.identity.hex(),
        "default": default,
        "bytes": info.path.stat().st_size,
        "path": str(info.path),
        "card": summarize_card(info.path.parent),
    }


def name_model(model_id: bytes) -> str | None:
    """The name of the model of that identity, if it is installed."""
    from nvae_codec.errors import UnknownModelError
    from nvae_codec.zoo.library import find_by_identity

    try:
        return find_by_identity(model_id).name
    except UnknownModelError:
        return None


def show_model(model: Fields | None) -> str:
    """``photo (eb11e1e2)``."""
    return "" if model is None else f"{model['name'] or 'not installed'} ({model['id']})"


def summarize_card(folder: Path) -> str:
    """The first sentence of a model's card (README.md at Hugging Face), up to a colon, or its title without any."""
    card = next((folder / name for name in ("card.md", "README.md") if (folder / name).is_file()), None)
    text = card.read_text(encoding="utf-8") if card is not None else ""
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n") if paragraph.strip()]
    sentences = [paragraph for paragraph in paragraphs if not paragraph.startswith("#")]
    return re.split(r"[:.](?: |$)", (sentences or paragraphs or [""])[0].lstrip("# "))[0]


def format_table(heads: Sequence[str], rows: Sequence[Sequence[object]], left: Sequence[str] = ()) -> str:
    """Columns with heads, those named ``left`` aligned there and the last one not padded; integers with commas."""
    cells = [list(heads), *([f"{c:,}" if isinstance(c, int) else str(c) for c in row] for row in rows)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(heads))]
    lines = []
    for row in cells:
        padded = [
            cell.ljust(width) if head in left else cell.rjust(width)
            for head, cell, width in zip(heads, row, widths, strict=True)
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)
