"""nvae-codec compress: images to .nvae files."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

from nvae_codec.runtime import Runtime

from .describe import describe_file, show_model
from .files import Job, check_target, plan_jobs, read_source, remove_source, write_target
from .options import (
    ANY_PATH,
    ModelName,
    force_option,
    metadata_option,
    method_option,
    pixel_limit_option,
    remove_option,
    reporting_options,
    runtime_options,
)
from .report import Outcome, Reporter, run_jobs

SUFFIX = ".nvae"


@click.command("compress")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...", type=ANY_PATH)
@click.option(
    "-o",
    "output",
    type=ANY_PATH,
    metavar="OUT",
    help="File or folder to write to, - for stdout.  [default: next to INPUT]",
)
@click.option("--model", type=ModelName(), help="Model to compress with.  [default: photo]")
@method_option
@metadata_option
@runtime_options
@pixel_limit_option
@click.option("--verify", is_flag=True, help="Decode each result and compare before it is written.")
@remove_option
@force_option
@reporting_options
def compress_command(
    inputs: tuple[str, ...],
    output: str | None,
    model: str | None,
    method: str,
    metadata: str,
    runtime: Runtime,
    verify: bool,
    remove: bool,
    force: bool,
    report: Reporter,
) -> int:
    """Compress images without loss: photo.png to photo.nvae.

    INPUT is a PNG (any kind), or a PPM, BMP, TIFF, WebP or JPEG file, whose decoded pixels count; a folder of them;
    or - for stdin. Each file is written next to its source, or to OUT, which a folder as INPUT needs. Sources are kept.
    """
    from nvae_codec.container.header import MAGIC
    from nvae_codec.container.image import read_file
    from nvae_codec.container.methods import write_file
    from nvae_codec.errors import NvaeCodecError, UnsupportedImageError
    from nvae_codec.images.find import SUFFIXES
    from nvae_codec.images.metadata import keep_metadata
    from nvae_codec.images.raster import same_image
    from nvae_codec.images.read import read_image
    from nvae_codec.zoo.library import Models

    plan = plan_jobs(inputs, output, lambda path: name_compressed(path.name, SUFFIXES), SUFFIXES)
    to_stdout = any(job.target is None and not job.problem for job in plan.jobs)
    if remove and to_stdout:
        raise click.UsageError("--rm needs a file to write to, not stdout")
    models = Models(model, runtime)
    given = click.get_current_context().get_parameter_source("method") is not ParameterSource.DEFAULT

    def compress(job: Job) -> Outcome:
        check_target(job, force=force)
        source = read_source(job)
        data = source.data
        if data.startswith(MAGIC):
            raise UnsupportedImageError("it is compressed already")
        image = keep_metadata(read_image(data), metadata)
        result = write_file(image, method, models)
        if (verify or remove) and not same_image(image, read_file(result, models)):
            raise NvaeCodecError("the result does not decode to the same image; nothing was written")
        write_target(job, result, force=force, like=source.snapshot, inputs=plan.inputs)
        if remove:
            remove_source(job, source)
        made = describe_file(job.name, result)
        if model is not None and not given and made["model"] is None:
            report.warn(f"kept as {made['method']}, not with the model, which --method model asks for", job.name)
        how = f"{made['method']} {show_model(made['model'])}".rstrip()
        text = f"{len(data):,} -> {len(result):,} bytes, {made['bits_per_dim']:.3f} bits/dim, {how}"
        return Outcome(text, 1, image.width * image.height, len(data), len(result))

    report.leave(plan.left)
    return run_jobs(plan.jobs, compress, report, to_stdout=to_stdout)


def name_compressed(name: str, suffixes: frozenset[str]) -> str:
    """photo.png to photo.nvae; a name without an image's suffix keeps all of it."""
    path = Path(name)
    return path.stem + SUFFIX if path.suffix.lower() in suffixes else name + SUFFIX
