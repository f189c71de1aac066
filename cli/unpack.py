"""nvae-codec unpack: an archive back into images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import click

from nvae_codec.errors import NvaeCodecError

from .files import Job, naming, open_beside, write_target
from .options import ModelName, how_many_pixels, how_many_workers, how_to_evaluate, how_to_report, refuse_stdout
from .report import explain, print_error, print_line, show_progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nvae_codec.container.archive.index import Segment
    from nvae_codec.container.archive.reader import Archive
    from nvae_codec.images.raster import RasterImage
    from nvae_codec.zoo.library import Models


@click.command("unpack")
@click.argument("file", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "-o",
    "output",
    metavar="FOLDER|OUT.npz",
    type=click.Path(path_type=Path),
    callback=refuse_stdout,
    help="Where to; an .npz takes images of one size, as images.  [default: FILE without .nvae]",
)
@click.option("--only", multiple=True, metavar="NAME", help="Only this image; repeatable.")
@click.option("--model", type=ModelName(), help="A model that is not installed, if FILE was made by it.")
@how_to_evaluate
@how_many_pixels
@how_many_workers
@click.option("-f", "--force", is_flag=True, help="Overwrite.")
@how_to_report
def unpack_command(
    file: Path,
    output: Path | None,
    only: tuple[str, ...],
    model: str | None,
    device: str,
    threads: int | None,
    batch_tiles: int | None,
    workers: int,
    force: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Restore the images of an archive as PNGs: holiday.nvae to holiday/.

    A damaged segment is named, and all others are restored. One image takes at most as long as the
    segment that it is in.
    """
    from nvae_codec.container.archive.reader import Archive
    from nvae_codec.zoo.library import Models

    models = Models(model, device=device, threads=threads or (1 if workers > 1 else None), batch_tiles=batch_tiles)
    with naming(file):
        archive = Archive(file, models)
    missing = [name for name in only if name not in archive.names]
    for name in missing:
        print_error("there is no such image", f"{file}: {name}")
    wanted = set(only or archive.names) - set(missing)
    if not wanted:
        return int(bool(missing))
    if output is not None and output.suffix.lower() == ".npz":
        complete = unpack_to_arrays(archive, models, output, wanted, workers=workers, force=force, quiet=quiet)
    else:
        folder = output or file.with_name(file.name.removesuffix(".nvae"))
        complete = unpack_to_folder(archive, models, folder, wanted, workers=workers, force=force, quiet=quiet)
    if verbose:
        print_line(f"{file}: {len(wanted)} of {len(archive)} images asked for")
    return int(not complete or bool(missing))


@dataclass(frozen=True)
class Task:
    """What a process does: restore the images of a segment that go somewhere."""

    path: Path
    identity: bytes
    segment: Segment
    label: str
    targets: tuple[Path | None, ...]
    force: bool


@dataclass(frozen=True)
class Done:
    """What became of a task: images where they were asked for, and (what, why) of all that went wrong."""

    count: int
    pixels: list[NDArray[np.uint8]]
    problems: list[tuple[str, str]]


def unpack_to_folder(
    archive: Archive, models: Models, folder: Path, wanted: set[str], *, workers: int, force: bool, quiet: bool
) -> bool:
    """Write PNGs and say what cannot be restored; whether that was nothing.

    Raises NvaeCodecError where ``folder`` is something else.
    """
    if folder.exists() and not folder.is_dir():
        raise NvaeCodecError(f"{folder}: it is no folder")
    names = dict(zip(archive.names, name_pngs(archive.names), strict=True))
    targets = {name: folder / names[name] for name in archive.names if name in wanted}
    done = list(_run(archive, models, targets, write_images, workers=workers, force=force, quiet=quiet))
    return not any(each.problems for each in done)


