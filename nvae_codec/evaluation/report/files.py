"""Reports of shards, made apart from each other, as one: its numbers are those of an evaluation in one go."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nvae_codec.container.archive.index import Shard
from nvae_codec.container.archive.shards import sort_shards
from nvae_codec.errors import NvaeCodecError
from nvae_codec.evaluation.images import FORMAT, sum_rows


@dataclass(frozen=True)
class Report:
    """The JSON of ``nvae-codec evaluate``, and of what it is."""

    identity: bytes
    shard: Shard | None
    machine: Any
    rows: list[dict[str, Any]]
    content: dict[str, Any]


def read_report(path: Path) -> Report:
    """Raises NvaeCodecError for what is no report; OSError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError
        part = content.get("shard")
        shard = part and Shard(int(part["number"]), int(part["count"]), bytes.fromhex(part["whole"]))
        identity = bytes.fromhex(content["model"]["identity"])
        return Report(identity, shard, content["machine"], list(content["images"]), content)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise NvaeCodecError(f"{path}: it is no report of nvae-codec evaluate") from None


def merge_reports(paths: Sequence[Path]) -> dict[str, Any]:
    """The report that these shards are the parts of, in any order; its machine is null where they have several.

    Raises NvaeCodecError where it is not all shards of one evaluation, each once, or where they have no image, and
    OSError.
    """
    reports = [report for _, report in sort_shards([(path, read_report(path)) for path in paths])]
    rows = [row for report in reports for row in report.rows]
    if not rows:
        raise NvaeCodecError("there is no image in any of the shards")
    machine = reports[0].machine
    one = all(report.machine == machine for report in reports)
    return reports[0].content | {
        "shard": None,
        "machine": machine if one else None,
        "total": sum_rows(rows),
        "images": rows,
    }
