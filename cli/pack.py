"""nvae-codec pack: many images into one archive."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nvae_codec.errors import NvaeCodecError

from .files import hold, naming, open_beside
from .options import (
    ModelName,
    how_large_segments,
    how_many_pixels,
    how_much_metadata,
    how_on_many_machines,
    how_to_evaluate,
    how_to_report,
    where_it_goes,
)
from .report import explain, print_error, print_line, show_progress

if TYPE_CHECKING:
    from nvae_codec.container.archive.segment import Named
    from nvae_codec.evaluation.inputs import Input
    from nvae_codec.images.raster import RasterImage
    from nvae_codec.parallel.processes import Workers


@click.command("pack")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...", type=click.Path(exists=True, path_type=Path))
@where_it_goes("archive")
@how_large_segments
@click.option("--append", is_flag=True, help="Add to FILE. If that is interrupted, FILE stays as it was.")
@click.option("--model", type=ModelName(), help="Model to code with.  [default: photo; with --append FILE's]")
@click.option(
    "--method",
    type=click.Choice(["auto", "model", "webp", "stored"]),
    default="auto",
    show_default=True,
    help="How each image is kept: see nvae-codec compress.",
)
@how_much_metadata
@how_to_evaluate
@how_many_pixels
@how_on_many_machines
@click.option("-f", "--force", is_flag=True, help="Overwrite FILE.")
@how_to_report
def pack_command(
    inputs: tuple[Path, ...],
    output: Path,
    segment: int | None,
    append: bool,
    model: str | None,
    method: str,
    metadata: str,
    device: str,
    threads: int | None,
    batch_tiles: int | None,
    workers: int,
    ray: str | None,
    shard: tuple[int, int] | None,
    force: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Keep many images in one archive, without loss: holiday/ to holiday.nvae.

    INPUT is an image file as compress takes it, a folder of them, or an .npz file with images, uint8 (N,H,W,3) or
    (N,H,W). Files keep their names, those of a folder their paths in it; arrays are named by their place: 00000.png.
    The archive has the same bytes whatever works on it: --workers, --ray, or several machines with --shard.
    """
    from nvae_codec import open_archive
    from nvae_codec.container.archive.shards import take_shard
    from nvae_codec.container.archive.writer import group_images, segment_limits, write_archive
    from nvae_codec.images.metadata import keep_metadata
    from nvae_codec.zoo.library import Models, find_by_identity

    if append and shard:
        raise click.UsageError("--shard makes an archive of its own, so it cannot stand beside --append")
    at_work, device, threads = choose_workers(workers, ray, threads, device)
    if output.is_dir() or (output.exists() and not force and not append):
        reason = "it is a folder" if output.is_dir() else "it exists already (-f overwrites it, --append adds to it)"
        raise NvaeCodecError(f"{output}: {reason}")
    if append and output.exists():
        click.get_current_context().with_resource(hold(output))  # until the command ends
    with naming(output):
        base = open_archive(output) if append and output.exists() else None
        if base is not None and base.shard is not None:
            raise NvaeCodecError(f"it is shard {base.shard} of an archive; nvae-codec merge makes that")
        if base is not None and model is None:
            model = str(find_by_identity(base.identity).path)
    models = Models(model, device=device, threads=threads, batch_tiles=batch_tiles)
    if base is not None and models.identity() != base.identity:
        there, here = base.identity[:4].hex(), models.identity()[:4].hex()
        raise NvaeCodecError(f"{output}: its images are coded with model {there}, not {here}")
    found = list_inputs(inputs, [] if base is None else base.names)
    reader = Reader(found, lambda item: keep_metadata(item.read(), metadata))
    groups = list(group_images(reader.measure(), *segment_limits(segment)))
    part = None
    if shard is not None:
        groups, part = take_shard(groups, *shard, f"{method} {metadata} {segment_limits(segment)}")
    if shard is None or shard[0] == 1:
        reader.refuse_names()
    total, done, pixels, start = sum(map(len, groups)), 0, 0, time.monotonic()
    bar = show_progress(f"{total} images", total, quiet=quiet, unit="images")
    with bar as advance, open_beside(output) as out:
        segments = write_archive(
            out,
            (list(reader.read(group)) for group in groups),
            method=method,
            models=models,
            workers=at_work,
            base=base,
            extensions=() if part is None else (part.pack(),),
        )
        for packed, group in zip(segments, groups, strict=True):
            for name, reason in packed.problems:
                reader.fail(name, NvaeCodecError(reason))
            done += len(packed.entries)
            pixels += sum(entry.width * entry.height for entry in packed.entries)
            advance(len(group))
            if verbose:
                rate = pixels / 1e6 / (time.monotonic() - start)
                print_line(f"{output}: {done} of {total} images, {rate:.3g} MP/s")
        size = out.tell()
        if not done and part is None:
            raise NvaeCodecError(f"{output}: no image to write")
    if verbose:
        print_line(f"{output}: {done} images, {size:,} bytes")
    return int(reader.failed)


