"""The structure of a JPEG file: what its header says, its metadata, and what follows its end.

Pillow decodes the pixels; what else is in the file is found here, as Pillow shows only a part of it.
"""

import struct
import zlib
from dataclasses import dataclass, field

from nvae_codec.errors import DamagedFileError, UnsupportedImageError
from nvae_codec.images.layout import Layout
from nvae_codec.images.raster import Chunk

_STANDALONE = {0x01, *range(0xD0, 0xD8)}  # markers without a segment: TEM and restarts
_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_EXIF, _XMP, _PROFILE = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0"
_METRE = {1: 39.37007874015748, 2: 100.0}  # inches and centimetres


@dataclass
class JpegFile:
    """A whole JPEG, taken apart."""

    layout: Layout
    exif: bytes = b""
    xmp: bytes = b""
    profile: bytes = b""
    density: tuple[int, int, int] = (0, 0, 0)  # unit (1: inch, 2: centimetre), horizontal, vertical
    other: list[str] = field(default_factory=list)  # what else it holds, which neither pixels nor chunks do
    trailing: bool = False  # whether bytes follow the end

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """Profile, resolution, EXIF data and XMP as PNG chunks."""
        chunks = []
        if self.profile:
            chunks.append(Chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(self.profile, 9)))
        unit, horizontal, vertical = self.density
        if unit in _METRE and horizontal and vertical:
            dots = (round(each * _METRE[unit]) for each in (horizontal, vertical))
            chunks.append(Chunk(b"pHYs", struct.pack(">IIB", *dots, 1)))
        if self.exif:
            chunks.append(Chunk(b"eXIf", self.exif))
        if self.xmp:
            chunks.append(Chunk(b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + self.xmp))
        return (*chunks, Chunk(b"IDAT", b"")) if chunks else ()


def parse_jpeg(data: bytes) -> JpegFile:
    """Walk through all segments of a JPEG to its end.

    Raises DamagedFileError for files that are cut off or no JPEG; UnsupportedImageError for other than 8 bits a sample
    and one or three components, and for lossless and hierarchical JPEG.
    """
    layout: Layout | None = None
    found = JpegFile(Layout(0, 0, 0, 0))
    profiles: dict[int, bytes] = {}
    at, scans = 2, 0
    while True:
        if at + 2 > len(data):
            raise DamagedFileError("truncated JPEG: it has no end")
        if data[at] != 0xFF:  # decoders pass over stray bytes
            at = max(data.find(b"\xff", at), at + 1)
            continue
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        at += 2
        if marker == 0xD9:
            break
        if marker in _STANDALONE:
            continue
        length = int.from_bytes(data[at : at + 2], "big")
        body = data[at + 2 : at + length]
        if length < 2 or len(body) != length - 2:
            raise DamagedFileError("truncated JPEG: it ends within a segment")
        at += length
        if marker in _FRAMES:
            if layout is not None:
                raise UnsupportedImageError("JPEG with several frames is not supported")
            layout = _read_frame(marker, body)
        elif marker == 0xDA:
            scans += 1
            at = _skip_scan(data, at)
        else:
            _read_metadata(marker, body, found, profiles)
    if layout is None or not scans:
        raise DamagedFileError("damaged JPEG: it has no image")
    found.layout, found.trailing = layout, at < len(data)
    found.profile = b"".join(profiles[number] for number in sorted(profiles))
    return found


def _read_frame(marker: int, body: bytes) -> Layout:
    if len(body) < 6:
        raise DamagedFileError("damaged JPEG: its frame header is too short")
    bits, height, width, components = struct.unpack_from(">BHHB", body)
    if marker == 0xF7:
        raise UnsupportedImageError("JPEG-LS is not supported")
    if marker not in (0xC0, 0xC1, 0xC2, 0xC9, 0xCA):
        raise UnsupportedImageError("lossless or hierarchical JPEG is not supported")
    if bits != 8:
        raise UnsupportedImageError(f"{bits}-bit JPEG is not supported")
    if components not in (1, 3):
        raise UnsupportedImageError(f"JPEG of {components} components (as CMYK has) is not supported")
    if not (width and height):
        raise UnsupportedImageError("JPEG that states its height at its end is not supported")
    return Layout(width, height, components, bits)


def _skip_scan(data: bytes, at: int) -> int:
    """Where the marker after the entropy-coded data is."""
    while True:
        at = data.find(b"\xff", at)
        if at < 0 or at + 1 >= len(data):
            raise DamagedFileError("truncated JPEG: it ends within its pixels")
        following = data[at + 1]
        if following == 0xFF:
            at += 1
        elif following == 0 or 0xD0 <= following <= 0xD7:
            at += 2
        else:
            return at


def _read_metadata(marker: int, body: bytes, found: JpegFile, profiles: dict[int, bytes]) -> None:
    if marker == 0xE0 and body.startswith(b"JFIF\0") and len(body) >= 12:
        found.density = struct.unpack_from(">BHH", body, 7)
    elif marker == 0xE1 and body.startswith(_EXIF) and not found.exif:
        found.exif = body.removeprefix(_EXIF)
    elif marker == 0xE1 and body.startswith(_XMP) and not found.xmp:
        found.xmp = body.removeprefix(_XMP)
    elif marker == 0xE2 and body.startswith(_PROFILE) and len(body) > 14:
        profiles[body[12]] = body[14:]
    elif marker == 0xFE:
        found.other.append("a comment")
    elif body.startswith((_EXIF, _XMP)):
        found.other.append("more metadata")
    elif 0xE0 <= marker <= 0xEF and not (marker == 0xEE and body.startswith(b"Adobe")):
        found.other.append(body[:40].split(b"\0")[0].decode("latin-1").strip() or f"segment APP{marker - 0xE0}")
