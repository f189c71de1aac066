"""Short floats and the records of batches."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nvae_codec.coding.bitsback import sum_log2
from nvae_codec.schedule.record import LARGEST_CODE, BatchRecord, short_float, shorten


def test_short_floats_rise() -> None:
    values = [short_float(code) for code in range(LARGEST_CODE + 1)]
    assert values[0] == 0
    assert all(a < b for a, b in itertools.pairwise(values))
    assert [shorten(value) for value in values] == list(range(LARGEST_CODE + 1))


@given(st.integers(0, short_float(LARGEST_CODE)))
def test_shortening_rounds_down_by_an_eighth_at_most(value: int) -> None:
    short = short_float(shorten(value))
    assert short <= value
    assert value - short <= short / 8 + 1


def test_large_values_have_the_largest_code() -> None:
    assert shorten(10**30) == LARGEST_CODE


@given(st.integers(0, 10**8), st.integers(0, 10**8), st.integers(1, 10**6))
def test_a_record_never_promises_more_than_there_is(before: int, gained: int, values: int) -> None:
    record = BatchRecord.of(3, before, before + gained)
    assert record.before <= before
    assert record.after <= before + gained
    assert record.gain(values) >= 0
    assert 0 <= record.before_code <= record.after_code <= LARGEST_CODE


def test_no_logarithm_of_a_frequency_is_near_a_tie() -> None:
    """Every machine rounds it to the same 256th, though their logarithms differ in the last bits."""
    exact = np.log2(np.arange(1, 2**16 + 1)) * 256
    assert np.abs(exact - np.floor(exact) - 0.5).min() > 1e-9
    assert sum_log2(np.array([1, 2, 4, 2**16], np.int32)) == 19
    assert sum_log2(np.zeros(0, np.int32)) == 0
