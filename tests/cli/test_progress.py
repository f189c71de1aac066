"""Progress bars of the commands."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from nvae_codec.cli.report import Bar
from tests.cli.conftest import Run
from tests.models import make_image

MODEL = Path(__file__).parents[1] / "golden" / "tiny.safetensors"
ON_TINY = ("--model", MODEL, "--device", "cpu")


def test_progress_moves_within_an_image(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[float] = []
    monkeypatch.setattr(Bar, "move", watch_moves(Bar.move, shown))
    image, packed = tmp_path / "a.png", tmp_path / "a.nvae"
    Image.fromarray(make_image(100, 90)).save(image)
    for command in (
        ("compress", image, "--method", "model", *ON_TINY),
        ("test", packed, *ON_TINY),
        ("pack", image, image, "-o", tmp_path / "b.nvae", "--method", "model", *ON_TINY),
        ("unpack", tmp_path / "b.nvae", *ON_TINY),
        ("evaluate", image, *ON_TINY, "--samples", "1", "-q"),
    ):
        shown.clear()
        run(*command)
        assert len(set(shown)) > 3, command
        assert shown == sorted(shown)
        assert shown[-1] == pytest.approx(1)


def watch_moves(move: Callable[..., None], shown: list[float]) -> Callable[..., None]:
    """A bar's ``move`` that keeps what is shown."""

    def watched(bar: Bar, share: float, pixels: int = 0) -> None:
        move(bar, share, pixels)
        shown.append(bar._shown)

    return watched
