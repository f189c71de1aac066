"""The adaptive binary coder: what is packed comes back, and other bytes are refused or give other numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nvae_codec.adaptation.binary import LARGEST, SQUASH, STRETCH, pack_arrays, unpack_arrays
from nvae_codec.errors import DamagedFileError

small = st.integers(-3, 3)
wild = st.integers(-LARGEST, LARGEST)
SHAPES = [(4, 5), (4, 5), (3, 7)]


@settings(deadline=None, max_examples=60)
@given(st.tuples(*(arrays(np.int32, shape, elements=st.one_of(small, wild)) for shape in SHAPES)))
def test_arrays_come_back(values: tuple[np.ndarray, ...]) -> None:
    data = pack_arrays(values)
    for one, other in zip(values, unpack_arrays(data, SHAPES), strict=True):
        assert np.array_equal(one, other)
    if data:
        with pytest.raises(DamagedFileError, match="too long"):
            unpack_arrays(data + bytes([1]) * 1000, SHAPES)
        with pytest.raises(DamagedFileError, match="too long"):
            unpack_arrays(data + b"\0", SHAPES)


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=80))
def test_any_bytes_are_numbers_within_bounds_or_refused(data: bytes) -> None:
    try:
        values = unpack_arrays(data, SHAPES)
    except DamagedFileError:
        return
    assert max(int(np.abs(array).max()) for array in values) <= LARGEST


def test_zeros_take_few_bytes_and_sparse_numbers_little_more_than_their_entropy() -> None:
    assert len(pack_arrays([np.zeros((48, 49), np.int32)] * 7)) <= 8
    rng = np.random.Generator(np.random.PCG64(1))
    sparse = [(rng.random((48, 49)) < 0.05) * rng.choice([-1, 1], (48, 49)) for _ in range(7)]
    bits = 7 * 48 * 49 * (-0.05 * np.log2(0.05) - 0.95 * np.log2(0.95) + 0.05)
    assert 8 * len(pack_arrays([array.astype(np.int32) for array in sparse])) < 1.15 * bits


def test_the_logistic_tables_are_inverse_and_fixed() -> None:
    assert (np.diff(SQUASH) >= 0).all()
    assert (np.diff(STRETCH) >= 0).all()
    assert SQUASH[2047] == 32752
    assert (SQUASH.sum(dtype=np.int64), STRETCH.sum(dtype=np.int64)) == (134150688, 4064)
