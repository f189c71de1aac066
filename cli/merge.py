"""nvae-codec merge: one archive or report of the shards that pack or evaluate --shard made."""

from __future__ import annotations

from pathlib import Path

import click

from nvae_codec.errors import NvaeCodecError

from .files import open_beside
from .options import EXISTING_FILE, force_option, output_option, reporting_options
from .report import Outcome, Reporter


@click.command("merge")
@click.argument("shards", nargs=-1, required=True, metavar="SHARD...", type=EXISTING_FILE)
@output_option("archive or report")
@force_option
@reporting_options
def merge_command(shards: tuple[Path, ...], output: Path, force: bool, report: Reporter) -> int:
    """Merge the shards of pack --shard, in any order, to the archive that pack alone would have made.

    All shards must be given, each once. Nothing is decoded. The .json reports of evaluate --shard are merged to one
    report, with the numbers that evaluate alone would have given.
    """
    if output.is_dir() or (output.exists() and not force):
        reason = "it is a folder" if output.is_dir() else "it exists already (-f overwrites it)"
        raise NvaeCodecError(f"{output}: {reason}")
    if all(shard.suffix == ".json" for shard in shards):
        images, size = write_report(shards, output)
    else:
        images, size = write_archive(shards, output, report)
    report.count(str(output), Outcome(f"{images} images, {size:,} bytes", images, bytes_out=size))
    return report.finish()


def write_archive(shards: tuple[Path, ...], output: Path, report: Reporter) -> tuple[int, int]:
    """How many images the archive has, and bytes."""
    from nvae_codec.container.archive.shards import merge_shards

    size = sum(shard.stat().st_size for shard in shards)
    with report.progress(f"{len(shards)} shards", size) as bar, open_beside(output) as out:
        images = merge_shards(shards, out, bar.advance)
        return images, out.tell()


def write_report(shards: tuple[Path, ...], output: Path) -> tuple[int, int]:
    """How many images the report has, and bytes."""
    import json

    from nvae_codec.evaluation.report.files import merge_reports

    result = merge_reports(shards)
    with open_beside(output) as out:
        out.write((json.dumps(result, indent=1) + "\n").encode())
        return len(result["images"]), out.tell()
