"""nvae-codec compress: images to .nvae files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from nvae_codec.errors import NvaeCodecError, UnsupportedImageError
from nvae_codec.files import Inputs
from nvae_codec.images.find import SUFFIXES
from nvae_codec.runtime import Runtime

from . import options
from .describe import describe_file, show_model
from .files import Job, Source, check_target, plan_jobs, read_source, remove_source, write_target
from .report import AS_PIXELS, Outcome, Reporter, run_jobs

if TYPE_CHECKING:
    from nvae_codec.images.raster import RasterImage
    from nvae_codec.zoo.library import Models

SUFFIX = ".nvae"


@click.command("compress")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...", type=options.ANY_PATH)
@options.destination_option("INPUT")
@click.option("--model", type=options.ModelName(), help="Model to compress with.  [default: photo]")
@options.method_option
@options.effort_option
@options.metadata_option
@options.runtime_options
@options.pixel_limit_option
@click.option("--verify", is_flag=True, help="Decode each result and compare before it is written.")
@options.remove_option
@options.force_option
@options.reporting_options
def compress_command(
    inputs: tuple[str, ...],
    output: str | None,
    model: str | None,
    method: str,
    effort: int,
    metadata: str,
    runtime: Runtime,
    verify: bool,
    remove: bool,
    force: bool,
    report: Reporter,
) -> int:
    """Compress images without loss: photo.png to photo.nvae.

    INPUT is a PNG, JPEG, WebP, TIFF, BMP, PPM, PGM, PBM or PAM file, a folder of them, or - for stdin. A JPEG or WebP
    that is smaller than lossless coding of its pixels is kept and restored as the same file. Each file is written next
    to its source, or to OUT, which is required for folders. Sources are kept.
    """
    from nvae_codec.zoo.library import Models

    plan = plan_jobs(inputs, output, lambda path: name_compressed(path.name, SUFFIXES), SUFFIXES)
    to_stdout = any(job.target is None and not job.problem for job in plan.jobs)
    if remove and to_stdout:
        raise click.UsageError("--rm needs a file to write to, not stdout")
    given = click.get_current_context().get_parameter_source("method") is not ParameterSource.DEFAULT
    warned = model is not None and not given
    work = Compression(
        method, effort, metadata, Models(model, runtime), plan.inputs, report, verify, remove, force, warned
    )
    report.leave(plan.left)
    return run_jobs(plan.jobs, work.run, report, to_stdout=to_stdout)


@dataclass(frozen=True)
class Compression:
    """How the images of a command are compressed."""

    method: str
    effort: int
    metadata: str
    models: Models
    inputs: Inputs
    report: Reporter
    verify: bool
    remove: bool
    force: bool
    expects_model: bool  # a model was chosen, and no method

    def run(self, job: Job) -> Outcome:
        """Compress one image."""
        from nvae_codec.container.header import MAGIC
        from nvae_codec.container.image import read_file
        from nvae_codec.container.methods import write_file
        from nvae_codec.images.metadata import keep_metadata
        from nvae_codec.images.raster import same_image
        from nvae_codec.images.read import read_image

        check_target(job, force=self.force)
        source = read_source(job)
        if source.data.startswith(MAGIC):
            raise UnsupportedImageError("it is compressed already")
        image = keep_metadata(read_image(source.data), self.metadata)
        result = write_file(image, self.method, self.models, self.effort)
        if self.verify or self.remove:
            decoded = read_file(result, self.models)
            if image.file is None and decoded.file is not None:  # an image of 16 bits that is kept as a PNG
                decoded = read_image(decoded.file)
            if not same_image(image, decoded):
                raise NvaeCodecError("the result does not decode to the same image; nothing was written")
        write_target(job, result, force=self.force, like=source.snapshot, inputs=self.inputs)
        return self._conclude(job, source, image, result)

    def _conclude(self, job: Job, source: Source, image: RasterImage, result: bytes) -> Outcome:
        """Say what became of a source whose result is written; remove it if that was asked for and loses nothing."""
        from nvae_codec.container.header import Kind, split_parts
        from nvae_codec.images.png import SIGNATURE

        as_file = split_parts(result).header.kind is Kind.FILE and image.file is not None  # else as a PNG of 16 bits
        is_png = source.data.startswith(SIGNATURE)
        before, after = len(source.data), len(result)
        made = describe_file(job.name, result)
        if self.method == "model" and image.file is not None and not is_png:
            lost = f" ({image.not_in_pixels})" if image.not_in_pixels else ""
            self.report.warn(f"its pixels are kept, and its file is not{lost}: --method stored keeps that", job.name)
        if self.expects_model and made["model"] is None:
            self.report.warn(f"kept as {made['method']}, not with the model, which --method model asks for", job.name)
        if after > before and not as_file and (self.remove or not is_png):
            kept = ", so it is kept" if self.remove else ""
            self.report.warn(f"smaller than its result, {before:,} to {after:,} bytes{kept}", job.name)
        elif self.remove and image.not_in_pixels and not as_file:
            self.report.warn("it is kept, as its result does not hold everything in it", job.name)
        elif self.remove:
            remove_source(job, source)
        by_model = f" {show_model(made['model'])}, effort {self.effort}" if made["model"] else ""
        how = made["method"] + by_model
        text = f"{before:,} -> {after:,} bytes, {made['bits_per_dim']:.3f} bits/dim, {how}"
        note = "" if as_file or is_png else AS_PIXELS
        return Outcome(text, 1, image.width * image.height, before, after, note)


def name_compressed(name: str, suffixes: frozenset[str]) -> str:
    """photo.png to photo.nvae; a name without an image's suffix keeps all of it."""
    path = Path(name)
    return path.stem + SUFFIX if path.suffix.lower() in suffixes else name + SUFFIX
