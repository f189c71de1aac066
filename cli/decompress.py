"""nvae-codec decompress: .nvae files back into PNGs."""

from __future__ import annotations

from pathlib import Path

import click

from .files import Job, check_target, plan_jobs, read_source, write_target
from .options import ANY_PATH, ModelName, how_many_pixels, how_to_evaluate, how_to_report, how_to_write
from .report import run_jobs
from .unpack import unpack_to_folder


@click.command("decompress")
@click.argument("inputs", nargs=-1, required=True, metavar="FILE...", type=ANY_PATH)
@click.option(
    "-o",
    "output",
    type=ANY_PATH,
    metavar="OUT",
    help="File or folder to write to, - for stdout.  [default: beside FILE]",
)
@click.option("--model", type=ModelName(), help="A model that is not installed, if FILE was made by it.")
@how_to_evaluate
@how_many_pixels
@how_to_write
@how_to_report
def decompress_command(
    inputs: tuple[str, ...],
    output: str | None,
    model: str | None,
    device: str,
    threads: int | None,
    batch_tiles: int | None,
    remove: bool,
    force: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Restore images as PNGs: photo.nvae to photo.png.

    FILE is an .nvae file, a folder of them, or - for stdin. Several files, or a folder, need a folder as OUT. Every
    image is checked against its checksum before it is written. Sources are kept. An archive becomes a folder.
    """
    from nvae_codec.container.archive.reader import Archive, is_archive_file
    from nvae_codec.container.image import read_file
    from nvae_codec.errors import NvaeCodecError
    from nvae_codec.images.raster import same_image
    from nvae_codec.images.read import read_image
    from nvae_codec.images.write import write_png
    from nvae_codec.zoo.library import Models

    jobs = plan_jobs(inputs, output, name_restored, (".nvae",))
    if remove and any(job.target is None and not job.problem for job in jobs):
        raise click.UsageError("--rm needs a file to write to, not stdout")
    models = Models(model, device=device, threads=threads, batch_tiles=batch_tiles)

    def decompress(job: Job) -> str:
        if job.source is not None and is_archive_file(job.source):
            return unpack(job, job.source)
        check_target(job, force=force)
        data = read_source(job)
        image = read_file(data, models)
        result = write_png(image)
        if remove and not same_image(image, read_image(result)):
            raise NvaeCodecError("the PNG does not hold the same image; nothing was written")
        write_target(job, result, force=force)
        if remove and job.source is not None:
            job.source.unlink()
        return f"{job.name}: {len(data):,} -> {len(result):,} bytes"

    def unpack(job: Job, source: Path) -> str:
        if job.target is None:
            raise NvaeCodecError("an archive of images does not go to stdout: nvae-codec unpack restores them")
        archive = Archive(source, models)
        named = output is not None and not job.in_folder
        folder = job.target if named else job.target.with_suffix("")
        every = set(archive.names)
        if not unpack_to_folder(archive, models, folder, every, workers=1, force=force, quiet=quiet):
            raise NvaeCodecError("not everything in it could be restored")
        if remove:
            source.unlink()
        return f"{job.name}: {len(archive)} images"

    return run_jobs(jobs, decompress, quiet=quiet, verbose=verbose)


def name_restored(name: str) -> str:
    """photo.nvae to photo.png; a name without .nvae keeps all of it."""
    return name.removesuffix(".nvae") + ".png"
