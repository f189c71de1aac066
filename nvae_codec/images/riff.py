"""The structure of a WebP file: what its header says, its metadata, and that nothing else is in it."""

import zlib
from dataclasses import dataclass

from nvae_codec.errors import DamagedFileError, UnsupportedImageError
from nvae_codec.images.layout import Layout
from nvae_codec.images.raster import Chunk

_ANIMATED = {b"ANIM", b"ANMF"}
_KNOWN = {b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ICCP", b"EXIF", b"XMP "}


@dataclass(frozen=True)
class WebpFile:
    """A whole WebP, taken apart."""

    layout: Layout
    lossy: bool
    chunks: tuple[Chunk, ...]  # profile, EXIF data and XMP as PNG chunks


def parse_webp(data: bytes) -> WebpFile:
    """Check the chunks of a WebP.

    Raises DamagedFileError, and UnsupportedImageError for animations, unknown chunks and data after the end.
    """
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data):
        raise DamagedFileError("truncated WebP: it is shorter than its header says")
    if data[end:].strip(b"\0"):
        raise UnsupportedImageError("WebP with data after its end is not supported")
    parts: dict[bytes, bytes] = {}
    at = 12
    while at + 8 <= end:
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if at + 8 + size > end:
            raise DamagedFileError("truncated WebP: it ends within a chunk")
        if kind in _ANIMATED:
            raise UnsupportedImageError("WebP with several frames is not supported")
        if kind not in _KNOWN or kind in parts:
            name = kind.decode("latin-1").strip()
            raise UnsupportedImageError(f"WebP with an unknown chunk ({name}) is not supported")
        parts[kind] = data[at + 8 : at + 8 + size] or b"\0"
        at += 8 + size + size % 2
    return WebpFile(_read_layout(parts), b"VP8 " in parts, _metadata(parts))


def _read_layout(parts: dict[bytes, bytes]) -> Layout:
    image = parts.get(b"VP8L") or parts.get(b"VP8 ") or b""
    if len(image) < 10 or (b"VP8L" in parts and b"VP8 " in parts):
        raise DamagedFileError("damaged WebP: it has no image")
    if b"VP8L" in parts:
        fields = int.from_bytes(image[1:5], "little")
        alpha = bool(fields >> 28 & 1)
        width, height = (fields & 0x3FFF) + 1, (fields >> 14 & 0x3FFF) + 1
    else:
        alpha = b"ALPH" in parts
        width, height = (int.from_bytes(image[at : at + 2], "little") & 0x3FFF for at in (6, 8))
    if parts.get(b"VP8X", b"\0")[0] & 2:
        raise UnsupportedImageError("WebP with several frames is not supported")
    return Layout(width, height, 4 if alpha else 3, 8)


def _metadata(parts: dict[bytes, bytes]) -> tuple[Chunk, ...]:
    chunks = []
    if parts.get(b"ICCP"):
        chunks.append(Chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(parts[b"ICCP"], 9)))
    if parts.get(b"EXIF"):
        chunks.append(Chunk(b"eXIf", parts[b"EXIF"].removeprefix(b"Exif\0\0")))
    if parts.get(b"XMP "):
        chunks.append(Chunk(b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + parts[b"XMP "]))
    return (*chunks, Chunk(b"IDAT", b"")) if chunks else ()
