"""What is shipped works: the models, the examples, and the commands that the README names."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nvae_codec
from nvae_codec.evaluation import integer_elbo
from nvae_codec.recipes.files import read_recipe
from nvae_codec.zoo.library import ModelInfo, find_model, installed_models
from tests.golden_files import keep_golden

ROOT = Path(__file__).parent.parent
PHOTOGRAPH = ROOT / "examples" / "parrots.png"


def crop(top: int, left: int, height: int, width: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    with Image.open(PHOTOGRAPH) as image:
        return np.ascontiguousarray(np.asarray(image)[top : top + height, left : left + width])


@pytest.mark.parametrize("info", installed_models(), ids=lambda info: info.name)
def test_installed_models_are_complete(info: ModelInfo) -> None:
    assert read_recipe(info.path.with_name("recipe.toml")).name == info.name == info.path.parent.name
    assert info.path.with_name("card.md").read_text(encoding="utf-8").startswith(f"# {info.name}\n")


def test_photo_round_trips_near_its_bound() -> None:
    model = nvae_codec.load_model("photo", device="cpu")
    pixels = crop(100, 200, 192, 256)
    data = nvae_codec.compress(pixels, model=model, method="model", effort=1)
    assert np.array_equal(nvae_codec.decompress(data, model=model), pixels)
    bound = integer_elbo(pixels, model, samples=1)  # type: ignore[arg-type]
    assert 0.995 < 8 * len(data) / bound.bits < 1.02
    assert bound.bits_per_dim < 4


@pytest.mark.parametrize("shape", [(1, 1), (1, 19), (33, 2), (17, 16)])
def test_photo_takes_any_size(shape: tuple[int, int]) -> None:
    pixels = crop(200, 300, *shape)
    data = nvae_codec.compress(pixels, method="model")
    assert np.array_equal(nvae_codec.decompress(data), pixels)


def test_the_library_example_runs(tmp_path: Path) -> None:
    image = tmp_path / "crop.png"
    Image.fromarray(crop(0, 0, 64, 80)).save(image)
    run = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "library.py"), str(image)], capture_output=True, text=True, check=True
    )
    assert re.search(r"file +\d\.\d+ bits/dim\ninteger-model ELBO +\d\.\d+ bits/dim\n", run.stdout)


def test_the_readme_names_commands_that_exist() -> None:
    from nvae_codec.cli.main import COMMANDS

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^nvae-codec (\w+)", readme, re.MULTILINE))
    assert {"compress", "decompress", "test", "info", "train", "freeze"} <= named <= set(COMMANDS)


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "results").glob("*.json")), ids=lambda path: path.stem)
def test_results_name_no_path_of_the_machine_that_made_them(path: Path) -> None:
    assert not re.findall(r'"(?:/|~|[A-Za-z]:\\\\)[^"]*"', path.read_text(encoding="utf-8"))


def test_the_rates_of_the_readme_are_those_that_were_measured() -> None:
    kodak, bench, efforts = (
        json.loads((ROOT / f"docs/results/{name}.json").read_text()) for name in ("kodak", "bench", "efforts-kodak")
    )
    assert kodak["identity"] == efforts["identity"] == find_model("photo").identity.hex()
    rates = {row["name"]: row["mean_bpd"] for row in bench["codecs"]}
    by_effort = {
        effort: np.mean([each["efforts"][effort]["bits"] / each["dims"] for each in efforts["images"]])
        for effort in efforts["images"][0]["efforts"]
    }
    expected = {
        "PNG (Pillow, optimised)": rates["PNG"],
        "WebP lossless (method 6)": rates["WebP m6"],
        "JPEG XL (effort 7)": rates["JPEG XL e7"],
        "JPEG XL (effort 9)": rates["JPEG XL e9"],
        "nvae-codec, model [`photo`](models/photo/card.md), `--effort 1`": by_effort["1"],
        "nvae-codec, default effort": by_effort["5"],
        "nvae-codec, `--effort 9`": by_effort["9"],
    }
    rows = re.findall(r"^\| (.+?) \| (\d\.\d+) \|", (ROOT / "README.md").read_text().replace("**", ""), re.MULTILINE)
    assert rows == [(name, f"{rate:.3f}") for name, rate in expected.items()]


@pytest.mark.parametrize("info", installed_models(), ids=lambda info: info.name)
def test_files_of_every_shipped_model_are_read(info: ModelInfo) -> None:
    digit = np.zeros((28, 28), np.uint8)
    digit[5:8, 8:20] = digit[8:23, 15:18] = 255
    image = digit if info.name == "mnist" else crop(100, 200, 40, 48)
    data = nvae_codec.compress(image, model=info.path, method="model")
    golden = keep_golden(f"models/{info.name}-{info.id}.nvae", data)
    assert np.array_equal(nvae_codec.decompress(golden), image)