def choose_workers(count: int, ray: str | None, threads: int | None, device: str) -> tuple[Workers, str, int | None]:
    """Who does the work: ``count`` processes, or what runs at an address of Ray; on which device; on how many threads.

    Raises click.UsageError where that cannot be.
    """
    from nvae_codec.parallel.processes import Processes
    from nvae_codec.parallel.ray import Ray

    if ray is None:
        return Processes(count), device, threads or (1 if count > 1 else None)
    if ray != "local" and count > 1:
        raise click.UsageError("how many workers there are is for the cluster to say, not for --workers")
    # Ray gives GPUs to those that ask for them
    device, threads = "cpu" if device == "auto" else device, threads or 1
    return Ray(ray, count, cpus=threads, gpus=int(device == "cuda")), device, threads


def list_inputs(paths: tuple[Path, ...], there: list[str]) -> list[tuple[str, Input, str]]:
    """The names and images of all inputs, and why a name cannot stand beside the others and those that are there."""
    from nvae_codec.container.archive.index import check_count
    from nvae_codec.container.archive.names import Names
    from nvae_codec.evaluation.inputs import find_inputs

    names = Names(there)
    found: list[tuple[str, Input, str]] = []
    for path in paths:
        for item in find_inputs([path]):
            place = f"{len(there) + len(found):05d}.png"
            name = place if path.suffix.lower() == ".npz" else item.name
            found.append((name, item, names.add(name)))
    check_count(len(there) + len(found))
    return found


@dataclass(frozen=True)
class Unread:
    """A image that is read later; its segment is known by its size, in pixels: 0 where that is unknown."""

    item: Input
    width: int
    height: int


class Reader:
    """Reads images one after another, names those that cannot be read, and goes on."""

    def __init__(
        self, found: list[tuple[str, Input, str]], read: Callable[[Input], RasterImage] = lambda item: item.read()
    ) -> None:
        """``read``: how, as for a model that takes only some images."""
        self.found, self._read, self.failed = found, read, False

    def fail(self, name: str, error: Exception) -> None:
        """Say what is wrong with an image."""
        self.failed = True
        print_error(explain(error), name)

    def refuse_names(self) -> None:
        """Say which names cannot stand beside the others."""
        for name, _, problem in self.found:
            if problem:
                self.fail(name, NvaeCodecError(f"the name {problem}"))

    def measure(self) -> Iterator[tuple[str, Unread]]:
        """All images with good names, by their headers alone."""
        for name, item, problem in self.found:
            if not problem:
                yield name, Unread(item, *item.size())

    def read_all(self) -> Iterator[Named]:
        """Names and images of all."""
        self.refuse_names()
        return self.read(self.measure())

    def read(self, measured: Iterable[tuple[str, Unread]]) -> Iterator[Named]:
        """Names and images."""
        for name, unread in measured:
            try:
                image = self._read(unread.item)
            except Exception as error:
                self.fail(name, error)
            else:
                yield name, image
