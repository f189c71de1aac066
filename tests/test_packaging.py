"""What setuptools installs: pyproject.toml names every package by hand, so a new folder is easily forgotten."""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_folder_with_code_is_installed() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {package: ROOT / folder for package, folder in setuptools["package-dir"].items()}
    with_code = {
        ".".join((package, *module.parent.relative_to(folder).parts))
        for package, folder in folders.items()
        for module in folder.rglob("*.py")
    }
    assert sorted(with_code) == sorted(setuptools["packages"])


def test_coding_imports_nothing_of_training() -> None:
    code = (
        "import nvae_codec, sys; nvae_codec.load_model('photo', device='cpu');"
        "print(*(name for name in sys.modules if name.startswith(('nvae_codec.network', 'nvae_codec.training',"
        "'nvae_codec.recipes', 'nvae_codec.export', 'nvae_codec.evaluation'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
