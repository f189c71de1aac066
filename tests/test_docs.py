"""The documentation builds without a warning, and what it shows runs."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nvae_codec.cli.main import COMMANDS, main
from nvae_codec.recipes.files import parse_recipe
from tests.models import make_image, save_images
from tools.reference import man_pages

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["material", "mkdocs"])
def test_the_site_builds_without_a_warning(tmp_path: Path, theme: str) -> None:
    pytest.importorskip("mkdocs", reason="the site's tools are not installed: the extra docs")
    # not --quiet, with which mkdocs counts no warnings and --strict cannot fail
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "SITE_THEME": theme}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    assert {line.split()[0] for line in built.stderr.splitlines()} == {"INFO"}
    commands = (tmp_path / "commands" / "index.html").read_text(encoding="utf-8")
    assert all(word in commands for word in ("--only", "--max-pixels", "default: photo"))
    assert "Sentinel" not in commands
    assert "Raises DamagedFileError" in (tmp_path / "api" / "index.html").read_text(encoding="utf-8")


def test_every_command_has_a_man_page() -> None:
    pages = man_pages()
    assert len(pages) == 1 + len(COMMANDS)
    assert ".B \\-\\-only NAME\n" in pages["nvae-codec-unpack.1"]
    for name, text in pages.items():
        assert not [line for line in text.splitlines() if line.startswith("'")], name
        if shutil.which("man"):
            command = ["man", "--warnings", "-l", "-"]
            shown = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
            assert shown.stderr == "", name


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    assert found, f"{page} has no {language}"
    return found


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with photo.png and images/, which is the working directory."""
    Image.fromarray(make_image(64, 96)).save(tmp_path / "photo.png")
    save_images(tmp_path / "images", 4)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_lines(block: str) -> None:
    """Run the nvae-codec commands of a block."""
    for line in block.splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["nvae-codec"]:
            assert main(words[1:]) == 0, line


def test_the_first_page_runs(desk: Path) -> None:
    for block in blocks("index.md", "console"):
        run_lines(block)
    pixels = np.asarray(Image.open(desk / "photo.png"))
    assert np.array_equal(np.asarray(Image.open(desk / "restored.png")), pixels)
    for block in blocks("index.md", "python"):
        exec(block, {})


@pytest.mark.slow
def test_the_training_guide_runs(desk: Path) -> None:
    recipe, addition = blocks("training.md", "toml")
    experts, histories = addition.split("\n\n")
    parse_recipe(recipe.replace("[likelihood]", experts) + histories)
    # as written but shorter: what is tested is that it works, not what it learns
    (desk / "mine.toml").write_text(recipe.replace("steps = 200", "steps = 3"))
    for block in blocks("training.md", "console"):
        run_lines(block.replace("--steps 220", "--steps 4"))
    assert np.array_equal(np.asarray(Image.open(desk / "restored.png")), np.asarray(Image.open(desk / "photo.png")))


def test_the_tour_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    cells = json.loads((DOCS / "tour.ipynb").read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert sources
    names: dict[str, Any] = {}
    for source in sources:
        exec(source, names)


def test_the_worked_example_of_the_theory_runs() -> None:
    (block,) = blocks("theory.md", "python")
    names: dict[str, float] = {}
    exec(block, names)
    assert names["bits"] < 1.01 * 20_000


def test_the_files_and_names_of_the_concepts_exist() -> None:
    text = (DOCS / "concepts.md").read_text(encoding="utf-8")
    paths = re.findall(r"`([\w/]+(?:\.py|/))`", text)
    assert len(paths) > 20
    assert [path for path in paths if not any((root / path).exists() for root in (ROOT, ROOT / "nvae_codec"))] == []
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "nvae_codec").rglob("*.py"))
    names = {*re.findall(r"`(?:\w+\.)?(\w+)\([^`]*\)`", text), *re.findall(r"`(\w*[A-Z_]\w+)`", text)}
    assert len(names) > 20
    assert names - set(re.findall(r"(?:def|class) (\w+)", source)) == set()


@pytest.mark.usefixtures("desk")
def test_the_page_on_pillow_and_arrays_runs() -> None:
    for block in blocks("python.md", "python"):
        exec(block, {})


def test_the_page_on_many_machines_runs(desk: Path) -> None:
    # as written, but by what takes no time
    evaluated = f"evaluate --samples 1 --model {ROOT / 'tests/golden/tiny.safetensors'}"
    for block in blocks("many-machines.md", "console"):
        run_lines(block.replace("pack", "pack --method webp").replace("evaluate", evaluated))
    alone = (desk / "alone.nvae").read_bytes()
    assert (desk / "workers.nvae").read_bytes() == alone
    assert (desk / "merged.nvae").read_bytes() == alone


@pytest.mark.slow
def test_the_page_on_evaluation_runs(desk: Path) -> None:
    # as written, but by a model that takes no time, and without a training run
    model = f"--model {ROOT / 'tests/golden/tiny.safetensors'}"
    np.savez(desk / "images.npz", images=np.stack([make_image(16, 16, seed) for seed in range(3)]))
    for block in blocks("evaluation.md", "console"):
        here = block.replace("photos/", "images/").replace("--model photo --run run/ --samples 16", "")
        quick = here.replace("evaluate", f"evaluate --samples 1 {model}")
        run_lines(quick.replace("bench images", f"bench {model} --codec nvae-codec --codec PNG images"))
    assert (desk / "figures" / "overhead.svg").is_file()
    assert (desk / "bench.json").is_file()


def test_the_page_on_recipes_runs(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_images(desk / "photos", 2, 160)
    (desk / "mine.toml").write_text(blocks("recipes.md", "toml")[0])
    for block in blocks("recipes.md", "console"):
        for line in block.replace("--data cifar10", "--data photos/").splitlines():
            assert main([*shlex.split(line)[1:], "--dry-run"]) == 0
    assert 'name = "mine"' in capsys.readouterr().out
