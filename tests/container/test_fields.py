import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvae_codec.container.fields import LARGEST, ByteReader, pack_varint
from nvae_codec.errors import DamagedFileError


@given(st.lists(st.integers(0, LARGEST), max_size=20))
def test_varints_come_back(values: list[int]) -> None:
    data = b"".join(pack_varint(value) for value in values)
    reader = ByteReader(data, 0, len(data))
    assert [reader.varint(0, LARGEST) for _ in values] == values
    assert reader.left == 0


@given(st.binary(max_size=8))
def test_whatever_reads_as_a_varint_is_written_so(data: bytes) -> None:
    reader = ByteReader(data, 0, len(data))
    try:
        value = reader.varint(0, LARGEST)
    except DamagedFileError:
        return
    assert pack_varint(value) == data[: len(data) - reader.left]


@pytest.mark.parametrize(
    "data", [b"", b"\x80", b"\x80\x00", b"\xff" * 5, b"\xff" * 9, b"\x05"], ids=lambda data: data.hex() or "empty"
)
def test_bad_varints_are_refused(data: bytes) -> None:
    with pytest.raises(DamagedFileError):
        ByteReader(data, 0, len(data)).varint(6, 1 << 35)


@pytest.mark.parametrize("value", [-1, LARGEST + 1])
def test_what_does_not_fit_is_not_written(value: int) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        pack_varint(value)


def test_the_reader_stays_within_its_end() -> None:
    reader = ByteReader(b"abcdef", 1, 4)
    assert reader.take(2) == b"bc"
    with pytest.raises(DamagedFileError):
        reader.take(2)
