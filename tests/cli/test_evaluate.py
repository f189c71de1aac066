"""nvae-codec evaluate."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nvae_codec import load_model
from nvae_codec.errors import NvaeCodecError
from nvae_codec.evaluation import integer_elbo
from nvae_codec.evaluation.images import Evaluator
from nvae_codec.evaluation.inputs import find_inputs
from nvae_codec.images.raster import RasterImage
from tests.cli.conftest import Run
from tests.models import make_image, save_images

MODEL = Path(__file__).parents[1] / "golden" / "tiny.safetensors"


def test_a_folder_is_evaluated(run: Run, tmp_path: Path) -> None:
    folder, out = save_images(tmp_path / "in", 2, 24), tmp_path / "out.json"
    result = run("evaluate", folder, "--model", MODEL, "--samples", "2", "--json", out)
    assert (result.code, result.error_lines) == (0, [])
    found = json.loads(out.read_text())
    assert found["format"] == "nvae-codec evaluation 1"
    assert [row["name"] for row in found["images"]] == ["0.png", "1.png"]
    for row in (found["total"], *found["images"]):
        assert sum(row["bits"].values()) == row["file_bits"]
        assert row["bpd_float_elbo"] is None
        assert row["bpd_file"] == row["file_bits"] / row["dims"]
    pixels = np.asarray(Image.open(folder / "0.png"))
    expected = integer_elbo(pixels, load_model(MODEL), seed=0, samples=2).bits_per_dim  # type: ignore[arg-type]
    assert found["images"][0]["bpd_integer_elbo"] == pytest.approx(expected, abs=1e-9)
    table = result.out.decode()
    assert f"{found['total']['bpd_file']:.6f}" in table
    assert "tile edges" in table
    assert f"{expected:.5f}" in table


@pytest.mark.parametrize("shape", [(3, 16, 20, 3), (2, 16, 20)])
def test_arrays_are_evaluated(run: Run, tmp_path: Path, shape: tuple[int, ...]) -> None:
    images = np.stack([make_image(16, 20, seed) for seed in range(shape[0])])
    np.savez(tmp_path / "some.npz", images=images if len(shape) == 4 else images[..., 0])
    out = tmp_path / "out.json"
    assert run("evaluate", tmp_path / "some.npz", "--model", MODEL, "--samples", "1", "-q", "--json", out).code == 0
    found = json.loads(out.read_text())
    assert [row["name"] for row in found["images"]] == [f"some.npz#{index}" for index in range(shape[0])]
    assert found["total"]["dims"] == shape[0] * 16 * 20 * (3 if len(shape) == 4 else 1)


def test_a_set_is_evaluated_as_an_archive(run: Run, tmp_path: Path) -> None:
    source, archive, out = tmp_path / "some.npz", tmp_path / "some.nvae", tmp_path / "out.json"
    np.savez(source, images=np.stack([make_image(16, 20, seed) for seed in range(6)]))
    for segment in (("--segment", "4"), ("--segment", "all"), ()):
        assert run("pack", source, "-o", archive, "-f", "--model", MODEL, "--method", "model", *segment).code == 0
        how = ("--model", MODEL, "--samples", "1", "--json", out, *segment)
        result = run("evaluate", source, "--archive", *how)
        assert (result.code, result.error_lines) == (0, [])
        found = json.loads(out.read_text())
        assert found["archive"]["bytes"] == archive.stat().st_size
        assert found["total"]["file_bits"] == 8 * archive.stat().st_size == sum(found["total"]["bits"].values())
        assert [row["name"] for row in found["images"]] == [f"{index:05d}.png" for index in range(6)]
    assert f"{8 * archive.stat().st_size:,} bits" in result.out.decode()
    (tmp_path / "broken.png").write_bytes(b"no image")
    broken = run("evaluate", tmp_path / "broken.png", "--archive", "--model", MODEL)
    assert (broken.code, len(broken.error_lines), "no image to measure" in broken.err) == (1, 2, True)


def test_what_cannot_be_evaluated_is_named_and_the_rest_done(run: Run, tmp_path: Path) -> None:
    folder, out = save_images(tmp_path / "in", 1, 24), tmp_path / "out.json"
    Image.new("RGBA", (8, 8)).save(folder / "alpha.png")
    (folder / "broken.png").write_bytes(b"no image")
    result = run("evaluate", folder, "--model", MODEL, "--samples", "1", "--json", out)
    assert result.code == 1
    assert [line.split(":")[1].strip() for line in result.error_lines] == ["alpha.png", "broken.png"]
    assert json.loads(out.read_text())["total"]["images"] == 1
    assert run("evaluate", folder / "alpha.png", "--model", MODEL).code == 1
    assert run("evaluate", tmp_path / "nothing.png").code == 2


def without_times(report: Path) -> dict[str, object]:
    """All of a report but what a second run has otherwise."""
    found: dict[str, Any] = json.loads(report.read_text())
    for row in (found["total"], *found["images"]):
        del row["encode_seconds"], row["decode_seconds"]
    return found


@pytest.mark.parametrize("count", [2, 5])
def test_reports_of_shards_merge_to_the_numbers_of_one(run: Run, tmp_path: Path, count: int) -> None:
    folder, alone, merged = save_images(tmp_path / "in", 3, 24), tmp_path / "alone.json", tmp_path / "merged.json"
    (folder / "2.png").write_bytes(b"no image")
    how = (folder, "--model", MODEL, "--samples", "1", "--baselines", "-q", "--json")
    assert run("evaluate", *how, alone).code == 1
    shards = [tmp_path / f"{number}.json" for number in range(1, count + 1)]
    lines = [run("evaluate", *how, shard, "--shard", f"{shard.stem}/{count}").error_lines for shard in shards]
    assert sum(map(len, lines)) == 1
    assert run("merge", *reversed(shards), "-o", merged).error_lines == []
    assert without_times(merged) == without_times(alone)
    missing = run("merge", *shards[1:], "-o", merged, "-f")
    assert (missing.code, missing.error_lines) == (1, [f"nvae-codec: shard 1/{count} is missing"])
    assert run("evaluate", *how, shards[0], "--shard", f"1/{count}", "--seed", "1").code == 0
    other = run("merge", *shards, "-o", merged, "-f")
    assert (other.code, "of other inputs or options" in other.err) == (1, True)
    whole = run("merge", alone, "-o", merged, "-f")
    assert (whole.code, "not a shard" in whole.err) == (1, True)
    shards[0].write_text("[1, 2]")
    broken = run("merge", *shards, "-o", merged, "-f")
    assert broken.error_lines == [f"nvae-codec: {shards[0]}: it is no report of nvae-codec evaluate"]
    assert without_times(merged) == without_times(alone)


def test_what_fails_while_it_is_measured_is_named(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = Evaluator.measure

    def fail_once(self: Evaluator, name: str, image: RasterImage) -> Any:
        if name == "0.png":
            raise NvaeCodecError("a second encoding gave another file")
        return measure(self, name, image)

    monkeypatch.setattr(Evaluator, "measure", fail_once)
    how = (save_images(tmp_path / "in", 2, 24), "--model", MODEL, "--samples", "1")
    named = "nvae-codec: 0.png: a second encoding gave another file"
    plain, debug = run("evaluate", *how), run("evaluate", *how, "-v", "--debug")
    assert (plain.code, plain.error_lines) == (1, [named])
    assert (debug.code, debug.error_lines) == (1, [named])
    assert "in fail_once" in debug.err
    assert "1.png: " in debug.err, "the rest is measured"


def test_workers_measure_the_same(run: Run, tmp_path: Path) -> None:
    folder, one, two = save_images(tmp_path / "in", 3, 24), tmp_path / "one.json", tmp_path / "two.json"
    Image.new("RGBA", (8, 8)).save(folder / "alpha.png")
    for report, workers in ((one, 1), (two, 2)):
        how = ("--model", MODEL, "--device", "cpu", "--samples", "1", "--workers", workers, "-q", "--json", report)
        assert [line.split(":")[1] for line in run("evaluate", folder, *how).error_lines] == [" alpha.png"]
    assert without_times(one) == without_times(two)


@pytest.mark.parametrize(
    "wrong", [("--shard", "1/2"), ("--archive", "--workers", "2"), ("--archive", "--ray", "local")]
)
def test_wrong_usage(run: Run, tmp_path: Path, wrong: tuple[str, ...]) -> None:
    assert run("evaluate", save_images(tmp_path / "in", 1, 24), "--model", MODEL, *wrong).code == 2


def test_other_arrays_are_refused(run: Run, tmp_path: Path) -> None:
    np.savez(tmp_path / "floats.npz", images=np.zeros((2, 8, 8)))
    np.savez(tmp_path / "other.npz", pixels=np.zeros((2, 8, 8), np.uint8))
    (tmp_path / "none.npz").write_bytes(b"no arrays")
    for name in ("floats", "other", "none"):
        result = run("evaluate", tmp_path / f"{name}.npz", "--model", MODEL)
        assert result.code == 1
        assert f"{name}.npz: " in result.err
        assert "internal" not in result.err


def test_folders_are_searched(tmp_path: Path) -> None:
    save_images(tmp_path / "a" / "b", 2, 24)
    assert [item.name for item in find_inputs([tmp_path / "a", tmp_path / "a" / "b" / "1.png"])] == [
        "b/0.png", "b/1.png", "1.png",
    ]  # fmt: skip


def test_a_report_is_written(run: Run, tmp_path: Path) -> None:
    folder = save_images(tmp_path / "in", 2, 24)
    out, page, charts = tmp_path / "out.json", tmp_path / "out.html", tmp_path / "charts"
    how = ("--model", MODEL, "--samples", "1", "-q", "--json", out, "--html", page, "--charts", charts)
    result = run("evaluate", folder, *how)
    assert (result.code, result.out, result.err) == (0, b"", "")
    found = json.loads(out.read_text())
    assert found["total"]["baselines"]["PNG"] == sum(row["baselines"]["PNG"] for row in found["images"])
    assert f'"bpd_file":{found["total"]["bpd_file"]}' in page.read_text(encoding="utf-8")
    assert (charts / "overhead.csv").read_text().startswith("cause,bits\n")


@pytest.mark.parametrize("archive", [False, True])
def test_a_model_of_digits_is_evaluated(run: Run, tmp_path: Path, archive: bool) -> None:
    digits = np.where(np.stack([make_image(28, 28, seed)[..., 0] for seed in range(3)]) > 150, 255, 0)
    source, out = tmp_path / "digits.npz", tmp_path / "out.json"
    np.savez(source, images=digits.astype(np.uint8))
    how = ("--model", MODEL.with_name("digits.safetensors"), "--samples", "1", "--json", out, "--html", f"{out}.html")
    result = run("evaluate", source, *how, *(["--archive"] if archive else []))
    assert (result.code, result.error_lines) == (0, [])
    total = json.loads(out.read_text())["total"]
    assert total["dims"] == 3 * 28 * 28
    assert sum(total["bits"].values()) == total["file_bits"]
    np.savez(source, images=np.zeros((1, 28, 28, 3), np.uint8))
    assert run("evaluate", source, *how).error_lines[0].endswith("the model takes gray, not 8-bit RGB")
