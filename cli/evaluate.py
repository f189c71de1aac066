"""nvae-codec evaluate: what files take, against what the model says that they should, cause by cause."""

from __future__ import annotations

import functools
import sys
import traceback
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nvae_codec.errors import NvaeCodecError

from .files import check_folder, write_whole
from .options import ModelName, how_large_segments, how_on_many_machines, how_to_evaluate, how_to_report
from .pack import Reader, choose_workers, list_inputs
from .report import explain, print_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray
    from rich.console import Console

    from nvae_codec.container.archive.segment import Named
    from nvae_codec.evaluation.images import Evaluator, Row
    from nvae_codec.images.raster import RasterImage
    from nvae_codec.network.nvae import Nvae
    from nvae_codec.zoo.library import Models

    Heat = NDArray[np.float32]

FILE = click.Path(dir_okay=False, path_type=Path)
LARGEST_TABLE = 60
"""Images that the terminal lists; beyond, the total alone."""


@click.command("evaluate")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...", type=click.Path(exists=True, path_type=Path))
@click.option("--model", type=ModelName(), default="photo", show_default=True, help="Model to evaluate.")
@click.option(
    "--run",
    type=click.Path(exists=True, path_type=Path),
    metavar="RUN",
    help="Training run with the model's float weights, for the float ELBO.",
)
@click.option(
    "--samples", type=click.IntRange(1), default=4, show_default=True, metavar="K", help="Draws of z a bound."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the draws.")
@click.option("--archive", is_flag=True, help="All images as one archive; its bits are shared among them.")
@how_large_segments
@click.option("--json", "json_file", type=FILE, metavar="OUT", help="Write all numbers there.")
@click.option("--html", "html_file", type=FILE, metavar="OUT", help="Write a report with charts and images there.")
@click.option(
    "--peers/--no-peers",
    default=None,
    help="Also make PNG, WebP and, with nvae-codec[bench], JPEG XL files.  [default: for --html]",
)
@how_to_evaluate
@how_on_many_machines
@how_to_report
def evaluate_command(
    inputs: tuple[Path, ...],
    model: str,
    run: Path | None,
    samples: int,
    seed: int,
    archive: bool,
    segment: int | None,
    json_file: Path | None,
    html_file: Path | None,
    peers: bool | None,
    device: str,
    threads: int | None,
    batch_tiles: int | None,
    workers: int,
    ray: str | None,
    shard: tuple[int, int] | None,
    quiet: bool,
    verbose: bool,
) -> int:
    """Compare the files of images with the model's bounds, in bits/dim, and split what lies between by cause.

    INPUT is an image file, a folder of them, or an .npz file with images, uint8 (N,H,W,3) or (N,H,W). A model of
    RGB sees gray images as RGB. The numbers are the same whatever works on them, but for the seconds.
    """
    import json
    from typing import cast

    from rich.console import Console

    from nvae_codec.coding.codec import ModelCodec
    from nvae_codec.container.archive.shards import take_shard
    from nvae_codec.evaluation.images import Evaluator
    from nvae_codec.evaluation.inputs import Input, find_inputs
    from nvae_codec.evaluation.peers import peer_bits
    from nvae_codec.evaluation.report.html import Shown, write_report
    from nvae_codec.evaluation.report.thumbnails import thumbnail_side
    from nvae_codec.parallel.processes import map_in_order
    from nvae_codec.zoo.library import Models

    if archive and (workers > 1 or ray is not None or shard is not None):
        raise click.UsageError("--archive measures one file here, so no --workers, --ray or --shard")
    if shard is not None and json_file is None:
        raise click.UsageError("--shard needs --json OUT, for nvae-codec merge")
    for file in filter(None, (json_file, html_file)):
        check_folder(file)
    at_work, device, threads = choose_workers(workers, ray, threads, device)
    models = Models(model, device=device, threads=threads, batch_tiles=batch_tiles)
    # this machine may lack the cluster's GPUs
    codec = cast(ModelCodec, (models if ray is None else Models(model, device="cpu")).chosen())
    evaluator = Evaluator(codec, None if run is None else load_network(run), samples, seed)
    found = list_inputs(inputs, []) if archive else [(item.name, item, "") for item in find_inputs(inputs)]
    reader = Reader(found, Input.read_gray if codec.model.channels == 1 else Input.read_colours)
    rows: list[dict[str, Any]] = []
    shown: list[Shown] = []
    part = described = None
    with_peers = bool(peers or (peers is None and html_file is not None))
    total = len(found)
    measured: Iterable[tuple[RasterImage, Row, Heat]]
    if archive:
        measured, described = _measure_archive(evaluator, list(reader.read_all()), segment)
    else:
        alone = [[named] for named in reader.measure()]
        if shard is not None:
            alone, part = take_shard(
                alone, *shard, f"evaluate {run and run.resolve().name} {samples} {seed} {with_peers}"
            )
        total = len(alone)
        work = partial(measure_image, run, samples, seed)
        measured = _keep_sound(map_in_order(work, reader.read(chain(*alone)), models, at_work), reader, verbose=verbose)
    side = thumbnail_side(total)
    for image, row, heat in measured:
        pixels = image.require_pixels("the model")
        if with_peers:
            row["peers"] = peer_bits(pixels)
        if html_file is not None:
            shown.append(Shown.of(pixels, heat, side))
        rows.append(row)
        if verbose or (not quiet and sys.stderr.isatty()):
            rate = f"{row['bpd_file']:.4f} bits/dim, {row['file_over_integer']:.5f} of the integer-model ELBO"
            click.echo(f"{len(rows)}/{total} {row['name']}: {rate}", err=True)
    if not rows and part is None:
        return 1
    result = evaluator.describe(rows, None if run is None else run.resolve().name, described, part)
    if json_file is not None:
        write_whole(json_file, (json.dumps(result, indent=1) + "\n").encode())
    if not rows:
        return int(reader.failed)
    if html_file is not None:
        write_whole(html_file, write_report(result, shown, side).encode())
    if not quiet:
        show_tables(result, Console(file=sys.stdout, width=None if sys.stdout.isatty() else 120))
    return int(reader.failed)


@functools.cache
def load_network(run: Path) -> Nvae:
    """The float network of a training run."""
    from nvae_codec.training.checkpoint import load_average

    return load_average(run)[1]


@dataclass(frozen=True)
class Problem:
    """Why an image cannot be measured, and where that was found."""

    name: str
    reason: str
    traceback: str


def measure_image(
    run: Path | None, samples: int, seed: int, models: Models, named: Named
) -> tuple[RasterImage, Row, Heat] | Problem:
    """A image as a file of its own."""
    from typing import cast

    from nvae_codec.coding.codec import ModelCodec
    from nvae_codec.evaluation.images import Evaluator

    name, image = named
    network = None if run is None else load_network(run)
    evaluator = Evaluator(cast(ModelCodec, models.chosen()), network, samples, seed)
    try:
        return image, *evaluator.measure(name, image)
    except Exception as error:
        return Problem(name, explain(error), traceback.format_exc())


def _keep_sound(
    done: Iterable[tuple[RasterImage, Row, Heat] | Problem], reader: Reader, *, verbose: bool
) -> Iterator[tuple[RasterImage, Row, Heat]]:
    """What was measured; what could not be is named."""
    for each in done:
        if not isinstance(each, Problem):
            yield each
            continue
        reader.fail(each.name, NvaeCodecError(each.reason))
        if verbose:
            print_line(each.traceback)


def _measure_archive(
    evaluator: Evaluator, named: list[Named], segment: int | None
) -> tuple[list[tuple[RasterImage, Row, Heat]], Row]:
    """All images as one archive, and what it is."""
    from nvae_codec.container.archive.writer import group_images, segment_limits
    from nvae_codec.evaluation.archives import measure_archive

    found, described = measure_archive(evaluator, list(group_images(named, *segment_limits(segment))))
    return [(image, row, heat) for (_, image), (row, heat) in zip(named, found, strict=True)], described


def show_tables(result: dict[str, Any], console: Console) -> None:
    """The tables of the terminal: rates by image, the total by cause, groups and phases."""
    from rich.table import Table

    total, rows = result["total"], result["images"]
    rates = Table(title=f"bits/dim with {result['model']['name']} ({result['model']['identity'][:8]})")
    for name in (
        "image",
        "float ELBO",
        "integer-model ELBO",
        f"IW {result['samples']}",
        "file",
        "file / exact",
        "s",
        "s back",
    ):
        rates.add_column(name, justify="left" if name == "image" else "right")
    for row in rows if len(rows) <= LARGEST_TABLE else []:
        rates.add_row(row["name"], *_rate_cells(row))
    rates.add_section()
    rates.add_row(f"{total['images']} together", *_rate_cells(total))
    console.print(rates)

    causes = Table(title=f"the {total['file_bits']:,} bits of the files")
    for name in ("cause", "bits", "bits/dim", "of the files"):
        causes.add_column(name, justify="left" if name == "cause" else "right")
    for cause, bits in total["bits"].items():
        share = f"{bits / total['file_bits']:.4%}"
        causes.add_row(cause.replace("_", " "), f"{bits:,.1f}", f"{bits / total['dims']:.6f}", share)
    causes.add_section()
    causes.add_row("files", f"{total['file_bits']:,}", f"{total['bpd_file']:.6f}", "100 %")
    console.print(causes)

    parts = Table(title="the integer-model ELBO by part, and what the files have of it")
    for name in ("part", "exact bits/dim", "file bits/dim", "channels", "kept", "active"):
        parts.add_column(name, justify="left" if name == "part" else "right")
    for index, group in enumerate(total["groups"]):
        counts = [str(group["channels"]), str(group["kept"]), f"{group['active']:.1f}"]
        parts.add_row(f"latents {index}, 1/{group['stride']}", *_part_cells(group, total["dims"]), *counts)
    for index, phase in enumerate(total["phases"]):
        parts.add_row(f"pixels, phase {index}", *_part_cells(phase, total["dims"]))
    console.print(parts)


def _rate_cells(row: dict[str, Any]) -> list[str]:
    real = "" if row["bpd_float_elbo"] is None else f"{row['bpd_float_elbo']:.5f}"
    rates = [f"{row[key]:.5f}" for key in ("bpd_integer_elbo", "bpd_importance", "bpd_file", "file_over_integer")]
    return [real, *rates, f"{row['encode_seconds']:.2f}", f"{row['decode_seconds']:.2f}"]


def _part_cells(part: dict[str, float], dims: int) -> list[str]:
    return [f"{part['exact'] / dims:.5f}", f"{part['file'] / dims:.5f}"]
