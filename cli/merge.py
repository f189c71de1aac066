"""nvae-codec merge: the shards that pack or evaluate --shard made into one archive or report."""

from __future__ import annotations

from pathlib import Path

import click

from nvae_codec.errors import NvaeCodecError

from .files import open_beside
from .options import how_to_report, where_it_goes
from .report import print_line, show_progress

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("merge")
@click.argument("shards", nargs=-1, required=True, metavar="SHARD...", type=FILE)
@where_it_goes("archive or report")
@click.option("-f", "--force", is_flag=True, help="Overwrite FILE.")
@how_to_report
def merge_command(shards: tuple[Path, ...], output: Path, force: bool, quiet: bool, verbose: bool) -> int:
    """Make one archive of the shards of pack --shard, in any order: the bytes that pack alone would have made.

    All of them must be there, each once. Nothing is decoded. Of the .json reports of evaluate --shard it makes one,
    with the numbers that evaluate alone would have given.
    """
    if output.is_dir() or (output.exists() and not force):
        reason = "it is a folder" if output.is_dir() else "it exists already (-f overwrites it)"
        raise NvaeCodecError(f"{output}: {reason}")
    if all(shard.suffix == ".json" for shard in shards):
        images, size = write_report(shards, output)
    else:
        images, size = write_archive(shards, output, quiet=quiet)
    if verbose:
        print_line(f"{output}: {images} images, {size:,} bytes")
    return 0


def write_archive(shards: tuple[Path, ...], output: Path, *, quiet: bool) -> tuple[int, int]:
    """How many images the archive has, and bytes."""
    from nvae_codec.container.archive.shards import merge_shards

    size = sum(shard.stat().st_size for shard in shards)
    bar = show_progress(f"{len(shards)} shards", size, quiet=quiet)
    with bar as advance, open_beside(output) as out:
        images = merge_shards(shards, out, advance)
        return images, out.tell()


def write_report(shards: tuple[Path, ...], output: Path) -> tuple[int, int]:
    """How many images the report has, and bytes."""
    import json

    from nvae_codec.evaluation.report.files import merge_reports

    result = merge_reports(shards)
    with open_beside(output) as out:
        out.write((json.dumps(result, indent=1) + "\n").encode())
        return len(result["images"]), out.tell()
