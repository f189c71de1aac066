"""What is kept of metadata: all of it, what the pixels mean, or nothing, whatever the pixels are."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nvae_codec.errors import UnsupportedImageError
from nvae_codec.images.metadata import KEEP, OF_MEANING, OF_PIXELS, keep_metadata
from nvae_codec.images.png import IDAT_PLACE, join_chunks, split_chunks
from nvae_codec.images.raster import Chunk
from nvae_codec.images.read import read_image
from nvae_codec.images.write import write_png
from tests.conftest import PNGSUITE
from tests.reference_png import decode_png

NAMES = sorted(
    path.stem for path in PNGSUITE.glob("[!x]*.png") if path.stem[0] in "btcg" or path.stem[:2] in ("ex", "pp")
)
PIXELS = np.random.default_rng(3).integers(0, 256, (9, 7, 3), np.uint8)
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>\xc3\xa4</x:xmpmeta>"


def add_private(data: bytes) -> bytes:
    """A PNG with text, a private chunk and a thumbnail of its own behind the header."""
    header, *others = split_chunks(data)
    return join_chunks([header, Chunk(b"prVt", b"private"), Chunk(b"tEXt", b"Title\0Harbour"), *others])


@pytest.mark.parametrize("keep", KEEP)
@pytest.mark.parametrize("name", NAMES[::3])
def test_pixels_stay_whatever_is_kept(name: str, keep: str) -> None:
    data = add_private((PNGSUITE / f"{name}.png").read_bytes())
    image = keep_metadata(read_image(data), keep)
    original, restored = decode_png(data), decode_png(write_png(image))
    assert np.array_equal(restored.samples, original.samples)
    kept = {"meaning": OF_MEANING, "none": OF_PIXELS}.get(keep)
    assert restored.chunks == [chunk for chunk in original.chunks if kept is None or chunk[0] in kept]
    assert image.file is not None
    assert decode_png(image.file).chunks == restored.chunks
    assert (image.file == data) == (keep == "all")


def test_a_file_without_anything_to_drop_stays_as_it_is() -> None:
    data = (PNGSUITE / "basn2c08.png").read_bytes()
    assert keep_metadata(read_image(data), "meaning").file == data


def test_data_behind_the_end_goes() -> None:
    data = (PNGSUITE / "basn3p08.png").read_bytes()
    assert keep_metadata(read_image(data + b"more"), "all").file == data + b"more"
    assert keep_metadata(read_image(data + b"more"), "meaning").file == data


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "TIFF"])
def test_metadata_of_other_formats_are_kept_byte_for_byte(kind: str) -> None:
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x010E] = "Harbour"
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {"dpi": (300, 150)}
    options |= {"tiffinfo": {700: XMP}} if kind == "TIFF" else {}
    Image.fromarray(PIXELS).save(buffer, kind, xmp=XMP, exif=exif, icc_profile=b"a profile", **options)
    image = read_image(buffer.getvalue())
    with Image.open(io.BytesIO(write_png(image))) as pil_image, Image.open(io.BytesIO(buffer.getvalue())) as source:
        assert pil_image.info["icc_profile"] == b"a profile"
        if kind != "TIFF":
            assert pil_image.info["exif"].removeprefix(b"Exif\0\0") == source.info["exif"].removeprefix(b"Exif\0\0")
        if kind != "WEBP":
            assert pil_image.info["dpi"] == pytest.approx((300, 150), abs=0.02)
        assert b"XML:com.adobe.xmp" + bytes(5) + XMP in [chunk.data for chunk in image.chunks]
        assert np.array_equal(np.asarray(pil_image), np.asarray(source))
    assert {chunk.type for chunk in keep_metadata(image, "meaning").chunks} == {c.type for c in image.chunks} - {
        b"iTXt"
    }
    assert keep_metadata(image, "none").chunks == ()
    assert IDAT_PLACE in image.chunks


def save_frames(path: Path, kind: str) -> bytes:
    frames = [Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)]
    frames[0].save(
        path, kind, save_all=True, append_images=frames[1:], **({"lossless": True} if kind == "WEBP" else {})
    )
    return path.read_bytes()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("PNG", "animated PNG is not supported"),
        ("WEBP", "WebP with several frames is not supported"),
        ("TIFF", "TIFF with several frames is not supported"),
        ("GIF", "GIF files are not supported"),
    ],
)
def test_several_frames_are_refused_by_name(tmp_path: Path, kind: str, reason: str) -> None:
    with pytest.raises(UnsupportedImageError, match=reason):
        read_image(save_frames(tmp_path / "frames", kind))
