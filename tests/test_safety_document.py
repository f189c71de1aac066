"""The table of docs/safety.md says what becomes of each kind of file; run this module to print it."""

import io
from pathlib import Path

from PIL import Image

from nvae_codec.errors import UnsupportedImageError
from nvae_codec.images.png import join_chunks
from nvae_codec.images.raster import Chunk
from nvae_codec.images.read import read_image
from tests.images.test_formats import draw, make_bmp, make_tiff, pam
from tests.images.test_read import GRAY_JPEG, animation, noise, save

PAGE = Path(__file__).parents[1] / "docs" / "safety.md"


def exif() -> Image.Exif:
    found = Image.Exif()
    found[0x010E] = "A harbour"
    return found


def save_apng() -> bytes:
    buffer = io.BytesIO()
    frames = [Image.fromarray(noise(8, 8, 3)), Image.fromarray(255 - noise(8, 8, 3))]
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


PNG, JPEG = save(noise(8, 8, 3), "PNG"), save(noise(8, 8, 3), "JPEG", exif=exif(), icc_profile=b"a profile")
FILES = {
    "PNG": PNG,
    "PNG with data after its end": PNG + b"more",
    "animated PNG": save_apng(),
    "PNG of Xcode": join_chunks([Chunk(b"CgBI", b"0 \0\6")]),
    "JPEG": JPEG,
    "JPEG with comments, IPTC data or more": JPEG[:2] + b"\xff\xfe\0\6text" + JPEG[2:],
    "JPEG with a second image: gain map, preview": JPEG + JPEG,
    "CMYK JPEG": save(noise(8, 8, 3), "JPEG", "CMYK"),
    "12-bit JPEG": GRAY_JPEG.replace(b"\xff\xc0\0\x0b\x08", b"\xff\xc1\0\x0b\x0c"),
    "WebP": save(noise(8, 8, 4), "WEBP", exif=exif()),
    "animated WebP": animation("WEBP"),
    "TIFF, RGB": save(noise(8, 8, 3), "TIFF", exif=exif(), dpi=(300, 300), icc_profile=b"a profile"),
    "TIFF, 16 bits and alpha": make_tiff(draw(8, 8, 4, bits=16), 16, t338=(2,)),
    "TIFF, palette": make_tiff(draw(8, 8, bits=4), 4, photometric=3, t320=tuple(range(0, 48 * 257, 257))),
    "TIFF, 1 bit": make_tiff(draw(8, 8, bits=1), 1),
    "TIFF with more samples": make_tiff(draw(8, 8, 5), t338=(2, 0)),
    "TIFF with premultiplied alpha": make_tiff(draw(8, 8, 4), t338=(1,)),
    "TIFF, floating": make_tiff(draw(8, 8), t339=(3,)),
    "TIFF, CMYK": make_tiff(draw(8, 8, 4), photometric=5),
    "TIFF of several pages": animation("TIFF"),
    "TIFF with data after its end": make_tiff(draw(8, 8)) + b"more",
    "BMP, 24 bits": save(noise(8, 8, 3), "BMP"),
    "BMP, 32 bits": make_bmp(draw(8, 8, 4).tobytes(), 8, 8, 32),
    "BMP, palette": save(noise(8, 8, 3), "BMP", "P"),
    "BMP, run-length coded": make_bmp(bytes(40), 3, 3, 8, compression=1, palette=bytes(1024)),
    "BMP, 16 bits": make_bmp(bytes(40), 3, 3, 16),
    "PBM": b"P4 8 1\nx",
    "PGM, 16 bits": b"P5 # a comment\n1 1 65535\nxy",
    "PPM": save(noise(8, 8, 3), "PPM"),
    "PPM with several images": 2 * save(noise(8, 8, 3), "PPM"),
    "PAM": pam("RGB_ALPHA", 1, 1, 4, 255) + b"abcd",
    "GIF": save(noise(8, 8, 3), "GIF"),
}
CHUNKS = {
    b"PLTE": "palette", b"iCCP": "profile", b"pHYs": "resolution", b"eXIf": "EXIF data and tags", b"tEXt": "comments"
}  # fmt: skip


def describe(data: bytes) -> tuple[str, str]:
    """What is kept of a file, and why it is refused."""
    try:
        image = read_image(data)
    except UnsupportedImageError as error:
        return "", str(error)
    if image.pixels is None or image.not_in_pixels:
        return "its own bytes", ""
    if data.startswith(b"\x89PNG"):
        return "pixels and every chunk", ""
    parts = [f"{image.colour.bits}-bit {image.colour.mode}"]
    parts += [CHUNKS[chunk.type] for chunk in image.chunks if chunk.type in CHUNKS]
    own = "its own bytes where they are smaller, else " if image.file is not None else ""
    return own + ", ".join(parts), ""


def make_table() -> str:
    rows = ["| file | kept | refused |", "|---|---|---|"]
    return "\n".join([*rows, *(f"| {name} | {' | '.join(describe(data))} |" for name, data in FILES.items())])


def test_the_page_says_what_becomes_of_each_file() -> None:
    assert make_table() in PAGE.read_text(encoding="utf-8")


def test_every_kind_has_a_file() -> None:
    assert all(FILES.values())


if __name__ == "__main__":
    print(make_table())
