"""nvae-codec compress: images into .nvae files."""

from __future__ import annotations

from pathlib import Path

import click

from .files import Job, check_target, plan_jobs, read_source, write_target
from .options import (
    ANY_PATH,
    ModelName,
    how_many_pixels,
    how_much_metadata,
    how_to_evaluate,
    how_to_report,
    how_to_write,
)
from .report import run_jobs

SUFFIX = ".nvae"


@click.command("compress")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...", type=ANY_PATH)
@click.option(
    "-o",
    "output",
    type=ANY_PATH,
    metavar="OUT",
    help="File or folder to write to, - for stdout.  [default: beside INPUT]",
)
@click.option("--model", type=ModelName(), help="Model to compress with.  [default: photo]")
@click.option(
    "--method",
    type=click.Choice(["auto", "model", "webp", "stored"]),
    default="auto",
    show_default=True,
    help="auto: the smallest. model: RGB and gray. webp: at most 8 bits a sample. stored: a PNG's own bytes.",
)
@how_much_metadata
@how_to_evaluate
@how_many_pixels
@click.option("--verify", is_flag=True, help="Decode each result and compare before it is written.")
@how_to_write
@how_to_report
def compress_command(
    inputs: tuple[str, ...],
    output: str | None,
    model: str | None,
    method: str,
    metadata: str,
    device: str,
    threads: int | None,
    batch_tiles: int | None,
    verify: bool,
    remove: bool,
    force: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Compress images without loss: photo.png to photo.nvae.

    INPUT is a PNG (any kind), or a PPM, BMP, TIFF, WebP or JPEG file, whose decoded pixels count; a folder of them;
    or - for stdin. Several inputs, or a folder, need a folder as OUT. Sources are kept.
    """
    from nvae_codec.container.header import MAGIC
    from nvae_codec.container.image import read_file
    from nvae_codec.container.methods import write_file
    from nvae_codec.errors import NvaeCodecError, UnsupportedImageError
    from nvae_codec.images.metadata import keep_metadata
    from nvae_codec.images.raster import same_image
    from nvae_codec.images.read import SUFFIXES, read_image
    from nvae_codec.zoo.library import Models

    jobs = plan_jobs(inputs, output, lambda name: name_compressed(name, SUFFIXES), SUFFIXES)
    if remove and any(job.target is None and not job.problem for job in jobs):
        raise click.UsageError("--rm needs a file to write to, not stdout")
    models = Models(model, device=device, threads=threads, batch_tiles=batch_tiles)

    def compress(job: Job) -> str:
        check_target(job, force=force)
        data = read_source(job)
        if data.startswith(MAGIC):
            raise UnsupportedImageError("it is compressed already")
        image = keep_metadata(read_image(data), metadata)
        result = write_file(image, method, models)
        if (verify or remove) and not same_image(image, read_file(result, models)):
            raise NvaeCodecError("the result does not decode to the same image; nothing was written")
        write_target(job, result, force=force)
        if remove and job.source is not None:
            job.source.unlink()
        bits = 8 * len(result) / image.dims
        return f"{job.name}: {len(data):,} -> {len(result):,} bytes, {bits:.3f} bits/dim"

    return run_jobs(jobs, compress, quiet=quiet, verbose=verbose)


def name_compressed(name: str, suffixes: frozenset[str]) -> str:
    """photo.png to photo.nvae; a name without an image's suffix keeps all of it."""
    path = Path(name)
    return path.stem + SUFFIX if path.suffix.lower() in suffixes else name + SUFFIX
