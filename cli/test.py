"""nvae-codec test: decode and check, write nothing."""

from __future__ import annotations

from pathlib import Path

import click

from .files import Job, find_files, read_source
from .options import ANY_PATH, ModelName, how_many_pixels, how_many_workers, how_to_evaluate, how_to_report
from .report import run_jobs
from .unpack import check_segments


@click.command("test")
@click.argument("inputs", nargs=-1, required=True, metavar="FILE...", type=ANY_PATH)
@click.option("--model", type=ModelName(), help="A model that is not installed, if FILE was made by it.")
@how_to_evaluate
@how_many_pixels
@how_many_workers
@how_to_report
def test_command(
    inputs: tuple[str, ...],
    model: str | None,
    device: str,
    threads: int | None,
    batch_tiles: int | None,
    workers: int,
    quiet: bool,
    verbose: bool,
) -> int:
    """Decode .nvae files and compare what comes out with their checksums, writing nothing.

    FILE is an .nvae file, a folder of them, or - for stdin. Of an archive every damaged segment is named.
    """
    from nvae_codec.container.archive.reader import Archive, is_archive_file
    from nvae_codec.container.image import read_file
    from nvae_codec.errors import NvaeCodecError
    from nvae_codec.zoo.library import Models

    models = Models(model, device=device, threads=threads or (1 if workers > 1 else None), batch_tiles=batch_tiles)

    def check(job: Job) -> str:
        if job.source is not None and is_archive_file(job.source):
            return check_archive(job, job.source)
        image = read_file(read_source(job), models)
        if not quiet:
            click.echo(f"{job.name}: ok")
        return f"{job.name}: {image.width}x{image.height} {image.colour.mode}"

    def check_archive(job: Job, source: Path) -> str:
        archive = Archive(source, models)
        damaged = 0
        for done in check_segments(archive, models, workers=workers):
            damaged += bool(done.problems)
        if damaged:
            raise NvaeCodecError(f"{damaged} of {len(archive.segments)} segments are damaged")
        if not quiet:
            click.echo(f"{job.name}: ok")
        return f"{job.name}: {len(archive)} images in {len(archive.segments)} segments"

    jobs = [job for name in inputs for job in find_files(name, (".nvae",))]
    return run_jobs(jobs, check, quiet=True, verbose=verbose)  # its lines are the progress
