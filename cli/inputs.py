"""The inputs of pack and evaluate: images that are read one after another; unreadable ones are reported."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .report import Problem, Reporter

if TYPE_CHECKING:
    from nvae_codec.container.archive.index import Entry
    from nvae_codec.container.archive.segment import Named
    from nvae_codec.evaluation.inputs import Input
    from nvae_codec.images.find import Findings
    from nvae_codec.images.raster import RasterImage

Found = tuple[str, "Input", str]
"""Name, image, and why the name is refused, or an empty string."""


def list_inputs(paths: tuple[Path, ...], there: list[str], left: Findings) -> list[Found]:
    """The images of all inputs, with names that do not conflict with each other and with existing ones.

    ``left`` collects the files in folders that are left out.
    """
    from nvae_codec.container.archive.index import check_count
    from nvae_codec.container.archive.names import name_problems
    from nvae_codec.evaluation.inputs import find_inputs

    items = [(path.suffix.lower() == ".npz", item) for path in paths for item in find_inputs([path], left)]
    start = len(there)
    check_count(start + len(items))
    names = [f"{index:05d}.png" if is_array else item.name for index, (is_array, item) in enumerate(items, start)]
    problems = name_problems([*there, *names])
    found = zip(names, (item for _, item in items), strict=True)
    return [(name, item, problems.get(index, "")) for index, (name, item) in enumerate(found, start)]


@dataclass(frozen=True)
class Unread:
    """An image that is read later. Its segment depends on its size in pixels: 0 where that is unknown."""

    item: Input
    width: int
    height: int


class Reader:
    """Reads images one after another, reports those that cannot be read, and goes on."""

    def __init__(
        self, found: list[Found], report: Reporter, read: Callable[[Input], RasterImage] = lambda item: item.read()
    ) -> None:
        """``read``: how to read an image, such as for a model that takes only some images."""
        self.found, self._report, self._read = found, report, read
        self.bytes_read = 0
        self._has_own_file: dict[str, bool] = {}  # of images that came neither as PNGs nor in arrays

    def count_as_pixels(self, entries: Iterable[Entry]) -> int:
        """How many images came in a file that is no PNG and are not kept as that file."""
        from nvae_codec.container.header import Kind

        return sum(
            each.name in self._has_own_file and not (each.kind is Kind.FILE and self._has_own_file[each.name])
            for each in entries
        )

    def refuse_names(self) -> None:
        """Report the names that conflict with others."""
        for name, _, problem in self.found:
            if problem:
                self._report.fail(Problem(name, f"the name {problem}", ""))

    def measure(self) -> Iterator[tuple[str, Unread]]:
        """All images with valid names; only their headers are read."""
        for name, item, problem in self.found:
            if not problem:
                yield name, Unread(item, *item.size())

    def read_all(self) -> Iterator[Named]:
        """Names and images of all."""
        self.refuse_names()
        return self.read(self.measure())

    def read(self, measured: Iterable[tuple[str, Unread]]) -> Iterator[Named]:
        """Names and images."""
        from nvae_codec.images.png import SIGNATURE

        for name, unread in measured:
            try:
                image = self._read(unread.item)
            except Exception as error:
                self._report.fail(Problem.of(name, error))
            else:
                self.bytes_read += unread.item.bytes
                if unread.item.path.suffix.lower() != ".npz" and not (image.file or b"").startswith(SIGNATURE):
                    self._has_own_file[name] = image.file is not None
                yield name, image
