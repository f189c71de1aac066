"""Reading an archive: any image by name or index, by decoding the segment that it is in."""

from __future__ import annotations

import bisect
import io
import itertools
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from nvae_codec.container.archive.index import Entry, Segment, is_archive, read_index, segment_checksum
from nvae_codec.container.archive.segment import unpack_wanted
from nvae_codec.container.extensions import Extensions
from nvae_codec.container.image import CodecFinder
from nvae_codec.errors import DamagedFileError
from nvae_codec.files import Snapshot
from nvae_codec.images.layout import Samples
from nvae_codec.images.raster import RasterImage
from nvae_codec.images.samples import samples_of


class Archive:
    """The images in an archive, by name as in a dictionary, or by index.

    Opening reads only the index. Reading in order decodes each segment once, since what was decoded of the segment
    read last is kept. Of a segment that is read out of order, the first image is decoded with those on the way to it;
    the next one that is not among them, with all.

    Examples::

        with nvae_codec.open_archive("holiday.nvae") as archive:
            print(archive.names, archive.sizes)
            pixels = archive["beach/1.png"]  # as archive.read("beach/1.png")
            for name in archive:
                archive[name].mean()
    """

    def __init__(self, path: str | Path, codecs: CodecFinder) -> None:
        """Raises DamagedFileError for a file that is no archive or has no sound index, and OSError."""
        self.path, self._codecs = Path(path), codecs
        with self.path.open("rb") as file:
            index = read_index(file)
            self.file_bytes = file.seek(0, io.SEEK_END)
            self.snapshot = Snapshot.of(os.fstat(file.fileno()))
        self.identity: bytes = index.identity
        self.segments: tuple[Segment, ...] = index.segments
        self.extensions = index.extensions
        self.shard = index.shard
        self.entries: list[Entry] = [entry for segment in index.segments for entry in segment.entries]
        self.names: list[str] = [entry.name for entry in self.entries]
        self._index = {name: index for index, name in enumerate(self.names)}
        self._first = [0, *itertools.accumulate(segment.images for segment in index.segments)]
        self._last = -1
        self.close()

    def close(self) -> None:
        """Forget what was decoded. Every read opens the file for itself, so the archive can still be read."""
        self._kept: tuple[int, dict[int, RasterImage]] = -1, {}

    def __enter__(self) -> Archive:
        """The archive itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs to read the same archive."""
        return self.__dict__ | {"_kept": (-1, {})}

    def __repr__(self) -> str:
        """Path, images and segments."""
        return f"<Archive {str(self.path)!r}: {len(self.entries)} images in {len(self.segments)} segments>"

    def __len__(self) -> int:
        """How many images there are."""
        return len(self.entries)

    def __iter__(self) -> Iterator[str]:
        """The names in their order."""
        return iter(self.names)

    def __contains__(self, name: object) -> bool:
        """Whether an image has this name."""
        return name in self._index

    def __getitem__(self, name_or_index: str | int) -> Samples:
        """An image's pixels, as ``read`` gives them."""
        return self.read(name_or_index)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(height, width) of each image."""
        return [(entry.height, entry.width) for entry in self.entries]

    def read(self, name_or_index: str | int) -> Samples:
        """An image's pixels, (H, W) or (H, W, C), as ``nvae_codec.decompress`` gives them.

        They are the caller's own to change. An index below 0 counts from the end. Raises KeyError or IndexError for an
        image that is not in it, UnsupportedImageError for palettes and for 2 and 4 bits a sample, and what
        ``read_segment`` raises.
        """
        return samples_of(self.read_image(name_or_index), "read").copy()

    def read_image(self, name_or_index: str | int) -> RasterImage:
        """An image with its metadata; raises as ``read``."""
        if isinstance(name_or_index, str):
            index = self._index[name_or_index]
        else:
            index = range(len(self.entries))[name_or_index]
        number = bisect.bisect_right(self._first, index) - 1
        within = index - self._first[number]
        in_order, self._last = index == self._last + 1, index
        if self._kept[0] != number and not in_order:
            self._kept = number, self._read_wanted(number, [within])
        elif self._kept[0] != number or within not in self._kept[1]:
            self._kept = number, dict(enumerate(self.read_segment(number)))
        return self._kept[1][within]

    def read_segment(self, number: int) -> list[RasterImage]:
        """The images of a segment. Raises DamagedFileError, which names it, UnknownModelError, OSError."""
        return list(self._read_wanted(number, range(self.segments[number].images)).values())

    def _read_wanted(self, number: int, wanted: Collection[int]) -> dict[int, RasterImage]:
        segment = self.segments[number]
        try:
            return read_wanted(self.path, segment, self.identity, self._codecs, wanted, self.extensions)
        except DamagedFileError as error:
            raise DamagedFileError(f"{self.name_segment(number)}: {error}") from error

    def name_segment(self, number: int) -> str:
        """What messages call a segment."""
        entries = self.segments[number].entries
        through = f"{entries[0].name} to {entries[-1].name}" if len(entries) > 1 else entries[0].name
        return f"segment {number + 1} of {len(self.segments)} ({through})"


def read_wanted(
    path: Path, segment: Segment, identity: bytes, codecs: CodecFinder, wanted: Collection[int], shared: Extensions = ()
) -> dict[int, RasterImage]:
    """What ``unpack_wanted`` gives of a segment of an archive at ``path``; raises as it does, and OSError."""
    with path.open("rb") as file:  # for each read: so no process shares a position with another
        file.seek(segment.start)
        data = file.read(segment.length)
    if segment_checksum(data) != segment.checksum:
        raise DamagedFileError("damaged: its checksum is wrong")
    return unpack_wanted(data, segment.entries, identity, codecs, wanted, shared)


def is_archive_file(path: Path) -> bool:
    """Whether a file begins as an archive does; False where it cannot be read."""
    try:
        with path.open("rb") as file:
            return is_archive(file.read(4))
    except OSError:
        return False
