"""Modification times of an archive's images."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvae_codec.container.archive.times import pack_times, unpack_times
from nvae_codec.container.extensions import TIMES, extension
from nvae_codec.errors import DamagedFileError


@given(st.lists(st.none() | st.integers(0, (1 << 33) - 1), min_size=1))
def test_times_come_back(times: list[int | None]) -> None:
    blocks = pack_times(times)
    assert bool(blocks) == any(time is not None for time in times)
    assert unpack_times(blocks, len(times)) == times


def test_times_that_do_not_fit_are_unknown() -> None:
    assert unpack_times(pack_times([-1, 5, 1 << 33]), 3) == [None, 5, None]


@pytest.mark.parametrize("data", [b"", b"\1", b"\1\1\1", b"\2\0", b"\1\2"])
def test_impossible_times_are_damaged(data: bytes) -> None:
    with pytest.raises(DamagedFileError):
        unpack_times((extension(TIMES, data),), 2)
