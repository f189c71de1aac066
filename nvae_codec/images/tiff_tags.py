"""The directories of a TIFF file: tags read with every bound checked, and written again as EXIF data."""

import struct
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from nvae_codec.errors import DamagedFileError, UnsupportedImageError

_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_CODES = {1: "B", 3: "H", 4: "I", 13: "I"}
_INTEROPERABILITY = 40965
_MOST_TAGS = 4096


@dataclass(frozen=True)
class Directory:
    """The tags of a directory: of each its type and its bytes, in the file's ``order``, ``<`` or ``>``."""

    data: bytes
    order: str
    tags: dict[int, tuple[int, bytes]]
    next: int  # where the next one is; 0: there is none
    used: tuple[tuple[int, int], ...]  # start and end of all bytes that it, and those within it, lead to

    def raw(self, tag: int) -> bytes:
        """The bytes of a tag that is there."""
        return self.tags[tag][1]

    def numbers(self, tag: int, missing: tuple[int, ...]) -> tuple[int, ...]:
        """The integers of a tag. Raises DamagedFileError where it has others."""
        if tag not in self.tags:
            return missing
        kind, raw = self.tags[tag]
        if kind not in _CODES or not raw:
            raise DamagedFileError(f"damaged TIFF: tag {tag} has no integers")
        return struct.unpack(f"{self.order}{len(raw) // _BYTES[kind]}{_CODES[kind]}", raw)

    def number(self, tag: int, missing: int) -> int:
        """The first integer of a tag."""
        return self.numbers(tag, (missing,))[0]

    def ratio(self, tag: int) -> float:
        """The first rational number of a tag; 0 where there is none."""
        kind, raw = self.tags.get(tag, (0, b""))
        if kind != 5 or len(raw) < 8:
            return 0.0
        above, below = struct.unpack_from(f"{self.order}II", raw)
        return above / below if below else 0.0


def read_directory(data: bytes) -> Directory:
    """The first directory of a TIFF file. Raises DamagedFileError, and UnsupportedImageError for BigTIFF."""
    order = {b"II": "<", b"MM": ">"}[data[:2]]
    if len(data) < 8:
        raise DamagedFileError("truncated TIFF: its header is missing")
    version, offset = struct.unpack_from(f"{order}HI", data, 2)
    if version != 42:
        kind = "BigTIFF" if version == 43 else f"TIFF of version {version}"
        raise UnsupportedImageError(f"{kind} is not supported")
    return _read_at(data, order, offset, depth=0)


def _read_at(data: bytes, order: str, offset: int, depth: int) -> Directory:
    if offset < 8 or offset + 2 > len(data):
        raise DamagedFileError("truncated TIFF: its directory is missing")
    (count,) = struct.unpack_from(f"{order}H", data, offset)
    end = offset + 2 + 12 * count + 4
    if not 0 < count <= _MOST_TAGS or end > len(data):
        raise DamagedFileError("truncated TIFF: it ends within its directory")
    tags: dict[int, tuple[int, bytes]] = {}
    used = [(offset, end)]
    for at in range(offset + 2, end - 4, 12):
        tag, kind, amount = struct.unpack_from(f"{order}HHI", data, at)
        size = _BYTES.get(kind, 0) * amount
        if kind not in _BYTES:
            continue  # types of later versions, which the specification lets readers pass over
        start = at + 8 if size <= 4 else struct.unpack_from(f"{order}I", data, at + 8)[0]
        if start + size > len(data):
            raise DamagedFileError(f"truncated TIFF: the value of tag {tag} is missing")
        value = data[start : start + size]
        if tag in tags:
            if kind != 2 or tags[tag][0] != 2:
                raise UnsupportedImageError(f"TIFF with tag {tag} twice is not supported")
            value = tags[tag][1].rstrip(b"\0") + b"\0" + value  # a tag of text may have several
        tags[tag] = kind, value
        used.append((start, start + size))
    (following,) = struct.unpack_from(f"{order}I", data, end - 4)
    directory = Directory(data, order, tags, following, ())
    if depth < 2:
        for tag in (34665, 34853, _INTEROPERABILITY):
            within = read_within(directory, tag, depth + 1)
            used += () if within is None else within.used
    return Directory(data, order, tags, following, tuple(used))


def read_within(directory: Directory, tag: int, depth: int = 1) -> Directory | None:
    """The directory that a tag leads to, such as that of EXIF data; None where there is none."""
    if tag not in directory.tags:
        return None
    return _read_at(directory.data, directory.order, directory.number(tag, 0), depth)


def pack_directories(directory: Directory, without: Collection[int], within: Sequence[int]) -> bytes:
    """A TIFF structure, as EXIF data are one, of all tags but those ``without`` and of the directories ``within``.

    Empty where nothing is left.
    """
    own = {tag: value for tag, value in directory.tags.items() if tag not in without and tag not in within}
    inner = {tag: found for tag in within if (found := read_within(directory, tag)) is not None}
    if not own and not inner:
        return b""
    out = bytearray({"<": b"II", ">": b"MM"}[directory.order] + struct.pack(f"{directory.order}HI", 42, 8))
    _append(out, directory.order, own, inner)
    return bytes(out)


def _append(out: bytearray, order: str, tags: dict[int, tuple[int, bytes]], inner: dict[int, Directory]) -> None:
    """Append a directory, then its values, then the directories within it."""
    start, every = len(out), sorted({*tags, *inner})
    out += struct.pack(f"{order}H", len(every)) + bytes(12 * len(every) + 4)
    for number, tag in enumerate(every):
        at = start + 2 + 12 * number
        if tag in inner:
            struct.pack_into(f"{order}HHII", out, at, tag, 4, 1, len(out))
            found = inner[tag]
            deeper = read_within(found, _INTEROPERABILITY, 2)
            below = {} if deeper is None else {_INTEROPERABILITY: deeper}
            _append(out, order, {each: value for each, value in found.tags.items() if each not in below}, below)
            continue
        kind, raw = tags[tag]
        struct.pack_into(f"{order}HHI", out, at, tag, kind, len(raw) // _BYTES[kind])
        if len(raw) <= 4:
            out[at + 8 : at + 8 + len(raw)] = raw
        else:
            struct.pack_into(f"{order}I", out, at + 8, len(out))
            out += raw + bytes(len(raw) % 2)
