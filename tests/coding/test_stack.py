"""The stack: pushing is the inverse of popping, on any stack."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nvae_codec.coding.ans import LARGEST_ARRAY, SMALLEST_ARRAY, Int32, Stack, cut
from nvae_codec.errors import DamagedFileError

Partition = tuple[int, Int32]
"""bits, and edges (n + 1,) from 0 to 2^bits: the intervals of n symbols."""


@st.composite
def partitions(draw: st.DrawFn) -> Partition:
    bits = draw(st.integers(1, 20))  # with more than 16, wide intervals take two parts
    inner = draw(st.lists(st.integers(1, max(1, 2**bits - 1)), max_size=40, unique=True))
    return bits, np.array([0, *sorted(inner), 2**bits], np.int32)


def find_in(edges: Int32, quantile: Int32) -> tuple[Int32, Int32, Int32]:
    symbol = (np.searchsorted(edges, quantile, side="right") - 1).astype(np.int32)
    return symbol, edges[symbol], edges[symbol + 1] - edges[symbol]


def random_symbols(edges: Int32, count: int, seed: int) -> Int32:
    return np.random.default_rng(seed).integers(len(edges) - 1, size=count, dtype=np.int32)


stacks = st.one_of(st.just(b""), st.binary(min_size=1, max_size=200).map(lambda data: data.rstrip(b"\0")))
examples = settings(deadline=None, max_examples=60)


@examples
@given(partitions(), st.integers(0, 60), st.integers(0, 99), stacks)
def test_popping_undoes_pushing(partition: Partition, count: int, seed: int, below: bytes) -> None:
    bits, edges = partition
    symbols = random_symbols(edges, count, seed)
    stack = Stack(below)
    stack.push(edges[symbols], edges[symbols + 1] - edges[symbols], bits)
    stack = Stack(stack.to_bytes())
    popped = stack.pop(count, lambda quantile: find_in(edges, quantile), bits)
    assert np.array_equal(popped, symbols)
    assert stack.to_bytes() == below
    assert stack.is_empty() == (below == b"")


@examples
@given(partitions(), st.integers(0, 60), st.integers(0, 99), stacks)
def test_pushing_undoes_popping(partition: Partition, count: int, seed: int, below: bytes) -> None:
    bits, edges = partition
    turn = np.random.default_rng(seed).integers(2**bits, size=count)
    stack = Stack(below)
    symbols = stack.pop(count, lambda quantile: find_in(edges, quantile), bits, turn)
    stack = Stack(stack.to_bytes())
    stack.push(edges[symbols], edges[symbols + 1] - edges[symbols], bits, turn)
    assert stack.to_bytes() == below


@examples
@given(stacks)
def test_bytes_are_restored(data: bytes) -> None:
    stack = Stack(data)
    assert stack.to_bytes() == data
    assert stack.is_empty() == (not data)
    assert max(0, 8 * len(data) - 8) <= stack.bits <= 8 * len(data)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 11])
def test_zero_bytes_at_the_end_mean_nothing(count: int) -> None:
    assert Stack(b"\1\2\3" + bytes(count)).to_bytes() == b"\1\2\3"
    assert Stack(bytes(count)).is_empty()
    assert Stack(bytes(count) + b"\1").to_bytes() == bytes(count) + b"\1"


def test_an_empty_stack_is_a_stack_of_zeros() -> None:
    stack, edges = Stack(), np.array([0, 10, 2**16], np.int32)
    assert (stack.pop(100, lambda quantile: find_in(edges, quantile), 16, turn=10) == 1).all()
    assert stack.is_empty()


@pytest.mark.parametrize("width", [0, -1])
def test_a_symbol_without_an_interval_is_damage(width: int) -> None:
    left, widths = np.array([0, 5], np.int32), np.array([3, width], np.int32)
    stack = Stack(b"some bytes")
    with pytest.raises(DamagedFileError, match="no interval"):
        stack.push(left, widths, 16)
    with pytest.raises(DamagedFileError, match="no interval"):
        stack.pop(2, lambda quantile: (quantile, left, widths), 16)


@pytest.mark.parametrize(
    ("bits", "widths", "lost"), [(16, (1, 4000), 1e-4), (18, (1, 4000), 1e-4), (18, (2**17, 2**18), 1e-3)]
)
def test_a_symbol_takes_its_information(bits: int, widths: tuple[int, int], lost: float) -> None:
    rng = np.random.default_rng(0)
    width = rng.integers(*widths, 50_000).astype(np.int32)
    left = rng.integers(0, 2**bits - width).astype(np.int32)
    stack = Stack(rng.bytes(200_000) + b"\1")
    before = stack.bits
    stack.push(left, width, bits)
    ideal = 50_000 * bits - np.log2(width).sum()
    assert stack.bits - before == pytest.approx(ideal, abs=100 + 50_000 * lost)


def covered(slices: list[slice]) -> NDArray[np.int64]:
    return np.concatenate([np.arange(s.start, s.stop) for s in slices] or [np.zeros(0, np.int64)])


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 50_000), st.integers(0, 10**7), st.integers(-40, 255), st.booleans())
def test_cuts_cover_an_array_and_borrow_no_more_than_there_is(count: int, fill: int, rate: int, ramp: bool) -> None:
    slices = cut(count, fill, rate, ramp=ramp)
    assert np.array_equal(covered(slices), np.arange(count))
    for at in slices:
        size = at.stop - at.start
        surely = max(0, fill + (at.start * rate >> 4))
        assert 1 <= size <= LARGEST_ARRAY
        assert size <= max(SMALLEST_ARRAY, surely // 16)
    if fill == 0 and rate == 0:
        grown = [at for at in slices[:-1] if not ramp or at.start >= SMALLEST_ARRAY**2]
        assert all(at.stop - at.start == SMALLEST_ARRAY for at in grown)


def test_growing_stacks_take_larger_arrays() -> None:
    sizes = [at.stop - at.start for at in cut(200_000, 0, 40)]
    assert sizes[:-1] == sorted(sizes[:-1])
    assert sizes[0] == 1
    assert len(sizes) < 200
    assert cut(200, 0, 40, ramp=False)[0] == slice(0, SMALLEST_ARRAY)
