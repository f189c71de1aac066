"""What docs/extending.md changes in the code applies to it and works, and touches no more files than it should."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
MOST_FILES = {"A likelihood": 2, "A kind of group": 2, "A block of the file": 1}


@pytest.mark.parametrize("section", MOST_FILES)
def test_what_the_page_adds_works(section: str, tmp_path: Path) -> None:
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    diff, code = (re.findall(f"```{kind}\n(.*?)```", text, re.DOTALL)[0] for kind in ("diff", "python"))
    assert len(re.findall(r"^\+\+\+ b/", diff, re.MULTILINE)) <= MOST_FILES[section]
    for folder in ("nvae_codec", "cli"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "models").symlink_to(ROOT / "models")
    for command in (
        ["git", "apply", "-"],
        [sys.executable, "-c", f"import nvae_codec as n; print(n.__file__)\n{code}"],
    ):
        done = subprocess.run(
            command, cwd=tmp_path, input=diff, env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert Path(done.stdout.splitlines()[0]).is_relative_to(tmp_path)
