"""nvae-codec decompress: .nvae files back into PNGs."""

from pathlib import Path

import click

from nvae_codec.files import Snapshot, remove_unchanged
from nvae_codec.runtime import Runtime

from . import options
from .files import Job, check_target, plan_jobs, read_source, remove_source, write_target
from .report import Outcome, Reporter, run_jobs
from .unpack import Unpacking, unpack_to_folder


@click.command("decompress")
@click.argument("inputs", nargs=-1, required=True, metavar="FILE...", type=options.ANY_PATH)
@options.destination_option("FILE")
@options.foreign_model_option
@options.runtime_options
@options.pixel_limit_option
@options.remove_option
@options.force_option
@options.reporting_options
def decompress_command(
    inputs: tuple[str, ...],
    output: str | None,
    model: str | None,
    runtime: Runtime,
    remove: bool,
    force: bool,
    report: Reporter,
) -> int:
    """Restore images as PNGs: photo.nvae to photo.png.

    FILE is an .nvae file, a folder of them, or - for stdin. Each image is verified by its checksum and written next to
    its file, or to OUT, which is required for folders. Sources are kept. An archive becomes a folder.
    """
    from nvae_codec.container.archive.reader import Archive, is_archive_file
    from nvae_codec.container.image import read_file
    from nvae_codec.errors import NvaeCodecError
    from nvae_codec.images.raster import same_image
    from nvae_codec.images.read import read_image
    from nvae_codec.images.write import write_png
    from nvae_codec.zoo.library import Models

    plan = plan_jobs(inputs, output, name_restored, (".nvae",), others=False)
    to_stdout = any(job.target is None and not job.problem for job in plan.jobs)
    if remove and to_stdout:
        raise click.UsageError("--rm needs a file to write to, not stdout")
    models = Models(model, runtime)

    def decompress(job: Job) -> Outcome:
        if job.source is not None and is_archive_file(job.source):
            return unpack(job, job.source)
        check_target(job, force=force)
        read = read_source(job)
        image = read_file(read.data, models)
        result = write_png(image)
        if remove and not same_image(image, read_image(result)):
            raise NvaeCodecError("the PNG does not hold the same image; nothing was written")
        write_target(job, result, force=force, like=read.snapshot, inputs=plan.inputs)
        if remove:
            remove_source(job, read)
        text = f"{len(read.data):,} -> {len(result):,} bytes, {image.width}x{image.height} {image.colour.mode}"
        return Outcome(text, 1, image.width * image.height, len(read.data), len(result))

    def unpack(job: Job, source: Path) -> Outcome:
        if job.target is None:
            raise NvaeCodecError("an archive of images does not go to stdout: nvae-codec unpack restores them")
        before = Snapshot.of(source.stat())
        archive = Archive(source, models)
        named = output is not None and not job.in_folder
        folder = job.target if named else job.target.with_suffix("")
        unpacking = Unpacking(archive, models, set(archive.names), report, force=force)
        if not unpack_to_folder(unpacking, folder):
            raise NvaeCodecError("not everything in it could be restored")
        if remove:
            remove_unchanged(source, before)
        return Outcome(f"{len(archive)} images", images=0)  # its segments were counted

    report.leave(plan.left)
    return run_jobs(plan.jobs, decompress, report, to_stdout=to_stdout)


def name_restored(path: Path) -> str:
    """photo.nvae and photo.png.nvae to photo.png, or to photo.jpg if it holds a JPEG's own bytes.

    A name without .nvae keeps all of it.
    """
    from nvae_codec.container.image import find_restored_suffix
    from nvae_codec.images.find import SAME_SUFFIXES

    name = path.name.removesuffix(".nvae")
    try:
        with path.open("rb") as file:
            suffix = find_restored_suffix(file.read(256))
    except OSError:  # what is wrong is said when it is read
        suffix = ".png"
    suffixes = SAME_SUFFIXES.get(suffix, (suffix,))
    return name if name != path.name and name.lower().endswith(suffixes) else name + suffix
