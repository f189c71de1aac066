"""nvae-codec unpack: an archive back to images."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import click

from nvae_codec.errors import NvaeCodecError
from nvae_codec.files import Inputs, Snapshot, check_absent, open_atomic, shared_mode
from nvae_codec.runtime import Runtime

from . import options
from .files import Job, naming, write_target
from .report import Outcome, Problem, Reporter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nvae_codec.container.archive.index import Entry, Segment
    from nvae_codec.container.archive.reader import Archive
    from nvae_codec.container.extensions import Extensions
    from nvae_codec.images.raster import RasterImage
    from nvae_codec.zoo.library import Models


@click.command("unpack")
@click.argument("file", metavar="FILE", type=options.EXISTING_FILE)
@click.option(
    "-o",
    "output",
    metavar="FOLDER|OUT.npz",
    type=click.Path(path_type=Path),
    callback=options.refuse_stdout,
    help="Folder for the PNGs, or an .npz for images of one size, as array images.  [default: FILE without .nvae]",
)
@click.option("--only", multiple=True, metavar="NAME", help="Only these images: a name or 'holiday/*.png'; repeatable.")
@options.foreign_model_option
@options.runtime_options
@options.pixel_limit_option
@options.workers_option
@options.force_option
@options.reporting_options
def unpack_command(
    file: Path,
    output: Path | None,
    only: tuple[str, ...],
    model: str | None,
    runtime: Runtime,
    workers: int,
    force: bool,
    report: Reporter,
) -> int:
    """Restore the images of an archive as PNGs: holiday.nvae to holiday/.

    A damaged segment is reported, and all others are restored. One image takes at most as long as its segment.
    """
    from nvae_codec.container.archive.reader import Archive
    from nvae_codec.zoo.library import Models

    models = Models(model, options.share_threads(runtime, workers))
    with naming(file):
        archive = Archive(file, models)
    wanted = set() if only else set(archive.names)
    for pattern in only:
        found = match_names(archive.names, pattern)
        wanted |= found
        if not found:
            report.fail(Problem(f"{file}: {pattern}", "there is no such image", ""))
    if not wanted:
        return report.exit_code
    unpacking = Unpacking(archive, models, wanted, report, workers, force=force)
    if output is not None and output.suffix.lower() == ".npz":
        unpack_to_arrays(unpacking, output)
    else:
        unpack_to_folder(unpacking, output or file.with_name(file.name.removesuffix(".nvae")))
    return report.finish()


def match_names(names: Sequence[str], pattern: str) -> set[str]:
    """The names that a name or a shell pattern means, in either Unicode form: an é of one character or of two."""
    if pattern in names:
        return {pattern}
    pattern = unicodedata.normalize("NFC", pattern)
    composed = {name: unicodedata.normalize("NFC", name) for name in names}
    same = {name for name, form in composed.items() if form == pattern}
    return same or {name for name, form in composed.items() if fnmatch.fnmatchcase(form, pattern)}


@dataclass(frozen=True)
class Unpacking:
    """Which images of an archive are restored, and how."""

    archive: Archive
    models: Models
    wanted: set[str]
    report: Reporter
    workers: int = 1
    force: bool = False


@dataclass(frozen=True)
class Task:
    """The work of a process: restore the images of a segment that have a target."""

    path: Path
    identity: bytes
    shared: Extensions
    segment: Segment
    label: str
    targets: tuple[Path | None, ...]
    force: bool


@dataclass(frozen=True)
class Done:
    """The result of a task: the number of images, bytes written, pixels if requested, and problems."""

    task: Task
    restored: int
    bytes_out: int
    pixels: list[NDArray[np.uint8]]
    problems: list[Problem]


def unpack_to_folder(unpacking: Unpacking, folder: Path) -> bool:
    """Write PNGs and report what cannot be restored. Returns whether everything was restored.

    Raises NvaeCodecError if ``folder`` is not a folder.
    """
    if folder.exists() and not folder.is_dir():
        raise NvaeCodecError(f"{folder}: it is not a folder")
    names = unpacking.archive.names
    restored = dict(zip(names, name_restored(unpacking.archive.entries), strict=True))
    targets = {name: folder / os.fsdecode(restored[name].encode()) for name in names if name in unpacking.wanted}
    done = list(_run(unpacking, targets, write_images))
    lost = [
        Problem(str(one), f"in this folder it is the same file as {other}", "")
        for one, other in find_same_files(targets.values())
    ]
    for problem in lost:
        unpacking.report.fail(problem)
    return not lost and not any(each.problems for each in done)


def find_same_files(targets: Iterable[Path]) -> Iterator[tuple[Path, Path]]:
    """Targets that differ in case or Unicode form and are one file, as on file systems that ignore these."""
    seen: dict[str, Path] = {}
    for target in targets:
        key = unicodedata.normalize("NFC", str(target).casefold())
        with contextlib.suppress(OSError):
            if key in seen and target.samefile(seen[key]):
                yield seen[key], target
        seen[key] = target


def unpack_to_arrays(unpacking: Unpacking, output: Path) -> bool:
    """Write an .npz with ``images`` if all can be restored; otherwise report. Returns whether it was written."""
    import numpy as np

    from nvae_codec.images.raster import GRAY8, RGB8

    archive = [unpacking.archive.path]
    own = Inputs(archive)
    own.refuse(output)
    check_absent(output, force=unpacking.force)
    entries = [entry for entry in unpacking.archive.entries if entry.name in unpacking.wanted]
    kinds = {(entry.height, entry.width, entry.colour) for entry in entries}
    if len(kinds) != 1 or next(iter(kinds))[2] not in (GRAY8, RGB8):
        raise NvaeCodecError(f"{output}: only gray or RGB images of one size go into one array")
    targets = dict.fromkeys((entry.name for entry in entries), output)
    done = list(_run(unpacking, targets, decode_images))
    complete = not any(each.problems for each in done)
    if complete:
        with open_atomic(output, force=unpacking.force, mask=shared_mode(archive), inputs=own) as out:
            np.savez_compressed(out, images=np.stack([pixels for each in done for pixels in each.pixels]))
    return complete


def check_segments(unpacking: Unpacking) -> Iterator[Done]:
    """Decode everything and report what is damaged; a result per segment."""
    targets = dict.fromkeys(unpacking.archive.names, unpacking.archive.path)
    return _run(unpacking, targets, check_images)


def name_restored(entries: Sequence[Entry]) -> list[str]:
    """The names of restored files: a.png for a.jpg, or a.jpg.png if there is another a.png, or a folder of that name.

    Images that are kept as their own files keep their names.
    """
    from nvae_codec.container.header import Kind

    def stays(entry: Entry) -> bool:
        return entry.kind is Kind.FILE or entry.name.lower().endswith(".png")

    taken = {entry.name for entry in entries if stays(entry)}
    taken.update(parent.as_posix() for entry in entries for parent in PurePosixPath(entry.name).parents)
    given = []
    for entry in entries:
        target = name = entry.name
        if not stays(entry):
            target = PurePosixPath(name).with_suffix(".png").as_posix()
            if target in taken:
                target = name + ".png"
            while target in taken:
                target += ".png"
            taken.add(target)
        given.append(target)
    return given


def _run(unpacking: Unpacking, targets: dict[str, Path], work: Callable[[Models, Task], Done]) -> Iterator[Done]:
    """Do the work of all segments that have targets, and report what goes wrong."""
    from nvae_codec.parallel.processes import Processes, map_in_order

    archive, report = unpacking.archive, unpacking.report
    tasks = []
    for number, segment in enumerate(archive.segments):
        wanted = tuple(targets.get(entry.name) for entry in segment.entries)
        if any(wanted):
            label = archive.name_segment(number)
            tasks.append(
                Task(archive.path, archive.identity, archive.extensions, segment, label, wanted, unpacking.force)
            )
    with report.progress(archive.path.name, sum(task.segment.length for task in tasks)) as bar:
        results = map_in_order(work, tasks, unpacking.models, Processes(unpacking.workers))
        for done in bar.follow_each(results, (task.segment.length for task in tasks)):
            for problem in done.problems:
                report.fail(problem)
            segment = done.task.segment
            pixels = sum(entry.width * entry.height for entry in segment.entries)
            text = f"{done.restored} images, {done.bytes_out:,} bytes"
            report.count(done.task.label, Outcome(text, done.restored, pixels, segment.length, done.bytes_out))
            yield done


def write_images(models: Models, task: Task) -> Done:
    """Write the images of a segment as PNGs."""
    from nvae_codec.images.write import write_png

    images, problems = _decode(models, task)
    if not images:
        return Done(task, 0, 0, [], problems)
    own, archive = Inputs([task.path]), Snapshot.of(task.path.stat())
    mask = shared_mode([task.path])
    written = count = 0
    for name, image, target in images:
        try:
            data = write_png(image)
            like = None if image.modified is None else replace(archive, modified=image.modified * 10**9)
            write_target(Job(None, target, in_folder=True), data, force=task.force, like=like, mask=mask, inputs=own)
            written, count = written + len(data), count + 1
        except Exception as error:
            problems.append(Problem.of(f"{task.path}: {name}", error))
    return Done(task, count, written, [], problems)


def decode_images(models: Models, task: Task) -> Done:
    """The pixels of a segment's images."""
    from nvae_codec.images.read import read_pixels

    images, problems = _decode(models, task)
    return Done(task, len(images), 0, [read_pixels(image, "an array") for _, image, _ in images], problems)


def check_images(models: Models, task: Task) -> Done:
    """Decode a segment's images and drop them."""
    images, problems = _decode(models, task)
    return Done(task, len(images), 0, [], problems)


def _decode(models: Models, task: Task) -> tuple[list[tuple[str, RasterImage, Path]], list[Problem]]:
    """Name, image and target of the images that have one, or the problem of the segment."""
    from nvae_codec.container.archive.reader import read_wanted

    wanted = {at: target for at, target in enumerate(task.targets) if target is not None}
    try:
        images = read_wanted(task.path, task.segment, task.identity, models, wanted, task.shared)
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # a panic of constriction is no Exception
        return [], [Problem.of(f"{task.path}: {task.label}", error)]
    names = [entry.name for entry in task.segment.entries]
    return [(names[at], images[at], target) for at, target in wanted.items()], []
