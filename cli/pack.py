"""nvae-codec pack: many images to one archive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click
from click.core import ParameterSource

from nvae_codec.errors import NvaeCodecError
from nvae_codec.files import Inputs, check_absent, open_atomic, shared_mode
from nvae_codec.images.find import Findings
from nvae_codec.runtime import Runtime

from . import options
from .files import hold, naming
from .inputs import Reader, Unread, list_inputs
from .report import AS_PIXELS, Outcome, Problem, Reporter

if TYPE_CHECKING:
    from nvae_codec.container.archive.index import Shard
    from nvae_codec.container.archive.reader import Archive
    from nvae_codec.zoo.library import Models


Groups = list[list[tuple[str, Unread]]]


@click.command("pack")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...", type=options.EXISTING)
@options.output_option("archive")
@options.segment_option
@click.option("--append", is_flag=True, help="Add to FILE. If that is interrupted, FILE stays as it was.")
@click.option("--model", type=options.ModelName(), help="Model to code with.  [default: photo; with --append FILE's]")
@options.method_option
@options.effort_option
@options.metadata_option
@options.runtime_options
@options.pixel_limit_option
@options.machines_options
@options.force_option
@options.reporting_options
def pack_command(
    inputs: tuple[Path, ...],
    output: Path,
    segment: int | None,
    append: bool,
    model: str | None,
    method: str,
    effort: int,
    metadata: str,
    runtime: Runtime,
    machines: options.Machines,
    force: bool,
    report: Reporter,
) -> int:
    """Keep many images in one archive, without loss: holiday/ to holiday.nvae.

    INPUT is an image file as compress takes it, a folder of them, or an .npz file with images, uint8 (N,H,W,3) or
    (N,H,W). Files keep their names, those of a folder their paths in it; arrays are named by their index: 00000.png.
    The archive has the same bytes with --workers, --ray, and --shard on several machines.
    """
    from nvae_codec.container.archive.writer import write_archive
    from nvae_codec.container.header import METHOD_NAMES
    from nvae_codec.images.metadata import keep_metadata

    if append and machines.shard:
        raise click.UsageError("--shard makes an archive of its own, so it does not go together with --append")
    workers, runtime = machines.choose(runtime)
    with _open_base(output, append=append, force=force) as base:
        models = _choose_models(model, runtime, base, output)
        left = Findings()
        found = list_inputs(inputs, [] if base is None else base.names, left)
        report.leave(left)
        files = {item.path for _, item, _ in found}
        own = Inputs(files)
        own.refuse(output)
        opened = open_atomic(output, force=force or base is not None, mask=shared_mode(files), inputs=own)
        reader = Reader(found, report, lambda item: keep_metadata(item.read(), metadata))
        every, groups, part = _take_groups(reader, segment, machines, f"{method} {effort} {metadata}")
        shared = _choose_shared(every, base, method, models, effort)
        total = sum(map(len, groups))
        methods = Counter[str]()
        with report.progress(f"{total} images", total) as bar, opened as out:
            read = (list(reader.read(group)) for group in groups)
            extensions = () if part is None else (part.pack(),)
            write = partial(write_archive, method=method, effort=effort, models=models, workers=workers)
            segments = write(out, read, base=base, extensions=extensions, shared=shared)
            for packed in bar.follow_each(segments, map(len, groups)):
                for name, reason in packed.problems:
                    report.fail(Problem(name, reason, ""))
                pixels = sum(entry.width * entry.height for entry in packed.entries)
                methods.update(METHOD_NAMES[entry.kind] for entry in packed.entries)
                report.totals.notes[AS_PIXELS] += reader.count_as_pixels(packed.entries)
                report.count(str(output), Outcome(_show(methods), len(packed.entries), pixels))
            if not report.totals.images and part is None:
                raise NvaeCodecError(f"{output}: no image to write")
            report.totals.bytes_in, report.totals.bytes_out = reader.bytes_read, _written(out, base)
    given = click.get_current_context().get_parameter_source("method") is not ParameterSource.DEFAULT
    if model is not None and not given and methods.keys() - {"model"}:
        report.warn(f"{_show(methods)}: --method model keeps all with the model", str(output))
    return report.finish()


def _take_groups(
    reader: Reader, segment: int | None, machines: options.Machines, settings: str
) -> tuple[Groups, Groups, Shard | None]:
    """The images of each segment; all or those of a shard, and which shard that is. The first reports refused names."""
    from nvae_codec.container.archive.shards import take_shard
    from nvae_codec.container.archive.writer import group_images, segment_limits

    groups = every = list(group_images(reader.measure(), *segment_limits(segment)))
    part = None
    if machines.shard is not None:
        groups, part = take_shard(groups, *machines.shard, f"{settings} {segment_limits(segment)}")
    if machines.shard is None or machines.shard[0] == 1:
        reader.refuse_names()
    return every, groups, part


def _choose_shared(groups: Groups, base: Archive | None, method: str, models: Models, effort: int) -> bytes:
    """The adaptation block of a new archive; empty if it has none."""
    from nvae_codec.container.archive.sharing import choose_shared

    if base is not None or method not in ("auto", "model"):
        return b""
    return choose_shared(groups, lambda unread: unread.item.read(), models, effort)


@contextmanager
def _open_base(output: Path, *, append: bool, force: bool) -> Iterator[Archive | None]:
    """The archive to append to, or None for a new one; it is locked against other pack and merge commands.

    Raises NvaeCodecError where neither can be at ``output``.
    """
    from nvae_codec import open_archive

    check_absent(output, force=force or append)
    if not append and not force:
        yield None
        return
    with hold(output):
        if not append or not output.exists():
            yield None
            return
        with naming(output):
            base = open_archive(output)
            if base.shard is not None:
                raise NvaeCodecError(f"it is shard {base.shard} of an archive; nvae-codec merge makes that")
        yield base


def _choose_models(model: str | None, runtime: Runtime, base: Archive | None, output: Path) -> Models:
    """The model asked for; of an archive that is appended to, it must be that archive's."""
    from nvae_codec.zoo.library import Models, find_by_identity

    if base is None:
        return Models(model, runtime)
    with naming(output):
        models = Models(model or str(find_by_identity(base.identity).path), runtime)
    if models.identity() != base.identity:
        there, here = base.identity[:4].hex(), models.identity()[:4].hex()
        raise NvaeCodecError(f"{output}: its images are coded with model {there}, not {here}")
    return models


def _written(out: BinaryIO, base: Archive | None) -> int:
    return max(0, out.tell() - (0 if base is None else base.file_bytes))


def _show(methods: Counter[str]) -> str:
    return ", ".join(f"{count} by {method}" for method, count in methods.items()) or "no image"
