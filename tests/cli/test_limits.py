"""--max-pixels: a limit of one command, in its worker processes too."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.cli.conftest import Run
from tests.models import make_picture


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.fromarray(make_picture(20, 30)).save(path)
    return path


def test_larger_pictures_are_refused_in_one_line_both_ways(run: Run, picture: Path) -> None:
    before = Image.MAX_IMAGE_PIXELS
    compress = ("compress", picture, "--method", "webp", "-f")
    refused = run(*compress, "--max-pixels", "599")
    assert (refused.code, len(refused.error_lines)) == (1, 1)
    assert "30x20 is more than the limit of 599 pixels" in refused.err
    assert run(*compress, "--max-pixels", "600").code == 0
    file = picture.with_suffix(".nvae")
    for command in ("test", "decompress"):
        refused = run(command, file, "--max-pixels", "599")
        assert (refused.code, len(refused.error_lines)) == (1, 1)
    assert run("test", file, "--max-pixels", "0").code == 0
    assert before == Image.MAX_IMAGE_PIXELS


def test_the_limit_is_stated(run: Run) -> None:
    assert f"{Image.MAX_IMAGE_PIXELS:,}" in run("compress", "--help").out.decode()


@pytest.mark.parametrize("workers", [1, 2])
def test_archives_too(run: Run, picture: Path, workers: int) -> None:
    archive = picture.with_name("all.nvae")
    packed = run("pack", picture, "-o", archive, "--method", "webp")
    assert packed.code == 0
    given = ("-o", picture.parent / "out", "--workers", str(workers))
    refused = run("unpack", archive, *given, "--max-pixels", "599")
    assert refused.code == 1
    assert "limit of 599" in refused.err
    assert run("unpack", archive, *given, "--max-pixels", "600").code == 0
