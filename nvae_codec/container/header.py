"""A file's header and its place between magic and trailer; ``docs/format.md`` describes every byte of it.

    magic d6 4e ┬ version ┬ kind, colour, metadata? ┬ [model, 4] ┬ width ┬ height ┬ [plan] ┬ content checksum, 8
    [metadata length ┬ metadata block] ┬ payload ┬ file checksum, 4

The payload has no length of its own: it ends where the last four bytes begin.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from nvae_codec.container.checksums import FILE_CHECKSUM_BYTES, bytes_checksum
from nvae_codec.container.fields import LARGEST, ByteReader, pack_varint
from nvae_codec.errors import DamagedFileError
from nvae_codec.images.levels import Shown
from nvae_codec.images.raster import COLOURS, GRAY1, GRAY8, IN_BYTES, RGB8, WHOLE_BYTES, Colour

MAGIC = b"\xd6N"  # the first byte is no ASCII (and no UTF-8 before an N), so that text tools keep away
VERSION = 1
ID_BYTES = 4  # how much of a model's identity a header carries

LARGEST_SIDE = (1 << 31) - 1
ARCHIVE = 7
"""What stands in the place of kind and colour in an archive of many images (container/index.py)."""

_METADATA_FLAG = 0x80


class Kind(IntEnum):
    """What a payload is; the other numbers up to 7 are free for what comes later."""

    MODEL = 1  # through a model's codec: pixels whose values are the model's levels
    WEBP = 2  # samples of at most 8 bits as a VP8L stream
    PIXELS = 3  # samples of at most 8 bits as they are, a byte each
    PNG = 4  # a PNG file as it is
    MODEL_SPREAD = 5  # through a model's codec: its levels spread over 0 to 255
    MODEL_SHIFTED = 6  # through a model's codec: its levels in the highest bits


MODEL_KINDS = {Kind.MODEL: Shown.PLAIN, Kind.MODEL_SPREAD: Shown.SPREAD, Kind.MODEL_SHIFTED: Shown.SHIFTED}
"""How images that a model codes show its levels."""
METHOD_NAMES = {**dict.fromkeys(MODEL_KINDS, "model"), Kind.WEBP: "webp", Kind.PIXELS: "stored", Kind.PNG: "stored"}


COLOURS_OF = {
    Kind.MODEL: (GRAY1, *WHOLE_BYTES),
    Kind.MODEL_SPREAD: (GRAY8, RGB8),
    Kind.MODEL_SHIFTED: (GRAY8, RGB8),
    Kind.WEBP: IN_BYTES,
    Kind.PIXELS: IN_BYTES,
    Kind.PNG: COLOURS,
}
"""What each kind can hold."""


@dataclass(frozen=True)
class Header:
    """The fields that say what a file holds; ``model_id`` and ``plan`` belong to model images alone."""

    kind: Kind
    colour: Colour
    width: int
    height: int
    content_checksum: bytes
    model_id: bytes = b""
    plan: tuple[int, ...] = ()


@dataclass(frozen=True)
class Parts:
    """A whole file, taken apart: header, metadata block (empty where there is none) and payload."""

    header: Header
    metadata: bytes
    payload: bytes


def join_parts(parts: Parts) -> bytes:
    """The bytes of the file."""
    header = parts.header
    out = bytearray(MAGIC)
    out += bytes((VERSION, pack_kind(header.kind, header.colour, bool(parts.metadata))))
    out += header.model_id
    out += pack_varint(header.width) + pack_varint(header.height)
    if header.kind in MODEL_KINDS:
        out += pack_varint(len(header.plan)) + b"".join(pack_varint(size) for size in header.plan)
    out += header.content_checksum
    if parts.metadata:
        out += pack_varint(len(parts.metadata)) + parts.metadata
    out += parts.payload
    out += bytes_checksum(bytes(out))
    return bytes(out)


def split_parts(data: bytes) -> Parts:
    """Take a file apart, its checksum first, and every length checked against the file's own before it is used.

    Raises DamagedFileError, in words that tell a file of another kind or of a newer version from a damaged one.
    """
    _check_magic(data)
    end = len(data) - FILE_CHECKSUM_BYTES
    if bytes_checksum(memoryview(data)[:end]) != data[end:]:
        raise DamagedFileError("damaged or truncated: its checksum is wrong")
    return _split(data, end)


def split_beginning(data: bytes) -> Parts:
    """Header and metadata from the beginning of a file, for those who only look: its checksum is not verified.

    The payload is what there is of the rest. Raises DamagedFileError as ``split_parts`` does, and where the beginning
    is too short.
    """
    _check_magic(data)
    return _split(data, len(data))


def _check_magic(data: bytes) -> None:
    if not data:
        raise DamagedFileError("empty file")
    if not data.startswith(MAGIC):
        raise DamagedFileError("truncated .nvae file" if MAGIC.startswith(data) else "not an .nvae file")
    if len(data) < len(MAGIC) + 1 + FILE_CHECKSUM_BYTES:
        raise DamagedFileError("truncated .nvae file")
    if data[len(MAGIC)] != VERSION:
        newer = (
            f"; this nvae-codec reads version {VERSION}: a newer one may read it" if data[len(MAGIC)] > VERSION else ""
        )
        raise DamagedFileError(f"a file of format version {data[len(MAGIC)]}{newer}")
    if data[len(MAGIC) + 1] == ARCHIVE:
        raise DamagedFileError("an archive of images, not one: nvae-codec unpack restores them")


def _split(data: bytes, end: int) -> Parts:
    reader = ByteReader(data, len(MAGIC) + 1, end)
    header, with_metadata = _read_header(reader)
    metadata = reader.take(reader.varint(FILE_CHECKSUM_BYTES + 1, LARGEST)) if with_metadata else b""
    return Parts(header, metadata, reader.take(reader.left))


def _read_header(reader: ByteReader) -> tuple[Header, bool]:
    """The header up to the content checksum, and whether there is metadata."""
    kind, colour, with_metadata = read_kind(reader.take(1)[0])
    model_id = reader.take(ID_BYTES) if kind in MODEL_KINDS else b""
    width, height = reader.varint(1, LARGEST_SIDE), reader.varint(1, LARGEST_SIDE)
    plan: tuple[int, ...] = ()
    if kind in MODEL_KINDS:
        plan = tuple(reader.varint(0, LARGEST) for _ in range(reader.varint(0, reader.left)))
    return Header(kind, colour, width, height, reader.take(8), model_id, plan), with_metadata


def model_kind(shown: Shown) -> Kind:
    """The kind of an image that a model codes."""
    return next(kind for kind, way in MODEL_KINDS.items() if way is shown)


def pack_kind(kind: Kind, colour: Colour, with_metadata: bool) -> int:
    """The byte that says what an image is and how it is kept."""
    return kind | COLOURS.index(colour) << 3 | (_METADATA_FLAG if with_metadata else 0)


def read_kind(byte: int) -> tuple[Kind, Colour, bool]:
    """Kind, colour, and whether there is metadata; raises DamagedFileError where they do not belong together."""
    kind_number, colour_number = byte & 7, byte >> 3 & 15
    if kind_number not in list(Kind) or colour_number >= len(COLOURS):
        raise DamagedFileError("a file of a kind that this nvae-codec does not know: a newer one may read it")
    kind, colour, with_metadata = Kind(kind_number), COLOURS[colour_number], bool(byte & _METADATA_FLAG)
    if colour not in COLOURS_OF[kind] or (kind is Kind.PNG and with_metadata):
        raise DamagedFileError("damaged: a kind of file that cannot hold its kind of image")
    return kind, colour, with_metadata
