"""Files that are damaged, strange or made to harm: one line, exit code 1, nothing left behind."""

import random
from pathlib import Path

import pytest

from nvae_codec.container.header import split_parts
from tests.cli.conftest import Result, Run
from tests.conftest import PNGSUITE
from tests.reference_png import decode_png

pytestmark = pytest.mark.usefixtures("fake_models")


def assert_refused(result: Result, folder: Path, source: Path) -> None:
    assert result.code == 1
    assert len(result.error_lines) == 1
    assert result.err.startswith(f"nvae-codec: {source}: ")
    assert "internal error" not in result.err
    assert list(folder.iterdir()) == [source]


@pytest.mark.parametrize("name", sorted(path.stem for path in PNGSUITE.glob("x*.png")))
def test_corrupt_pngs_are_refused(run: Run, tmp_path: Path, name: str) -> None:
    source = tmp_path / f"{name}.png"
    source.write_bytes((PNGSUITE / source.name).read_bytes())
    assert_refused(run("compress", source), tmp_path, source)


def test_the_sound_ones_come_back(run: Run, tmp_path: Path) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    names = sorted(path.name for path in PNGSUITE.glob("[!x]*.png"))
    assert run("compress", *(PNGSUITE / name for name in names), "-o", there).code == 0
    assert run("decompress", there, "-o", back).code == 0
    assert sorted(path.name for path in back.iterdir()) == names
    for name in names:
        one, other = (decode_png((folder / name).read_bytes()) for folder in (PNGSUITE, back))
        assert (one.bits, one.colour_type, one.chunks) == (other.bits, other.colour_type, other.chunks)
        assert (one.samples == other.samples).all()


@pytest.mark.parametrize("data", [b"", b"Just a text.\n", b"\0" * 300, b"\xd6N"], ids=["empty", "text", "zeros", "cut"])
@pytest.mark.parametrize("command", ["compress", "decompress", "test", "info"])
def test_what_is_no_image_is_refused(run: Run, tmp_path: Path, command: str, data: bytes) -> None:
    source = tmp_path / "strange"
    source.write_bytes(data)
    assert_refused(run(command, source), tmp_path, source)


@pytest.fixture
def small(run: Run, tmp_path: Path) -> Path:
    """A small image, with metadata, that went through the model."""
    folder = tmp_path / "small"
    folder.mkdir()
    path = folder / "small.nvae"
    assert run("compress", PNGSUITE / "ccwn2c08.png", "-o", path, "--method", "model").code == 0
    return path


def test_every_truncation_is_refused(run: Run, small: Path) -> None:
    whole = small.read_bytes()
    for length in range(0, len(whole), 3):
        small.write_bytes(whole[:length])
        assert_refused(run("decompress", small), small.parent, small)


def test_every_flipped_bit_is_refused(run: Run, small: Path) -> None:
    whole = small.read_bytes()
    header_bytes = len(whole) - len(split_parts(whole).payload)
    bits = [*range(8 * header_bytes), *random.Random(5).sample(range(8 * header_bytes, 8 * len(whole)), 1000)]
    for bit in bits:
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        small.write_bytes(damaged)
        assert_refused(run("decompress", small), small.parent, small)


def test_a_file_with_a_tail_is_refused(run: Run, small: Path) -> None:
    small.write_bytes(small.read_bytes() + b"\n")
    assert_refused(run("decompress", small), small.parent, small)


def test_a_folder_in_place_of_a_file_is_refused(run: Run, small: Path) -> None:
    result = run("info", small.parent / "nowhere")
    assert (result.code, result.error_lines) == (
        1,
        [f"nvae-codec: {small.parent / 'nowhere'}: No such file or directory"],
    )
