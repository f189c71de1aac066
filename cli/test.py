"""nvae-codec test: decode and check, write nothing."""

from pathlib import Path

import click

from nvae_codec.runtime import Runtime

from . import options
from .files import Job, find_jobs, read_source
from .report import Outcome, Reporter, echo, run_jobs
from .unpack import Unpacking, check_segments


@click.command("test")
@click.argument("inputs", nargs=-1, required=True, metavar="FILE...", type=options.ANY_PATH)
@options.foreign_model_option
@options.runtime_options
@options.pixel_limit_option
@options.workers_option
@options.reporting_options
def test_command(inputs: tuple[str, ...], model: str | None, runtime: Runtime, workers: int, report: Reporter) -> int:
    """Decode .nvae files and compare what comes out with their checksums, writing nothing.

    FILE is an .nvae file, a folder of them, or - for stdin. In an archive, every damaged segment is reported.
    """
    from nvae_codec.container.archive.reader import Archive, is_archive_file
    from nvae_codec.container.image import read_file
    from nvae_codec.errors import NvaeCodecError
    from nvae_codec.zoo.library import Models

    models = Models(model, options.share_threads(runtime, workers))

    def check(job: Job) -> Outcome:
        if job.source is not None and is_archive_file(job.source):
            return check_archive(job, job.source)
        data = read_source(job).data
        image = read_file(data, models)
        if not report.quiet:
            echo(" ".join(f"{job.name}: ok".split()))
        text = f"{image.width}x{image.height} {image.colour.mode}"
        return Outcome(text, 1, image.width * image.height, len(data))

    def check_archive(job: Job, source: Path) -> Outcome:
        archive = Archive(source, models)
        unpacking = Unpacking(archive, models, set(archive.names), report, workers)
        damaged = sum(bool(done.problems) for done in check_segments(unpacking))
        if damaged:
            raise NvaeCodecError(f"{damaged} of {len(archive.segments)} segments are damaged")
        if not report.quiet:
            echo(" ".join(f"{job.name}: ok".split()))
        text = f"{len(archive)} images in {len(archive.segments)} segments"
        return Outcome(text, images=0)  # they were counted segment by segment

    plan = find_jobs(inputs, (".nvae",))
    report.leave(plan.left)
    return run_jobs(plan.jobs, check, report)
