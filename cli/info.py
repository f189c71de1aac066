"""nvae-codec info: what is in files."""

import json
from typing import Any

import click

from .describe import Fields, describe_file, format_table, show_model, summarize_archive
from .files import Job, find_jobs, read_source
from .options import ANY_PATH, reporting_options
from .report import Outcome, Reporter, echo, run_jobs

HEADS = ("images", "size", "colour", "method", "model", "bytes", "bytes/image", "bits/dim", "file")
LEFT = ("colour", "method", "model", "file")


@click.command("info")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=ANY_PATH)
@click.option("--json", "as_json", is_flag=True, help="A JSON object, or a list of them for several files.")
@reporting_options
def info_command(files: tuple[str, ...], as_json: bool, report: Reporter) -> int:
    """Say what is in .nvae files, without decoding them.

    FILE is a file, a folder of them, or - for stdin. The file's own checksum is verified; `nvae-codec test` verifies
    the pixels too.
    """
    found: list[Fields] = []
    plan = find_jobs(files, (".nvae",))
    jobs = plan.jobs
    report.leave(plan.left)

    def describe(job: Job) -> Outcome:
        found.append(describe_job(job))
        if len(jobs) == 1:  # here, so that a stdout that takes nothing is an error of this file
            echo(json.dumps(found[0], indent=2) if as_json else format_fields(found[0]))
        return Outcome("described", images=0)

    code = run_jobs(jobs, describe, report)
    if len(jobs) > 1:
        echo(json.dumps(found, indent=2) if as_json else format_table(HEADS, [row_of(each) for each in found], LEFT))
    return code


def describe_job(job: Job) -> Fields:
    """The fields of ``info --json`` for a file or an archive."""
    from nvae_codec import open_archive
    from nvae_codec.container.archive.reader import is_archive_file

    if job.source is not None and is_archive_file(job.source):
        return summarize_archive(open_archive(job.source))
    return describe_file(job.name, read_source(job).data)


def format_fields(described: Fields) -> str:
    """A line per field."""
    return "\n".join(f"{name.replace('_', ' '):<18}{_format(value)}" for name, value in described.items())


def row_of(described: Fields) -> list[Any]:
    """A row of the table of several files."""
    single = "width" in described
    size = f"{described['width']}x{described['height']}" if single else ""
    colour = f"{described['bits']}-bit {described['mode']}" if single else ""
    method = described["method"] if single else "archive"
    numbers = [described["file_bytes"], described["bytes_per_image"] or 0, f"{described['bits_per_dim'] or 0:.3f}"]
    return [described["images"], size, colour, method, show_model(described["model"]), *numbers, described["file"]]


def _format(value: Any) -> str:
    if isinstance(value, dict) and "id" in value:
        return show_model(value)
    if isinstance(value, dict):
        return ", ".join(f"{count} {name}" for name, count in value.items() if count) or "none"
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
