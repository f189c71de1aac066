"""nvae-codec merge: the shards that pack --shard made into one archive."""

from __future__ import annotations

from pathlib import Path

import click

from nvae_codec.errors import NvaeCodecError

from .files import open_beside
from .options import how_to_report
from .report import print_line, show_progress

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("merge")
@click.argument("shards", nargs=-1, required=True, metavar="SHARD...", type=FILE)
@click.option("-o", "output", required=True, metavar="FILE", type=click.Path(path_type=Path), help="The archive.")
@click.option("-f", "--force", is_flag=True, help="Overwrite FILE.")
@how_to_report
def merge_command(shards: tuple[Path, ...], output: Path, force: bool, quiet: bool, verbose: bool) -> int:
    """Make one archive of the shards of pack --shard, in any order: the bytes that pack alone would have made.

    All of them must be there, each once. Nothing is decoded.
    """
    from nvae_codec.container.shards import merge_shards

    if output.is_dir() or (output.exists() and not force):
        reason = "it is a folder" if output.is_dir() else "it exists already (-f overwrites it)"
        raise NvaeCodecError(f"{output}: {reason}")
    size = sum(shard.stat().st_size for shard in shards)
    bar = show_progress(f"{len(shards)} shards", size, quiet=quiet)
    with bar as advance, open_beside(output) as out:
        pictures = merge_shards(shards, out, advance)
        size = out.tell()
    if verbose:
        print_line(f"{output}: {pictures} pictures, {size:,} bytes")
    return 0
