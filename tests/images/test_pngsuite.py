from pathlib import Path

import numpy as np
import pytest

from nvae_codec.errors import DamagedFileError
from nvae_codec.images.read import read_image
from nvae_codec.images.write import write_png
from tests.conftest import PNGSUITE
from tests.reference_png import decode_png

SOUND = sorted(path.stem for path in PNGSUITE.glob("[!x]*.png"))
CORRUPT = sorted(path.stem for path in PNGSUITE.glob("x*.png"))


def test_the_suite_is_whole() -> None:
    assert (len(SOUND), len(CORRUPT)) == (162, 14)


@pytest.mark.parametrize("name", SOUND)
def test_sound_files_come_back_at_their_own_depth(pngsuite: Path, name: str) -> None:
    data = (pngsuite / f"{name}.png").read_bytes()
    image = read_image(data)
    original, restored = decode_png(data), decode_png(write_png(image))
    assert (image.colour.bits, image.colour.png_type) == (original.bits, original.colour_type)
    assert (restored.bits, restored.colour_type) == (original.bits, original.colour_type)
    assert np.array_equal(restored.samples, original.samples)
    assert restored.chunks == original.chunks
    if image.pixels is not None:
        high = image.pixels.astype(np.int64)
        samples = high if image.low is None else 256 * high + image.low
        assert np.array_equal(samples.reshape(original.samples.shape), original.samples)


@pytest.mark.parametrize("name", SOUND)
def test_all_sound_files_are_read_as_samples(pngsuite: Path, name: str) -> None:
    image = read_image((pngsuite / f"{name}.png").read_bytes())
    assert image.pixels is not None
    assert image.has_bytes == (image.colour.bits <= 8)
    assert (image.low is not None) == (image.colour.bits == 16)
    assert image.why_file_only == ""


@pytest.mark.parametrize("name", CORRUPT)
def test_corrupt_files_are_refused(pngsuite: Path, name: str) -> None:
    with pytest.raises(DamagedFileError, match=r"^(damaged|truncated) PNG: "):
        read_image((pngsuite / f"{name}.png").read_bytes())
