from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.fakes import write_fake_model


@pytest.mark.usefixtures("fake_models")
def test_models_lists_all_of_them(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVAE_CODEC_MODELS", str(tmp_path))
    write_fake_model(tmp_path, "mine").with_name("README.md").write_text("\n# Mine\n")
    told = "# Other\n\nFor images\nof 32x32: ten groups. And more.\n"
    write_fake_model(tmp_path, "other").with_name("card.md").write_text(told)
    older = tmp_path / "mine" / "older" / "model.safetensors"
    older.parent.mkdir()
    write_fake_model(tmp_path, "old").replace(older)
    listed = json.loads(run("models", "--json").out)
    assert [(model["name"], model["older"], model["default"]) for model in listed] == [
        ("mnist", False, False),
        ("photo", False, True),
        ("mine", False, False),
        ("other", False, False),
        ("old", True, False),
    ]
    lines = run("models").out.decode().splitlines()
    assert lines[2].endswith("bytes  Mine")
    assert lines[3].endswith("bytes  For images of 32x32")
    assert lines[4].endswith("bytes  an older model of that name")
