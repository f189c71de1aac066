from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import nvae_codec
from nvae_codec.arrays import _named_models, nvae_check, nvae_decode, nvae_encode, nvae_version
from nvae_codec.errors import DamagedFileError
from tests.fakes import FakeCodec, FakeLoader

PIXELS = np.random.default_rng(5).integers(0, 256, (20, 33, 3), np.uint8)
SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda sides: st.sampled_from([sides, (*sides, 1), (*sides, 2), (*sides, 3), (*sides, 4)])
)


@pytest.fixture(autouse=True)
def loader(fake_models: FakeLoader) -> FakeLoader:
    _named_models.cache_clear()
    return fake_models


@given(SHAPES.flatmap(lambda shape: arrays(np.uint8, shape)), st.sampled_from(["auto", "stored"]))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_pixels_come_back(pixels: Any, method: str) -> None:
    data = nvae_encode(pixels, method=method)
    restored = nvae_decode(data)
    expected = pixels[:, :, 0] if pixels.shape[2:] == (1,) else pixels
    assert restored.dtype == np.uint8
    assert np.array_equal(restored, expected)
    assert nvae_check(data)


def test_the_library_reads_and_writes_the_same(loader: FakeLoader) -> None:
    for _ in range(3):
        data = nvae_encode(PIXELS[::-1], method="model")
        assert data == nvae_codec.compress(PIXELS[::-1], method="model", model=FakeCodec("photo"))
        assert np.array_equal(nvae_decode(memoryview(data)), PIXELS[::-1])
    assert len(loader.calls) == 1, "a model is loaded once"
    other = nvae_encode(PIXELS, method="model", model="mnist")
    assert other[4:8] == FakeCodec("mnist").identity[:4]
    assert np.array_equal(nvae_decode(other), PIXELS)


def test_out_is_filled() -> None:
    out = np.zeros_like(PIXELS)
    assert nvae_decode(nvae_encode(PIXELS), out=out) is out
    assert np.array_equal(out, PIXELS)
    for wrong in (np.zeros((20, 33), np.uint8), np.zeros_like(PIXELS, np.uint16)):
        with pytest.raises(ValueError, match=r"out is uint"):
            nvae_decode(nvae_encode(PIXELS), out=wrong)


@pytest.mark.parametrize(
    "pixels",
    [PIXELS.astype(np.int16), PIXELS / 255, PIXELS[None], PIXELS[:0], PIXELS[0, 0], np.zeros((4, 4, 5), np.uint8)],
)
def test_other_arrays_are_refused(pixels: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="pixels must "):
        nvae_encode(pixels)


def test_check_knows_the_files_of_one_image() -> None:
    data = nvae_encode(PIXELS, method="stored")
    assert nvae_check(bytearray(data))
    assert nvae_check(data[:4])
    for other in (b"", data[:3], b"\x89PNG\r\n", b"\xd6N\x01\x07", b"\xd6N\x63" + data[3:]):
        assert not nvae_check(other)
    with pytest.raises(DamagedFileError):
        nvae_decode(data[:4])


def test_version_names_the_library() -> None:
    assert nvae_version() == f"nvae_codec {nvae_codec.__version__}"
