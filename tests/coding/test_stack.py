"""The stack: pushing is the inverse of popping, on any stack."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvae_codec.coding.ans import LARGEST_SLICE, SMALLEST_SLICE, Budget, Int32, Stack
from nvae_codec.errors import DamagedFileError


@dataclass(frozen=True)
class Table:
    """Symbols of one CDF table, (n + 1,) from 0 to 2^bits; each symbol's intervals are rotated by its own number."""

    bits: int
    edges: Int32
    rotation: Int32

    @property
    def count(self) -> int:
        return len(self.rotation)

    def interval(self, symbols: Int32, at: slice = slice(None)) -> tuple[Int32, Int32]:
        return self.edges[symbols] - self.rotation[at], self.edges[symbols + 1] - self.edges[symbols]

    def find(self, slots: Int32, at: slice = slice(None)) -> tuple[Int32, Int32, Int32]:
        inner = (slots + self.rotation[at]) % 2**self.bits
        symbols = (np.searchsorted(self.edges, inner, side="right") - 1).astype(np.int32)
        return symbols, *self.interval(symbols, at)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    bits = draw(st.integers(1, 20))  # with more than 16, residual states of wide intervals take two parts
    inner = draw(st.lists(st.integers(1, max(1, 2**bits - 1)), max_size=40, unique=True))
    rng, count = np.random.default_rng(draw(st.integers(0, 99))), draw(st.integers(0, 60))
    rotation = rng.integers(2**bits, size=count, dtype=np.int32) * draw(st.integers(0, 1))
    return Table(bits, np.array([0, *sorted(inner), 2**bits], np.int32), rotation.astype(np.int32))


stacks = st.one_of(st.just(b""), st.binary(min_size=1, max_size=200).map(lambda data: data.rstrip(b"\0")))
budgets = st.builds(Budget, st.integers(0, 10**4), st.integers(-40, 255))
examples = settings(deadline=None, max_examples=60)


@examples
@given(tables(), budgets, stacks)
def test_popping_inverts_pushing(table: Table, budget: Budget, below: bytes) -> None:
    symbols = np.random.default_rng(1).integers(len(table.edges) - 1, size=table.count, dtype=np.int32)
    stack = Stack(below)
    stack.push(*table.interval(symbols), table.bits, budget)
    stack = Stack(stack.to_bytes())
    assert np.array_equal(stack.pop(table, budget), symbols)
    assert stack.to_bytes() == below
    assert stack.is_empty() == (below == b"")


@examples
@given(tables(), budgets, stacks)
def test_putting_back_inverts_drawing(table: Table, budget: Budget, below: bytes) -> None:
    stack = Stack(below)
    symbols = stack.draw(table, budget)
    stack = Stack(stack.to_bytes())
    stack.put_back(table, symbols, budget)
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
    stack, table = Stack(), Table(16, np.array([0, 10, 2**16], np.int32), np.full(100, 10, np.int32))
    assert (stack.draw(table) == 1).all()
    assert stack.is_empty()


@pytest.mark.parametrize("frequency", [0, -1])
def test_a_symbol_without_an_interval_is_damage(frequency: int) -> None:
    class Broken(Table):
        def interval(self, symbols: Int32, at: slice = slice(None)) -> tuple[Int32, Int32]:
            return np.array([0, 5], np.int32), np.array([3, frequency], np.int32)

    stack, table = Stack(b"some bytes"), Broken(16, np.array([0, 2**16], np.int32), np.zeros(2, np.int32))
    with pytest.raises(DamagedFileError, match="no interval"):
        stack.push(*table.interval(np.zeros(2, np.int32)), 16)
    with pytest.raises(DamagedFileError, match="no interval"):
        stack.pop(table)


@pytest.mark.parametrize(
    ("bits", "frequencies", "lost"), [(16, (1, 4000), 1e-4), (18, (1, 4000), 1e-4), (18, (2**17, 2**18), 1e-3)]
)
def test_a_symbol_takes_its_information(bits: int, frequencies: tuple[int, int], lost: float) -> None:
    rng = np.random.default_rng(0)
    frequency = rng.integers(*frequencies, 50_000).astype(np.int32)
    start = rng.integers(0, 2**bits - frequency).astype(np.int32)
    stack = Stack(rng.bytes(200_000) + b"\1")
    before = stack.bits
    stack.push(start, frequency, bits)
    ideal = 50_000 * bits - np.log2(frequency).sum()
    assert stack.bits - before == pytest.approx(ideal, abs=100 + 50_000 * lost)


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 50_000), st.integers(0, 10**7), st.integers(-40, 255))
def test_slices_cover_an_array_and_take_no_more_than_there_is(count: int, bits: int, gain: int) -> None:
    slices = Budget(bits, gain).slices(count)
    assert [i for at in slices for i in range(at.start, at.stop)] == list(range(count))
    for at in slices:
        size = at.stop - at.start
        surely = max(0, bits + (at.start * gain >> 4))
        assert 1 <= size <= LARGEST_SLICE
        assert size <= max(SMALLEST_SLICE, surely // 16)
    if bits == 0 and gain == 0:
        grown = [at for at in slices[:-1] if at.start >= SMALLEST_SLICE**2]
        assert all(at.stop - at.start == SMALLEST_SLICE for at in grown)


def test_growing_stacks_take_larger_slices() -> None:
    sizes = [at.stop - at.start for at in Budget(0, 40).slices(200_000)]
    assert sizes[:-1] == sorted(sizes[:-1])
    assert sizes[0] == 1
    assert len(sizes) < 200
