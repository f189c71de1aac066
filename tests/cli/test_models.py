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
    listed = json.loads(run("models", "--json").out)
    assert [(model["name"], model["default"]) for model in listed] == [
        ("mnist", False),
        ("photo", True),
        ("mine", False),
        ("other", False),
    ]
    lines = run("models").out.decode().splitlines()
    assert lines[0].split() == ["name", "identity", "bytes", "card"]
    assert lines[3].endswith("  Mine")
    assert lines[4].endswith("  For images of 32x32")


def test_recipes_are_listed_by_name(run: Run) -> None:
    recipes = {row["name"]: row["about"] for row in json.loads(run("models", "--recipes", "--json").out)}
    assert {"photo", "cifar10", "small-photo"} <= recipes.keys()
    assert recipes["small-photo"].startswith("Photographs")
    assert "small-photo" in run("models", "--recipes").out.decode()
