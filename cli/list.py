"""nvae-codec list: the images of archives."""

import json
from pathlib import Path

import click

from .describe import Fields, describe_archive, format_table
from .options import EXISTING_FILE, reporting_options
from .report import Problem, Reporter, echo

HEADS = ("size", "colour", "method", "segment", "bytes", "bits/dim", "name")


@click.command("list")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=EXISTING_FILE)
@click.option("--json", "as_json", is_flag=True, help="A JSON object, or a list of them for several files.")
@reporting_options
def list_command(files: tuple[Path, ...], as_json: bool, report: Reporter) -> int:
    """List the images of archives, without decoding them.

    Images of a segment are coded together: the bytes of each are the segment's, shared in proportion to its samples.
    """
    from nvae_codec import open_archive

    found: list[Fields] = []
    for file in files:
        try:
            found.append(describe_archive(open_archive(file)))
        except Exception as error:
            report.fail(Problem.of(str(file), error))
    if as_json:
        if found:
            echo(json.dumps(found[0] if len(files) == 1 else found, indent=1))
        return report.exit_code
    for at, archive in enumerate(found):
        if len(files) > 1:
            echo(f"{chr(10) if at else ''}{archive['file']}: {len(archive['images'])} images")
        echo(format_images(archive))
    return report.exit_code


def format_images(archive: Fields) -> str:
    """A row per image, with heads."""
    rows = []
    for row in archive["images"]:
        size, colour = f"{row['width']}x{row['height']}", f"{row['bits']}-bit {row['mode']}"
        rate = f"{row['bits_per_dim']:.3f}"
        rows.append([size, colour, row["method"], row["segment"], row["bytes"], rate, row["name"]])
    return format_table(HEADS, rows, left=("colour", "method", "name"))
