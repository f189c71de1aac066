from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvae_codec.container.checksums import bytes_checksum
from nvae_codec.container.extensions import Extension
from nvae_codec.container.header import MODEL_KINDS, VERSION, Header, Kind, Parts, join_parts, split_parts
from nvae_codec.container.metadata import pack_metadata, unpack_metadata
from nvae_codec.errors import DamagedFileError
from nvae_codec.images.png import IDAT_PLACE
from nvae_codec.images.raster import COLOURS, GRAY1, GRAY8, PIXEL_COLOURS, RGB8, WHOLE_BYTES, Chunk


@st.composite
def parts(draw: st.DrawFn) -> Parts:
    kind = draw(st.sampled_from(list(Kind)))
    modelled = kind in MODEL_KINDS
    colours = {Kind.FILE: list(COLOURS), Kind.MODEL: [GRAY1, *WHOLE_BYTES]}.get(kind, list(PIXEL_COLOURS.values()))
    colours = [GRAY8, RGB8] if modelled and kind is not Kind.MODEL else colours
    sides = st.integers(1, (1 << 31) - 1)
    header = Header(
        kind,
        draw(st.sampled_from(colours)),
        draw(sides),
        draw(sides),
        draw(st.binary(min_size=8, max_size=8)),
        draw(st.binary(min_size=4, max_size=4)) if modelled else b"",
        tuple(draw(st.lists(st.integers(0, 1 << 34), max_size=9))) if modelled else (),
    )
    known = [] if kind is Kind.FILE else [Extension(1, draw(st.binary(min_size=5, max_size=40)), critical=True)]
    unknown = [Extension(number, draw(st.binary(max_size=9))) for number in sorted(draw(st.sets(st.integers(4, 99))))]
    header = replace(header, extensions=tuple(draw(st.sampled_from([[], known])) + unknown))
    return Parts(header, draw(st.binary(max_size=60)))


@given(parts())
def test_parts_come_back(whole: Parts) -> None:
    assert split_parts(join_parts(whole)) == whole


@given(parts(), st.data())
def test_every_flipped_bit_and_truncation_is_detected(whole: Parts, data: st.DataObject) -> None:
    file = bytearray(join_parts(whole))
    bit = data.draw(st.integers(0, 8 * len(file) - 1))
    with pytest.raises(DamagedFileError):
        split_parts(bytes(file[: bit // 8]))
    with pytest.raises(DamagedFileError):
        split_parts(bytes(file) + b"\0")
    file[bit // 8] ^= 1 << bit % 8
    with pytest.raises(DamagedFileError):
        split_parts(bytes(file))


def example() -> Parts:
    return Parts(Header(Kind.MODEL, RGB8, 32, 32, bytes(8), b"\xa1\xb2\xc3\xd4", (7, 1, 0, 19)), b"payload")


def test_header_and_trailer_of_a_small_image_take_28_bytes_at_most() -> None:
    assert len(join_parts(example())) - len(b"payload") == 27
    largest = replace(example().header, width=127, height=127, plan=(7, 1, 0, 255))
    assert len(join_parts(Parts(largest, b""))) == 28


def test_every_byte_is_where_the_format_page_puts_it() -> None:
    file = join_parts(example())
    assert file.hex(" ", 1) == (
        "d6 4e 01 29 a1 b2 c3 d4 20 20 04 07 01 00 13 " + "00 " * 8 + "70 61 79 6c 6f 61 64 " + file[-4:].hex(" ", 1)
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"\xd6", "truncated .nvae file"),
        (b"\xd6N", "truncated .nvae file"),
        (b"\xd6N\x01ab", "truncated .nvae file"),
        (b"some text\n", "not an .nvae file"),
        (b"\xd6N\x02" + bytes(20), "version 2; this nvae-codec reads version 1"),
        (b"\xd6N\x00" + bytes(20), "version 0"),
        (b"\xd6N\x01" + bytes(20), "its checksum is wrong"),
    ],
)
def test_other_files_are_distinguished(data: bytes, reason: str) -> None:
    with pytest.raises(DamagedFileError, match=reason):
        split_parts(data)


@given(st.binary(max_size=80))
def test_sealed_nonsense_is_refused_or_read_but_never_worse(body: bytes) -> None:
    """A right checksum over wrong fields: only a file that is made to harm has that."""
    file = b"\xd6N" + bytes([VERSION]) + body
    file += bytes_checksum(file)
    try:
        whole = split_parts(file)
    except DamagedFileError:
        return
    assert join_parts(whole) == file


@pytest.mark.parametrize("kind_and_colour", [0x00, 0x05, 0x06, 0x79, 0x09, 0x22, 0x35, 0x84])
def test_kinds_and_colours_that_do_not_go_together_are_refused(kind_and_colour: int) -> None:
    file = b"\xd6N" + bytes([VERSION, kind_and_colour]) + bytes([1] * 40)
    with pytest.raises(DamagedFileError):
        split_parts(file + bytes_checksum(file))


chunks = st.lists(
    st.builds(Chunk, st.sampled_from([b"tEXt", b"gAMA", b"iCCP", b"prVt", b"PLTE"]), st.binary(max_size=300)),
    max_size=6,
)


@given(chunks, chunks)
def test_metadata_comes_back(before: list[Chunk], after: list[Chunk]) -> None:
    whole = (*before, IDAT_PLACE, *after)
    assert unpack_metadata(pack_metadata(whole)) == whole


@pytest.mark.parametrize(
    "wrong",
    [
        (Chunk(b"tEXt", b""),),
        (IDAT_PLACE, IDAT_PLACE),
        (Chunk(b"IDAT", b"x"),),
        (IDAT_PLACE, Chunk(b"IHDR", b"")),
        (IDAT_PLACE, Chunk(b"IEND", b"")),
        (IDAT_PLACE, Chunk(b"a\n1b", b"")),
    ],
)
def test_metadata_that_no_png_could_hold_is_refused(wrong: tuple[Chunk, ...]) -> None:
    with pytest.raises(DamagedFileError):
        unpack_metadata(pack_metadata(wrong))


def test_damaged_metadata_is_refused() -> None:
    block = pack_metadata((Chunk(b"tEXt", b"Title\0Harbour"), IDAT_PLACE))
    for at in range(len(block)):
        with pytest.raises(DamagedFileError):
            unpack_metadata(block[:at] + bytes([block[at] ^ 1]) + block[at + 1 :])
        cut = block[:at] + bytes_checksum(block[:at])
        with pytest.raises(DamagedFileError):
            unpack_metadata(cut[: len(block) - 5])
