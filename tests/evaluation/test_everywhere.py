"""What the check of all settings tells of each."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from tools import everywhere
from tools.everywhere import Setting, list_settings


def test_settings_name_torch_and_no_path_of_this_machine() -> None:
    settings = list_settings([sys.executable])
    described = [setting.describe() for setting in settings]
    assert len({json.dumps(each) for each in described}) == len(settings) == 8
    assert {setting.python for setting in settings} == {sys.executable}
    assert {each["torch"] for each in described} == {torch.__version__}
    assert sys.executable not in json.dumps(described)


def test_a_single_image_is_checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    image, out = tmp_path / "a.png", tmp_path / "out.json"
    Image.new("RGB", (3, 2), "red").save(image)
    commands = []

    def copy(_setting: Setting, command: str, inputs: list[Path], output: Path) -> None:
        commands.append(command)
        shutil.copy(inputs[0], output / ("a.nvae" if command == "compress" else "a.png"))

    monkeypatch.setattr(everywhere, "run", copy)
    monkeypatch.setattr(everywhere, "list_settings", lambda _: [Setting(1, n, {}, "2.13.0", "python") for n in (1, 4)])
    monkeypatch.setattr(sys, "argv", ["everywhere", str(image), "--json", str(out)])
    everywhere.main()
    assert commands == ["compress", "decompress"] * 2
    result = json.loads(out.read_text())
    assert result["settings"][1] == {"threads": 1, "tiles": 4, "environment": {}, "torch": "2.13.0"}
    assert list(result["files"]) == ["a.nvae"]
