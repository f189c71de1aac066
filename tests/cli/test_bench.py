"""nvae-codec bench."""

import importlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nvae_codec import compress
from nvae_codec.evaluation.baselines import Baseline, baseline_bits, list_baselines
from nvae_codec.evaluation.bench import codec_names, measure_codec
from nvae_codec.runtime import peak_resident_memory
from tests.cli.conftest import Run
from tests.models import make_image, save_images

MODEL = Path(__file__).parents[1] / "golden" / "tiny.safetensors"


def test_codecs_are_measured_in_processes_of_their_own(run: Run, tmp_path: Path) -> None:
    folder, out = save_images(tmp_path / "in", 2, 24), tmp_path / "out.json"
    result = run("bench", folder, "--model", MODEL, "--codec", "nvae-codec", "--codec", "PNG", "--json", out)
    assert (result.code, result.err) == (0, "")
    found = json.loads(out.read_text())
    ours, png = found["codecs"]
    assert found["images"] == 2
    assert found["machine"]["torch"]
    assert len(found["load"]) == 2
    assert found["dims"] == 3 * 24 * (24 + 32)
    expected = [
        8 * len(compress(make_image(24, width, index), model=MODEL, method="model"))
        for index, width in enumerate((24, 32))
    ]
    assert [file["bits"] for file in ours["files"]] == expected
    for row in (ours, png):
        assert row["bits"] == sum(file["bits"] for file in row["files"])
        assert row["bpd"] == row["bits"] / found["dims"]
        assert row["encode_mp_per_second"] > 0
        assert row["peak_bytes"] >= row["rest_bytes"] > 0
    assert "torch" not in png["library"]
    assert png["rest_bytes"] < ours["rest_bytes"]  # the others need no torch
    assert f"{ours['bpd']:.4f}" in result.out.decode()


def test_all_formats_give_the_pixels_back(tmp_path: Path) -> None:
    folder = save_images(tmp_path, 1, 40)
    assert codec_names() == [
        "nvae-codec", "PNG", "WebP m2", "WebP m6", "JPEG 2000", "JPEG XL e3", "JPEG XL e7", "JPEG XL e9",
    ]  # fmt: skip
    for baseline in list_baselines():
        row = measure_codec(baseline, [str(folder)])
        assert row["library"] is None or row["bpd"] < 8


def test_gray_is_measured_as_gray(tmp_path: Path) -> None:
    gray = np.stack([make_image(40, 48, seed)[:, :, 1] for seed in range(2)])
    np.savez(tmp_path / "gray.npz", images=gray)
    for baseline in list_baselines():
        row = measure_codec(baseline, [str(tmp_path / "gray.npz")])
        assert row["library"] is None or row["bpd"] == row["bits"] / gray.size
    png = measure_codec(list_baselines()[0], [str(tmp_path / "gray.npz")])
    with Image.open(io.BytesIO(list_baselines()[0].encode(gray[0]))) as image:
        assert image.mode == "L"
    assert png["mean_bpd"] < 8


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib, "import_module", _refuse)
    assert [baseline.name for baseline in list_baselines() if baseline.made_by is None] == [
        "JPEG XL e3",
        "JPEG XL e7",
        "JPEG XL e9",
    ]
    assert measure_codec(list_baselines()[-1], []) == {"name": "JPEG XL e9", "library": None}
    assert set(baseline_bits(make_image(16, 16))) == {"PNG", "WebP m6"}


def _refuse(name: str) -> None:
    raise ImportError(name)


def test_wrong_pixels_are_an_error(tmp_path: Path) -> None:
    folder = save_images(tmp_path, 1, 24)
    broken = Baseline("broken", "it 1", lambda pixels: b"", lambda data: np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(Exception, match="does not give back"):
        measure_codec(broken, [str(folder)])


def test_unknown_codecs_are_refused(run: Run, tmp_path: Path) -> None:
    result = run("bench", save_images(tmp_path, 1, 24), "--codec", "GIF")
    assert result.code == 2
    assert "there is no codec GIF" in result.err


def test_memory_is_that_of_this_process() -> None:
    assert 10_000_000 < peak_resident_memory() < 100_000_000_000
