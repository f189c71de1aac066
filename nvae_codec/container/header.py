"""The file of one image: magic, header, payload, checksum. ``docs/format.md`` describes every byte.

    magic d6 4e ┬ version ┬ kind, colour, extended? ┬ fields of HEADER ┬ payload ┬ file checksum, 4

The payload has no length of its own: it ends where the last four bytes begin.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from nvae_codec.container.checksums import FILE_CHECKSUM_BYTES, bytes_checksum
from nvae_codec.container.extensions import EXTENSIONS, METADATA, Extensions, find_extension
from nvae_codec.container.fields import VARINTS, ByteReader, Field, fixed, pack_fields, read_fields, varint
from nvae_codec.errors import DamagedFileError
from nvae_codec.images.levels import Shown
from nvae_codec.images.raster import COLOURS, GRAY1, GRAY8, IN_BYTES, RGB8, WHOLE_BYTES, Colour

MAGIC = b"\xd6N"  # not ASCII, and not UTF-8 before an N, so that text tools do not take the file for text
VERSION = 1
ID_BYTES = 4  # of the model's identity in a header

LARGEST_SIDE = (1 << 31) - 1
ARCHIVE = 7
"""The byte of an archive where a file of one image has its kind and colour (container/archive/index.py)."""

_FLAG = 0x80


class Kind(IntEnum):
    """The kind of a payload; 0 is unused."""

    MODEL = 1  # coded by a model: the pixels are the model's levels
    WEBP = 2  # samples of at most 8 bits as a VP8L stream
    PIXELS = 3  # samples of at most 8 bits as they are, a byte each
    FILE = 4  # the image's own file as it is: a PNG, JPEG or WebP
    MODEL_SPREAD = 5  # coded by a model: its levels are spread over 0 to 255
    MODEL_SHIFTED = 6  # coded by a model: its levels are in the highest bits


MODEL_KINDS = {Kind.MODEL: Shown.PLAIN, Kind.MODEL_SPREAD: Shown.SPREAD, Kind.MODEL_SHIFTED: Shown.SHIFTED}
"""The kinds of payloads of models, and how their images represent the model's levels."""
METHOD_NAMES = {**dict.fromkeys(MODEL_KINDS, "model"), Kind.WEBP: "webp", Kind.PIXELS: "stored", Kind.FILE: "stored"}


COLOURS_OF = {
    Kind.MODEL: (GRAY1, *WHOLE_BYTES),
    Kind.MODEL_SPREAD: (GRAY8, RGB8),
    Kind.MODEL_SHIFTED: (GRAY8, RGB8),
    Kind.WEBP: IN_BYTES,
    Kind.PIXELS: IN_BYTES,
    Kind.FILE: COLOURS,
}
"""The colours that each kind can have."""


@dataclass(frozen=True)
class Header:
    """The fields that say what a file holds; only images that a model codes have ``model_id`` and ``plan``."""

    kind: Kind
    colour: Colour
    width: int
    height: int
    content_checksum: bytes
    model_id: bytes = b""
    plan: tuple[int, ...] = ()
    extensions: Extensions = ()


SIDE = varint(1, LARGEST_SIDE)
HEADER: Mapping[str, Field] = {
    "model_id": fixed(ID_BYTES),
    "width": SIDE,
    "height": SIDE,
    "plan": VARINTS,
    "content_checksum": fixed(8),
    "extensions": EXTENSIONS,
}
"""The fields of a header after its first four bytes, in their order."""


def header_fields(kind: Kind, *, extended: bool) -> Mapping[str, Field]:
    """The fields that the header of such a file has."""
    absent = {"extensions": not extended, "model_id": kind not in MODEL_KINDS, "plan": kind not in MODEL_KINDS}
    return {name: field for name, field in HEADER.items() if not absent.get(name)}


@dataclass(frozen=True)
class Parts:
    """The parts of a file."""

    header: Header
    payload: bytes

    @property
    def metadata(self) -> bytes:
        """The metadata block, or empty bytes."""
        return find_extension(self.header.extensions, METADATA) or b""


def join_parts(parts: Parts) -> bytes:
    """The bytes of the file."""
    header = parts.header
    extended = bool(header.extensions)
    out = MAGIC + bytes((VERSION, pack_kind(header.kind, header.colour, extended)))
    out += pack_fields(header_fields(header.kind, extended=extended), header) + parts.payload
    return out + bytes_checksum(out)


def split_parts(data: bytes) -> Parts:
    """Split a file into its parts. Its checksum is verified first, and each length before it is used.

    Raises DamagedFileError, whose message distinguishes damaged files, files of another kind and of a newer version.
    """
    _check_magic(data)
    end = len(data) - FILE_CHECKSUM_BYTES
    if bytes_checksum(memoryview(data)[:end]) != data[end:]:
        raise DamagedFileError("damaged or truncated: its checksum is wrong")
    return _split(data, end)


def split_beginning(data: bytes) -> Parts:
    """The header from the beginning of a file, whose checksum is not verified; the payload is what ``data`` has of it.

    Raises DamagedFileError as ``split_parts`` does, and where the beginning is too short.
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
    check_version(data[len(MAGIC)])
    if data[len(MAGIC) + 1] == ARCHIVE:
        raise DamagedFileError("an archive of images, not one: nvae-codec unpack restores them")


def check_version(version: int) -> None:
    """Raise DamagedFileError for a file of another version of the format."""
    if version != VERSION:
        newer = f"; this nvae-codec reads version {VERSION}: a newer one may read it" if version > VERSION else ""
        raise DamagedFileError(f"a file of format version {version}{newer}")


def _split(data: bytes, end: int) -> Parts:
    reader = ByteReader(data, len(MAGIC) + 1, end)
    kind, colour, extended = read_kind(reader.take(1)[0])
    header = Header(kind, colour, **read_fields(header_fields(kind, extended=extended), reader))
    parts = Parts(header, reader.take(reader.left))
    if parts.metadata and kind is Kind.FILE:
        raise DamagedFileError("damaged: an own file keeps its metadata itself")
    return parts


def model_kind(shown: Shown) -> Kind:
    """The kind of an image that a model codes."""
    return next(kind for kind, way in MODEL_KINDS.items() if way is shown)


def pack_kind(kind: Kind, colour: Colour, flag: bool) -> int:
    """The byte with the kind of payload and the colour.

    Its highest bit means, in a file of one image, that there are extension blocks; in the index of an archive, that the
    image has metadata.
    """
    return kind | COLOURS.index(colour) << 3 | (_FLAG if flag else 0)


def read_kind(byte: int) -> tuple[Kind, Colour, bool]:
    """Kind, colour and the highest bit; raises DamagedFileError for a kind that cannot hold the colour."""
    kind_number, colour_number = byte & 7, byte >> 3 & 15
    if kind_number not in list(Kind) or colour_number >= len(COLOURS):
        raise DamagedFileError("a file of a kind that this nvae-codec does not know: a newer one may read it")
    kind, colour = Kind(kind_number), COLOURS[colour_number]
    if colour not in COLOURS_OF[kind]:
        raise DamagedFileError("damaged: a kind of file that cannot hold its kind of image")
    return kind, colour, bool(byte & _FLAG)