def unpack_to_arrays(
    archive: Archive, models: Models, output: Path, wanted: set[str], *, workers: int, force: bool, quiet: bool
) -> bool:
    """Write an .npz with ``images`` if all images can be restored, or say what cannot; whether they could."""
    import numpy as np

    from nvae_codec.images.raster import GRAY8, RGB8

    if output.exists() and not force:
        raise NvaeCodecError(f"{output}: it exists already (-f overwrites it)")
    kinds = {(e.height, e.width, e.colour) for e in archive.entries if e.name in wanted}
    if len(kinds) != 1 or next(iter(kinds))[2] not in (GRAY8, RGB8):
        raise NvaeCodecError(f"{output}: only gray or RGB images of one size go into one array")
    targets = dict.fromkeys((name for name in archive.names if name in wanted), output)
    pixels: list[NDArray[np.uint8]] = []
    complete = True
    for each in _run(archive, models, targets, decode_images, workers=workers, force=force, quiet=quiet):
        complete = complete and not each.problems
        pixels += each.pixels
    if complete:
        with open_beside(output) as out:
            np.savez_compressed(out, images=np.stack(pixels))
    return complete


def check_segments(archive: Archive, models: Models, *, workers: int) -> Iterator[Done]:
    """Decode everything and say what is damaged; a result a segment."""
    targets = dict.fromkeys(archive.names, archive.path)
    return _run(archive, models, targets, check_images, workers=workers, force=False, quiet=True)


def name_pngs(names: Sequence[str]) -> list[str]:
    """The PNGs that images are restored as: a.jpg as a.png, or as a.jpg.png where a.png is another."""
    taken = {name for name in names if name.lower().endswith(".png")}
    given = []
    for name in names:
        target = name
        if not name.lower().endswith(".png"):
            target = PurePosixPath(name).with_suffix(".png").as_posix()
            if target in taken:
                target = name + ".png"
            while target in taken:
                target += ".png"
            taken.add(target)
        given.append(target)
    return given


def _run(
    archive: Archive,
    models: Models,
    targets: dict[str, Path],
    work: Callable[[Models, Task], Done],
    *,
    workers: int,
    force: bool,
    quiet: bool,
) -> Iterator[Done]:
    """Do the work of all segments that have targets, and say what goes wrong."""
    from nvae_codec.parallel.processes import Processes, map_in_order

    tasks = []
    for number, segment in enumerate(archive.segments):
        places = tuple(targets.get(entry.name) for entry in segment.entries)
        if any(places):
            tasks.append(Task(archive.path, archive.identity, segment, archive.name_segment(number), places, force))
    with show_progress(archive.path.name, len(targets), quiet=quiet) as advance:
        for done in map_in_order(work, tasks, models, Processes(workers)):
            for name, reason in done.problems:
                print_error(reason, f"{archive.path}: {name}")
            advance(done.count)
            yield done


def write_images(models: Models, task: Task) -> Done:
    """Write the images of a segment as PNGs."""
    from nvae_codec.images.write import write_png

    images, problems = _decode(models, task)
    for name, image, target in images:
        try:
            write_target(Job(None, target, in_folder=True), write_png(image), force=task.force)
        except Exception as error:
            problems.append((name, explain(error)))
    return Done(len(task.segment.entries), [], problems)


def decode_images(models: Models, task: Task) -> Done:
    """The pixels of a segment's images."""
    from nvae_codec.images.read import read_pixels

    images, problems = _decode(models, task)
    return Done(len(task.segment.entries), [read_pixels(image, "an array") for _, image, _ in images], problems)


def check_images(models: Models, task: Task) -> Done:
    """Decode a segment's images and drop them."""
    return Done(len(task.segment.entries), [], _decode(models, task)[1])


def _decode(models: Models, task: Task) -> tuple[list[tuple[str, RasterImage, Path]], list[tuple[str, str]]]:
    """Name, image and target of those that go somewhere; or what is wrong with the segment."""
    from nvae_codec.container.archive.reader import read_wanted

    wanted = {place: target for place, target in enumerate(task.targets) if target is not None}
    try:
        images = read_wanted(task.path, task.segment, task.identity, models, wanted)
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # a panic of constriction is no Exception
        return [], [(task.label, explain(error))]
    names = [entry.name for entry in task.segment.entries]
    return [(names[place], images[place], target) for place, target in wanted.items()], []
