"""nvae-codec merge: one archive or report of the shards that pack or evaluate --shard made."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

import click

from nvae_codec.files import Inputs, check_absent, open_atomic, shared_mode

from .files import hold
from .options import EXISTING_FILE, force_option, output_option, reporting_options
from .report import Outcome, Reporter

Opened = AbstractContextManager[BinaryIO]


@click.command("merge")
@click.argument("shards", nargs=-1, required=True, metavar="SHARD...", type=EXISTING_FILE)
@output_option("archive or report")
@force_option
@reporting_options
def merge_command(shards: tuple[Path, ...], output: Path, force: bool, report: Reporter) -> int:
    """Merge the shards of pack --shard, in any order, into the archive that pack without --shard makes.

    All shards must be given, each once. Nothing is decoded. The .json reports of evaluate --shard are merged into the
    report that evaluate makes without --shard.
    """
    check_absent(output, force=force)
    own = Inputs(shards)
    own.refuse(output)
    if force:
        click.get_current_context().with_resource(hold(output))  # until the command ends
    opened = open_atomic(output, force=force, mask=shared_mode(shards), inputs=own)
    if all(shard.suffix == ".json" for shard in shards):
        images, size = write_report(shards, opened)
    else:
        images, size = write_archive(shards, opened, report)
    report.count(str(output), Outcome(f"{images} images, {size:,} bytes", images, bytes_out=size))
    return report.finish()


def write_archive(shards: tuple[Path, ...], opened: Opened, report: Reporter) -> tuple[int, int]:
    """How many images the archive has, and bytes."""
    from nvae_codec.container.archive.shards import merge_shards

    size = sum(shard.stat().st_size for shard in shards)
    with report.progress(f"{len(shards)} shards", size) as bar, opened as out:
        images = merge_shards(shards, out, bar.advance)
        return images, out.tell()


def write_report(shards: tuple[Path, ...], opened: Opened) -> tuple[int, int]:
    """How many images the report has, and bytes."""
    import json

    from nvae_codec.evaluation.report.files import merge_reports

    result = merge_reports(shards)
    with opened as out:
        out.write((json.dumps(result, indent=1) + "\n").encode())
        return len(result["images"]), out.tell()
