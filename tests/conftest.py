"""What many tests need: the PngSuite, and models that deflate."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from nvae_codec.zoo import library as model_library
from tests.fakes import FakeLoader, write_fake_model

# tiny networks gain nothing from threads and lose much beside other processes; tests that need two ask for them
os.environ.setdefault("OMP_NUM_THREADS", "1")

PNGSUITE = Path(__file__).parent / "data" / "pngsuite"


@pytest.fixture
def fake_models(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> FakeLoader:
    """The models photo and mnist are installed, and loading one gives a codec that deflates."""
    folder = tmp_path_factory.mktemp("models")
    write_fake_model(folder, "photo").with_name("card.md").write_text("# A model of photographs\n\nIt deflates.\n")
    write_fake_model(folder, "mnist")
    loader = FakeLoader()
    monkeypatch.setattr(model_library, "MODELS_FOLDER", folder)
    monkeypatch.setitem(sys.modules, "nvae_codec.zoo.load", loader)
    return loader


@pytest.fixture(scope="session")
def pngsuite() -> Path:
    return PNGSUITE
