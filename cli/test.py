"""nvae-codec test: decode and check, write nothing."""

from __future__ import annotations

import click

from .files import Job, find_files, read_source
from .options import how_to_evaluate, how_to_report
from .report import run_jobs


@click.command("test")
@click.argument("inputs", nargs=-1, required=True, metavar="FILE...")
@click.option("--model", metavar="NAME|PATH", help="A model that is not installed, if FILE was made by it.")
@how_to_evaluate
@how_to_report
def test_command(
    inputs: tuple[str, ...],
    model: str | None,
    device: str,
    threads: int | None,
    batch_tiles: int | None,
    quiet: bool,
    verbose: bool,
) -> int:
    """Decode .nvae files and compare what comes out with their checksums, writing nothing.

    FILE is an .nvae file, a folder of them, or - for stdin.
    """
    from nvae_codec.container.image import read_file
    from nvae_codec.model_library import Models

    models = Models(model, device=device, threads=threads, batch_tiles=batch_tiles)

    def check(job: Job) -> str:
        picture = read_file(read_source(job), models)
        if not quiet:
            click.echo(f"{job.name}: ok")
        return f"{job.name}: {picture.width}x{picture.height} {picture.colour.mode}"

    jobs = [job for name in inputs for job in find_files(name, (".nvae",))]
    return run_jobs(jobs, check, quiet=True, verbose=verbose)  # its lines are the progress
