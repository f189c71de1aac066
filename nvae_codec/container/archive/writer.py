"""Writing an archive: images gathered into segments, coded one after another or in parallel, and the index."""

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import BinaryIO, Protocol, TypeVar

from nvae_codec.adaptation import DEFAULT_EFFORT
from nvae_codec.container.archive.index import (
    HEADER_BYTES,
    Index,
    Segment,
    archive_header,
    pack_index,
    segment_checksum,
)
from nvae_codec.container.archive.reader import Archive
from nvae_codec.container.archive.segment import Named, PackedSegment, pack_segment
from nvae_codec.container.extensions import ADAPTATION, Extensions, extension, find_extension, merge_extensions
from nvae_codec.errors import NvaeCodecError
from nvae_codec.parallel.processes import HERE, Workers, map_in_order
from nvae_codec.zoo.library import Models

USUAL_IMAGES = 256
USUAL_PIXELS = 1 << 22
"""Where nothing else is asked for, a segment ends at so many images or pixels: what one image costs to read."""
MOST_PIXELS = 1 << 26
"""A segment is decoded in memory at once, so it has no more pixels than that, unless it is a single image."""


def segment_limits(segment: int | None) -> tuple[int | None, int]:
    """Images and pixels of a segment for ``--segment``: None for the usual ones, 0 for all images."""
    return (USUAL_IMAGES, USUAL_PIXELS) if segment is None else (segment or None, MOST_PIXELS)


class Sized(Protocol):
    """What goes into segments by its size: an image, or one that is read later."""

    @property
    def width(self) -> int:
        """In pixels."""
        ...

    @property
    def height(self) -> int:
        """In pixels."""
        ...


Some = TypeVar("Some", bound=Sized)


def group_images(named: Iterable[tuple[str, Some]], most: int | None, pixels: int) -> Iterator[list[tuple[str, Some]]]:
    """Images in the segments that they go to: at most ``most`` each (None: any number), and so many pixels."""
    group: list[tuple[str, Some]] = []
    area = 0
    for name, image in named:
        size = image.width * image.height
        if group and (len(group) == most or area + size > pixels):
            yield group
            group, area = [], 0
        group.append((name, image))
        area += size
    if group:
        yield group


def write_archive(
    out: BinaryIO,
    groups: Iterable[Sequence[Named]],
    *,
    method: str,
    models: Models,
    effort: int = DEFAULT_EFFORT,
    workers: Workers = HERE,
    base: Archive | None = None,
    extensions: Extensions = (),
    shared: bytes = b"",
) -> Iterator[PackedSegment]:
    """Write an archive of these segments, after those of ``base`` if there is one, and yield each once it is written.

    The index follows the last of them, with the ``extensions`` of the archive and those of ``base``. The bytes are the
    same for any workers. ``shared`` is an adaptation that segments may use; new segments of ``base`` use that of
    ``base``. Raises as ``pack_segment`` and ``map_in_order`` do, and NvaeCodecError where a worker
    has another model.
    """
    identity = models.identity() if base is None else base.identity
    segments = [] if base is None else list(base.segments)
    end = HEADER_BYTES
    if base is None:
        out.write(archive_header(identity))
    else:
        with base.path.open("rb") as file:
            if not base.snapshot.is_same(os.fstat(file.fileno())):
                raise NvaeCodecError(f"{base.path}: it changed after it was read")
            shutil.copyfileobj(file, out)
        end = segments[-1].start + segments[-1].length if segments else HEADER_BYTES
        out.seek(end)
        out.truncate()
    kept = () if base is None else base.extensions
    if base is not None:  # a new adaptation would also hold for the old segments
        shared = find_extension(kept, ADAPTATION) or b""
    elif shared:
        extensions = merge_extensions(extensions, (extension(ADAPTATION, shared),))
    for packed in map_in_order(partial(_pack, method, effort, shared, identity), groups, models, workers):
        if packed.entries:
            out.write(packed.data)
            segments.append(Segment(end, len(packed.data), segment_checksum(packed.data), packed.entries))
            end += len(packed.data)
        yield packed
    out.write(pack_index(Index(identity, tuple(segments), merge_extensions(kept, extensions))))


def _pack(
    method: str, effort: int, shared: bytes, identity: bytes, models: Models, group: Sequence[Named]
) -> PackedSegment:
    if models.identity() != identity:  # another machine may have another model of the same name
        raise NvaeCodecError(f"a worker has model {models.identity()[:4].hex()}, not {identity[:4].hex()}")
    return pack_segment(group, method, models, effort, shared)
