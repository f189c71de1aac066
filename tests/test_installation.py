"""The package works from every working directory: in a clone and elsewhere, installed, editable or not installed."""

import os
import shutil
import subprocess
import sys
import venv
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOAD = "import nvae_codec; print(nvae_codec.load_model('photo', device='cpu').name, nvae_codec.__file__)"
COMPRESS = (
    "import numpy, nvae_codec; nvae_codec.compress(numpy.zeros((64, 64, 3), numpy.uint8), method='model', effort=2)"
)
LARGEST_WHEEL = 8_000_000


def find_packages(name: str) -> Path:
    """The folder that a package is installed in. It is not imported: setuptools refuses to be after distutils."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        pytest.skip(f"{name} is not installed")
    return Path(spec.origin).parents[1]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of this tree, as an installation builds in it and must not find what was built before."""
    ignored = shutil.ignore_patterns(".git", ".*_cache", "__pycache__", "build", "dist", "site", "*.egg-info", "tests")
    return Path(shutil.copytree(ROOT, tmp_path / "clone", ignore=ignored))


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """A new environment with everything but the package."""
    venv.create(tmp_path / "env", symlinks=True)
    (packages,) = (tmp_path / "env").glob("lib/*/site-packages")
    needed = {find_packages(name) for name in ("torch", "setuptools", "click", "pip")}
    (packages / "needed.pth").write_text("".join(f"{folder}\n" for folder in needed))
    return tmp_path / "env" / "bin" / "python"


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="environments are laid out as on Linux")
@pytest.mark.parametrize("how", ["not installed", "installed", "editable"])
def test_the_package_works_in_the_clone_and_elsewhere(clone: Path, python: Path, how: str) -> None:
    def run(*command: str | Path) -> str:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "NUMBA_CACHE_DIR")}
    environment["XDG_CACHE_HOME"] = str(clone.parent / "cache")
    folder = clone
    pip = (sys.executable, "-m", "pip", "-q", "--python", python)
    how_to_build = ("--no-deps", "--no-build-isolation")
    if how == "editable":
        run(*pip, "install", *how_to_build, "--editable", clone)
    if how == "installed":
        run(*pip, "wheel", *how_to_build, "-w", clone.parent, clone)
        (wheel,) = clone.parent.glob("*.whl")
        assert wheel.stat().st_size < LARGEST_WHEEL
        run(*pip, "install", "--no-deps", wheel)
    for folder in (clone,) if how == "not installed" else (clone, clone.parent):
        name, file = run(python, "-c", LOAD).split()
        assert name == "photo"
        used = clone if how == "editable" or folder == clone else python.parents[1]
        assert Path(file).is_relative_to(used)
        assert "photo" in run(python, "-m", "nvae_codec", "models")
        if how != "not installed":
            assert "photo" in run(python.with_name("nvae-codec"), "models")
    if how == "installed":
        # what pip did not install it does not remove, and an old folder of that name would hide an editable package
        run(python, "-c", COMPRESS)
        assert list((clone.parent / "cache").rglob("*.nbi"))
        assert not list(python.parents[1].rglob("*.nbi"))
        sample = subprocess.run(
            [python, "-m", "nvae_codec", "sample", "photo", "-o", "x.png"],
            cwd=clone.parent, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (sample.returncode, "installed models come without float weights" in sample.stderr) == (1, True)
