"""PBM, PGM, PPM and PAM files, of 1, 2, 4, 8 and 16 bits a sample."""

import re
import warnings

import numpy as np

from nvae_codec.errors import DamagedFileError, UnsupportedImageError
from nvae_codec.images.layout import Layout, Samples, make_image
from nvae_codec.images.limits import check_size
from nvae_codec.images.raster import Chunk, RasterImage

_BITS = {1: 1, 3: 2, 15: 4, 255: 8, 65535: 16}
_SPACE = rb"(?:\s|#[^\r\n]*[\r\n])"
_COMMENT = re.compile(rb"#[^\r\n]*")
_TYPES = {
    "BLACKANDWHITE": 1, "GRAYSCALE": 1, "RGB": 3, "BLACKANDWHITE_ALPHA": 2, "GRAYSCALE_ALPHA": 2, "RGB_ALPHA": 4,
}  # fmt: skip


def read_pnm(data: bytes) -> RasterImage:
    """The image of a PNM or PAM file, with its comments.

    Raises DamagedFileError, and UnsupportedImageError for several images, data after the end, and other maxima.
    """
    plain = data[1:2] in b"123"
    layout, maximum, start = read_layout(data)
    check_size(layout.width, layout.height)
    count = layout.width * layout.height * layout.channels
    if plain:
        samples = _read_text(_COMMENT.sub(b"", data[start:]), count, packed=data[1:2] == b"1")
    elif data[1:2] == b"4":
        stride = -(-layout.width // 8)
        rows = _take(data, start, stride * layout.height, np.dtype(np.uint8)).reshape(layout.height, stride)
        samples = np.unpackbits(rows, axis=1)[:, : layout.width]
    else:
        samples = _take(data, start, count, np.dtype(">u2" if maximum > 255 else np.uint8))
    if samples.max(initial=0) > maximum:
        raise DamagedFileError(f"damaged: a sample above {maximum}, its maximum")
    if data[1:2] in b"14":  # 1 is black
        samples = 1 - samples
    shape = (layout.height, layout.width, layout.channels)
    samples = samples.reshape(shape if layout.channels > 1 else shape[:2])
    image = make_image(samples, layout.bits, _comments(data, start))
    layout.check(image)
    return image


def read_layout(data: bytes) -> tuple[Layout, int, int]:
    """What the header says: the layout, the maximum of a sample, and where the samples begin."""
    if data[1:2] == b"7":
        width, height, channels, maximum, start = _read_pam_header(data)
    else:
        names = 2 if data[1:2] in b"14" else 3
        end = rb"\s" if data[1:2] in b"456" else b""
        header = re.match(rb"P[1-6]" + (_SPACE + rb"+([0-9]{1,10})") * names + end, data)
        if header is None:
            raise DamagedFileError("damaged PNM: its header is not one")
        width, height, maximum = (*map(int, header.groups()), 1)[:3]
        channels, start = 3 if data[1:2] in b"36" else 1, header.end()
    if not (width and height):
        raise DamagedFileError(f"damaged PNM: a size of {width}x{height}")
    if maximum not in _BITS or (channels > 1 and maximum < 255):
        raise UnsupportedImageError(f"PNM with a maximum of {maximum} is not supported")
    return Layout(width, height, channels, _BITS[maximum]), maximum, start


def _read_pam_header(data: bytes) -> tuple[int, int, int, int, int]:
    header = re.match(rb"P7\s*\n(?:[^\n]{0,200}\n){0,100}?ENDHDR[ \t\r]*\n", data)
    if header is None:
        raise DamagedFileError("damaged PAM: its header has no end")
    fields: dict[str, str] = {}
    for line in header[0].decode("latin-1").splitlines()[1:-1]:
        name, _, value = line.strip().partition(" ")
        if name and not name.startswith("#"):
            fields[name] = value.strip()
    try:
        width, height, depth, maximum = (int(fields[name]) for name in ("WIDTH", "HEIGHT", "DEPTH", "MAXVAL"))
    except (KeyError, ValueError) as error:
        raise DamagedFileError("damaged PAM: its header lacks a number") from error
    kind = fields.get("TUPLTYPE", "")
    if _TYPES.get(kind) != depth:
        raise UnsupportedImageError(f"PAM of type {kind or 'unknown'} with {depth} samples a pixel is not supported")
    return width, height, depth, maximum, header.end()


def _take(data: bytes, start: int, count: int, kind: np.dtype[np.uint8] | np.dtype[np.uint16]) -> Samples:
    end = start + count * kind.itemsize
    if end > len(data):
        raise DamagedFileError("truncated PNM: samples are missing")
    rest = data[end:]
    if re.match(rb"\s*P[1-7]\s", rest):
        raise UnsupportedImageError("PNM with several images is not supported")
    if rest.strip():
        raise UnsupportedImageError("PNM with data after its end is not supported")
    return np.frombuffer(data, kind, count, start)


def _read_text(text: bytes, count: int, *, packed: bool) -> Samples:
    try:
        if packed:  # the digits of P1 need no spaces between them
            samples = np.frombuffer(text.translate(None, b" \t\r\n\v\f"), np.uint8).astype(np.int64) - ord("0")
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("error", DeprecationWarning)  # what NumPy says of words that are no numbers
                samples = np.fromstring(text.decode("ascii"), np.int64, sep=" ")
    except (DeprecationWarning, ValueError) as error:
        raise DamagedFileError("damaged PNM: a sample is no number") from error
    if len(samples) < count:
        raise DamagedFileError("truncated PNM: samples are missing")
    if len(samples) > count:
        raise UnsupportedImageError("PNM with data after its end is not supported")
    if samples.min() < 0:
        raise DamagedFileError("damaged PNM: a sample below 0")
    return samples


def _comments(data: bytes, start: int) -> tuple[Chunk, ...]:
    """The comments of a header as PNG text."""
    found = [comment[1:].strip() for comment in _COMMENT.findall(data[:start]) if comment[1:].strip()]
    if not found:
        return ()
    text = b"\n".join(found)
    return (Chunk(b"tEXt", b"Comment\0" + text.replace(b"\0", b"")), Chunk(b"IDAT", b""))
