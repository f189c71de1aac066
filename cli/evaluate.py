"""nvae-codec evaluate: file sizes against the model's bounds, and the overhead broken down by cause."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nvae_codec.files import Inputs, write_atomic
from nvae_codec.images.find import Findings
from nvae_codec.runtime import Runtime

from . import options
from .evaluate_tables import show_tables
from .files import check_outputs, find_all_inputs
from .inputs import Reader, list_inputs
from .report import Outcome, Problem, Reporter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nvae_codec.container.archive.segment import Named
    from nvae_codec.evaluation.images import Evaluator, Row
    from nvae_codec.evaluation.report.page import Shown
    from nvae_codec.images.raster import RasterImage
    from nvae_codec.network.nvae import Nvae
    from nvae_codec.zoo.library import Models

    Measured = tuple[RasterImage, Row, NDArray[np.float32]]
    """An image, its row of the report, and its bits per pixel (H, W)."""


@dataclass(frozen=True)
class Bounds:
    """How the bounds are measured: draws of z from a seed, and a run's weights for the float ELBO."""

    run: Path | None
    samples: int
    seed: int
    effort: int

    def describe(self) -> str:
        """The settings that all shards of one evaluation share."""
        return f"evaluate {self.run and self.run.resolve().name} {self.samples} {self.seed} {self.effort}"

    def evaluator(self, models: Models) -> Evaluator:
        """An evaluator with the chosen model."""
        from typing import cast

        from nvae_codec.coding.codec import ModelCodec
        from nvae_codec.evaluation.images import Evaluator

        network = None if self.run is None else load_network(self.run)
        return Evaluator(cast(ModelCodec, models.chosen()), network, self.samples, self.seed, self.effort)


@dataclass(frozen=True)
class Outputs:
    """Outputs in addition to the tables: JSON, an HTML page, charts; and whether they have baselines."""

    json: Path | None
    html: Path | None
    charts: Path | None
    baselines: bool | None

    @property
    def with_baselines(self) -> bool:
        """Whether other formats' files are made."""
        return bool(self.html or self.charts) if self.baselines is None else self.baselines

    def write(self, result: Row, shown: list[Shown], report: Reporter, inputs: Inputs) -> None:
        """Write what was asked for; the tables go to stdout unless -q is given or there is no image."""
        from rich.console import Console

        from nvae_codec.evaluation.report.page import list_charts, write_report
        from nvae_codec.evaluation.report.thumbnails import thumbnail_side

        if self.json is not None:
            write_atomic(self.json, (json.dumps(result, indent=1) + "\n").encode(), force=True, inputs=inputs)
        if self.charts is not None and result["images"]:
            for chart in list_charts(result):
                chart.save(self.charts)
        if self.html is not None and shown:
            page = write_report(result, shown, thumbnail_side(len(shown)))
            write_atomic(self.html, page.encode(), force=True, inputs=inputs)
        if not report.quiet and result["images"]:
            show_tables(result, Console(file=sys.stdout, width=None if sys.stdout.isatty() else 120))


