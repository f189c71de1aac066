"""Writing an archive: pictures gathered into segments, coded one after another or in parallel, and the index."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import BinaryIO

from nvae_codec.container.archive import Archive
from nvae_codec.container.index import HEADER_BYTES, Index, Segment, archive_header, pack_index, segment_checksum
from nvae_codec.container.parallel import map_in_order
from nvae_codec.container.segment import Named, PackedSegment, pack_segment
from nvae_codec.model_library import Models

USUAL_PICTURES = 256
USUAL_PIXELS = 1 << 22
"""Where nothing else is asked for, a segment ends at so many pictures or pixels: what one picture costs to read."""
MOST_PIXELS = 1 << 26
"""A segment is decoded in memory at once, so it has no more pixels than that, unless it is a single picture."""


def segment_limits(segment: int | None) -> tuple[int | None, int]:
    """Pictures and pixels of a segment for ``--segment``: None for the usual ones, 0 for all pictures."""
    return (USUAL_PICTURES, USUAL_PIXELS) if segment is None else (segment or None, MOST_PIXELS)


def group_pictures(named: Iterable[Named], most: int | None, pixels: int) -> Iterator[list[Named]]:
    """Pictures in the segments that they go to: at most ``most`` each (None: any number), and so many pixels."""
    group: list[Named] = []
    area = 0
    for name, picture in named:
        size = picture.width * picture.height
        if group and (len(group) == most or area + size > pixels):
            yield group
            group, area = [], 0
        group.append((name, picture))
        area += size
    if group:
        yield group


def write_archive(
    out: BinaryIO,
    groups: Iterable[Sequence[Named]],
    *,
    method: str,
    models: Models,
    workers: int = 1,
    base: Archive | None = None,
) -> Iterator[PackedSegment]:
    """Write an archive of these segments, behind those of ``base`` where there is one; gives each once it is written.

    The index follows with the last of them. The bytes are the same for any number of workers. Raises as
    ``pack_segment`` and ``map_in_order`` do.
    """
    identity = models.identity() if base is None else base.identity
    segments = [] if base is None else list(base.segments)
    end = HEADER_BYTES
    if base is None:
        out.write(archive_header(identity))
    else:
        with base.path.open("rb") as file:
            shutil.copyfileobj(file, out)
        end = segments[-1].start + segments[-1].length if segments else HEADER_BYTES
        out.seek(end)
        out.truncate()
    for packed in map_in_order(partial(_pack, method), groups, models, workers):
        if packed.entries:
            out.write(packed.data)
            segments.append(Segment(end, len(packed.data), segment_checksum(packed.data), packed.entries))
            end += len(packed.data)
        yield packed
    out.write(pack_index(Index(identity, tuple(segments))))


def _pack(method: str, models: Models, group: Sequence[Named]) -> PackedSegment:
    return pack_segment(group, method, models)
