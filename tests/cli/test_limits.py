"""--max-pixels: a limit of one command, in its worker processes too."""

from pathlib import Path

import pytest
from PIL import Image

from tests.cli.conftest import Run
from tests.models import make_image


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.png"
    Image.fromarray(make_image(20, 30)).save(path)
    return path


def test_larger_images_are_refused_in_one_line_both_ways(run: Run, image: Path) -> None:
    before = Image.MAX_IMAGE_PIXELS
    compress = ("compress", image, "--method", "webp", "-f")
    refused = run(*compress, "--max-pixels", "599")
    assert (refused.code, len(refused.error_lines)) == (1, 1)
    assert "30x20 is more than the limit of 599 pixels" in refused.err
    assert run(*compress, "--max-pixels", "600").code == 0
    file = image.with_suffix(".nvae")
    for command in ("test", "decompress"):
        refused = run(command, file, "--max-pixels", "599")
        assert (refused.code, len(refused.error_lines)) == (1, 1)
    assert run("test", file, "--max-pixels", "0").code == 0
    assert before == Image.MAX_IMAGE_PIXELS


def test_the_limit_is_stated(run: Run) -> None:
    assert f"{Image.MAX_IMAGE_PIXELS:,}" in run("compress", "--help").out.decode()


@pytest.mark.parametrize("workers", [1, 2])
def test_archives_too(run: Run, image: Path, workers: int) -> None:
    archive = image.with_name("all.nvae")
    packed = run("pack", image, "-o", archive, "--method", "webp")
    assert packed.code == 0
    given = ("-o", image.parent / "out", "--workers", str(workers))
    refused = run("unpack", archive, *given, "--max-pixels", "599")
    assert refused.code == 1
    assert "limit of 599" in refused.err
    assert run("unpack", archive, *given, "--max-pixels", "600").code == 0