@click.command("evaluate")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...", type=options.EXISTING)
@click.option("--model", type=options.ModelName(), default="photo", show_default=True, help="Model to evaluate.")
@options.together(
    "bounds",
    Bounds,
    click.option(
        "--run",
        type=options.EXISTING,
        metavar="RUN",
        help="Training run with the model's float weights, for the float ELBO.",
    ),
    options.integer_option("--samples", default=4, text="Draws of z per bound."),
    options.integer_option("--seed", least=0, default=0, text="Seed of the draws."),
    options.effort_option,
)
@click.option("--archive", is_flag=True, help="All images as one archive; its bits are shared among them.")
@options.segment_option
@options.together(
    "outputs",
    Outputs,
    click.option("--json", type=options.OUTPUT_FILE, metavar="OUT", help="Write all numbers there."),
    click.option(
        "--html", type=options.OUTPUT_FILE, metavar="OUT", help="Write a report with charts and images there."
    ),
    click.option(
        "--charts",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="FOLDER",
        help="Write each chart as SVG and CSV there.",
    ),
    click.option(
        "--baselines/--no-baselines",
        default=None,
        help="Also make PNG, WebP and, with nvae-codec[bench], JPEG XL files.  [default: for --html and --charts]",
    ),
)
@options.runtime_options
@options.machines_options
@options.reporting_options
def evaluate_command(
    inputs: tuple[Path, ...],
    model: str,
    bounds: Bounds,
    archive: bool,
    segment: int | None,
    outputs: Outputs,
    runtime: Runtime,
    machines: options.Machines,
    report: Reporter,
) -> int:
    """Compare the files of images with the model's bounds, in bits/dim, and break down the difference by cause.

    INPUT is an image file, a folder of them, or an .npz file with images, uint8 (N,H,W,3) or (N,H,W). A model of
    RGB sees gray images as RGB. All numbers except seconds are the same on every machine.
    """
    from nvae_codec.container.archive.shards import take_shard
    from nvae_codec.evaluation.inputs import Input, find_inputs
    from nvae_codec.parallel.processes import map_in_order
    from nvae_codec.zoo.library import Models

    if archive and (machines.workers > 1 or machines.ray is not None or machines.shard is not None):
        raise click.UsageError("--archive measures one file here, so no --workers, --ray or --shard")
    if machines.shard is not None and outputs.json is None:
        raise click.UsageError("--shard needs --json OUT, for nvae-codec merge")
    own = find_all_inputs((*inputs, bounds.run))
    check_outputs((outputs.json, outputs.html), own)
    workers, runtime = machines.choose(runtime)
    models = Models(model, runtime)
    # this machine may lack the cluster's GPUs
    evaluator = bounds.evaluator(models if machines.ray is None else Models(model, Runtime("cpu")))
    left = Findings()
    found = list_inputs(inputs, [], left) if archive else [(item.name, item, "") for item in find_inputs(inputs, left)]
    report.leave(left)
    gray = evaluator.codec.input.channels == 1
    reader = Reader(found, report, Input.read_gray if gray else Input.read_colours)
    part = described = None
    measured: Iterable[Measured]
    if archive:
        total = len(found)
        measured, described = _measure_archive(evaluator, list(reader.read_all()), segment)
    else:
        alone = [[named] for named in reader.measure()]
        if machines.shard is not None:
            alone, part = take_shard(alone, *machines.shard, f"{bounds.describe()} {outputs.with_baselines}")
        total = len(alone)
        work = map_in_order(partial(measure_image, bounds), reader.read(chain(*alone)), models, workers)
        measured = _keep_measured(work, report)
    rows, shown = _collect(measured, outputs, total, report)
    if not rows and part is None:
        return 1
    run = None if bounds.run is None else bounds.run.resolve().name
    outputs.write(evaluator.describe(rows, run, described, part), shown, report, own)
    return report.finish()


def _collect(
    measured: Iterable[Measured], outputs: Outputs, total: int, report: Reporter
) -> tuple[list[Row], list[Shown]]:
    """The rows of the report, and the images that its page shows."""
    from nvae_codec.evaluation.baselines import baseline_bits
    from nvae_codec.evaluation.report.page import Shown
    from nvae_codec.evaluation.report.thumbnails import thumbnail_side

    rows, shown = [], []
    with report.progress(f"{total} images", total) as bar:
        for image, row, heat in bar.follow_each(iter(measured), [1] * total):
            pixels = image.require_pixels("the model")
            if outputs.with_baselines:
                row["baselines"] = baseline_bits(pixels)
            if outputs.html is not None:
                shown.append(Shown.of(pixels, heat, thumbnail_side(total)))
            rows.append(row)
            rate = f"{row['bpd_file']:.4f} bits/dim, {row['file_over_integer']:.5f} of the integer-model ELBO"
            report.count(row["name"], Outcome(rate, 1, image.width * image.height, bytes_out=row["file_bits"] // 8))
    return rows, shown


@functools.cache
def load_network(run: Path) -> Nvae:
    """The float network of a training run."""
    from nvae_codec.training.checkpoint import load_average

    return load_average(run)[1]


def measure_image(bounds: Bounds, models: Models, named: Named) -> Measured | Problem:
    """Measure an image as a single file."""
    name, image = named
    try:
        return image, *bounds.evaluator(models).measure(name, image)
    except Exception as error:
        return Problem.of(name, error)


def _keep_measured(done: Iterable[Measured | Problem], report: Reporter) -> Iterator[Measured]:
    """What was measured; what could not be is reported."""
    for each in done:
        if isinstance(each, Problem):
            report.fail(each)
        else:
            yield each


def _measure_archive(evaluator: Evaluator, named: list[Named], segment: int | None) -> tuple[list[Measured], Row]:
    """All images as one archive, and what it is."""
    from nvae_codec.container.archive.writer import group_images, segment_limits
    from nvae_codec.evaluation.archives import measure_archive

    found, described = measure_archive(evaluator, list(group_images(named, *segment_limits(segment))))
    return [(image, row, heat) for (_, image), (row, heat) in zip(named, found, strict=True)], described
