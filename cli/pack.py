"""nvae-codec pack: many pictures into one archive."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nvae_codec.errors import NvaeCodecError

from .files import hold, open_beside
from .options import ModelName, how_large_segments, how_many_pixels, how_many_workers, how_to_evaluate, how_to_report
from .report import explain, print_error, print_line, show_progress

if TYPE_CHECKING:
    from nvae_codec.container.segment import Named
    from nvae_codec.evaluation.inputs import Input
    from nvae_codec.images.picture import Picture


@click.command("pack")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...", type=click.Path(exists=True, path_type=Path))
@click.option("-o", "output", required=True, metavar="FILE", type=click.Path(path_type=Path), help="The archive.")
@how_large_segments
@click.option("--append", is_flag=True, help="Add to FILE. If that is interrupted, FILE stays as it was.")
@click.option("--model", type=ModelName(), help="Model to code with.  [default: photo; with --append FILE's]")
@click.option(
    "--method",
    type=click.Choice(["auto", "model", "webp", "stored"]),
    default="auto",
    show_default=True,
    help="How each picture is kept: see nvae-codec compress.",
)
@how_to_evaluate
@how_many_pixels
@how_many_workers
@click.option("-f", "--force", is_flag=True, help="Overwrite FILE.")
@how_to_report
def pack_command(
    inputs: tuple[Path, ...],
    output: Path,
    segment: int | None,
    append: bool,
    model: str | None,
    method: str,
    device: str,
    threads: int | None,
    batch_tiles: int | None,
    workers: int,
    force: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Keep many pictures in one archive, without loss: holiday/ to holiday.nvae.

    INPUT is a picture file as compress takes it, a folder of them, or an .npz file with images, uint8 (N,H,W,3) or
    (N,H,W). Files keep their names, those of a folder their paths in it; arrays are named by their place: 00000.png.
    """
    from nvae_codec import open_archive
    from nvae_codec.container.pack import group_pictures, segment_limits, write_archive
    from nvae_codec.model_library import Models, find_by_identity

    if output.is_dir() or (output.exists() and not force and not append):
        reason = "it is a folder" if output.is_dir() else "it exists already (-f overwrites it, --append adds to it)"
        raise NvaeCodecError(f"{output}: {reason}")
    if append and output.exists():
        click.get_current_context().with_resource(hold(output))  # until the command ends
    base = open_archive(output) if append and output.exists() else None
    if base is not None and model is None:
        model = str(find_by_identity(base.identity).path)
    models = Models(model, device=device, threads=threads or (1 if workers > 1 else None), batch_tiles=batch_tiles)
    if base is not None and models.identity() != base.identity:
        there, here = base.identity[:4].hex(), models.identity()[:4].hex()
        raise NvaeCodecError(f"{output}: its pictures are coded with model {there}, not {here}")
    found = list_inputs(inputs, [] if base is None else base.names)
    reader = Reader(found)
    groups = group_pictures(reader.read(), *segment_limits(segment))
    done = 0
    with show_progress(f"{len(found)} pictures", len(found), quiet=quiet) as advance, open_beside(output) as out:
        for packed in write_archive(out, groups, method=method, models=models, workers=workers, base=base):
            for name, reason in packed.problems:
                reader.fail(name, NvaeCodecError(reason))
            done += len(packed.entries)
            advance(len(packed.entries) + len(packed.problems))
        size = out.tell()
        if not done:
            raise NvaeCodecError(f"{output}: no picture to write")
    if verbose:
        print_line(f"{output}: {done} pictures, {size:,} bytes")
    return int(reader.failed)


def list_inputs(paths: tuple[Path, ...], there: list[str]) -> list[tuple[str, Input, str]]:
    """The names and pictures of all inputs, and why a name cannot stand beside the others and those that are there."""
    from nvae_codec.container.names import Names
    from nvae_codec.evaluation.inputs import find_inputs

    names = Names(there)
    found: list[tuple[str, Input, str]] = []
    for path in paths:
        for item in find_inputs([path]):
            place = f"{len(there) + len(found):05d}.png"
            name = place if path.suffix.lower() == ".npz" else item.name
            found.append((name, item, names.add(name)))
    return found


class Reader:
    """Reads pictures one after another, names those that cannot be read, and goes on."""

    def __init__(
        self, found: list[tuple[str, Input, str]], read: Callable[[Input], Picture] = lambda item: item.read()
    ) -> None:
        """``read``: how, as for a model that takes only some pictures."""
        self.found, self._read, self.failed = found, read, False

    def fail(self, name: str, error: Exception) -> None:
        """Say what is wrong with a picture."""
        self.failed = True
        print_error(explain(error), name)

    def read(self) -> Iterator[Named]:
        """Names and pictures."""
        for name, item, problem in self.found:
            try:
                if problem:
                    raise NvaeCodecError(f"the name {problem}")
                picture = self._read(item)
            except Exception as error:
                self.fail(name, error)
            else:
                yield name, picture
