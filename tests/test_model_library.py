"""Models by name, path, identity and from Hugging Face's cache; those that a name meant before are found by files."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import nvae_codec
from nvae_codec.errors import UnknownModelError
from nvae_codec.zoo.library import (
    MODELS_FOLDER,
    find_by_identity,
    find_model,
    installed_models,
    more_models,
    older_models,
    read_model_info,
)
from tests.fakes import FakeLoader, write_fake_model

PIXELS = np.random.default_rng(2).integers(0, 256, (16, 24, 3), np.uint8)
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def identity_of(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def retire(model: Path) -> Path:
    """Move a model to where older ones lie."""
    older = model.parent / "older" / f"{read_model_info(model).id}.safetensors"
    older.parent.mkdir(exist_ok=True)
    return model.replace(older)


@pytest.fixture
def more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in NVAE_CODEC_MODELS, behind one that is not there."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setenv("NVAE_CODEC_MODELS", os.pathsep.join([str(tmp_path / "missing"), str(folder)]))
    return folder


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model mine of sea/wind in the hub's cache, without a network."""
    constants = pytest.importorskip("huggingface_hub.constants", reason="huggingface_hub is not installed")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    repository = tmp_path / "hub" / "models--sea--wind"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    blob = repository / "blobs" / "ab12"
    blob.parent.mkdir()
    write_fake_model(tmp_path, "mine").replace(blob)
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").symlink_to("../../blobs/ab12")
    return repository


def test_a_file_of_a_replaced_model_still_decodes(fake_models: FakeLoader, tmp_path: Path) -> None:
    data = nvae_codec.compress(PIXELS, method="model")
    before = find_model("photo")
    retire(before.path)
    newer = write_fake_model(tmp_path, "photo", identity=identity_of("newer").hex())
    shutil.copy(newer, before.path)
    assert find_model("photo").identity == identity_of("newer")
    assert find_by_identity(before.identity).identity == before.identity
    assert np.array_equal(nvae_codec.decompress(data), PIXELS)
    assert np.array_equal(nvae_codec.decompress(data, model="photo"), PIXELS)
    assert [info.id for info in older_models()] == [before.id]
    assert before.id not in [info.id for info in installed_models()]


@pytest.mark.usefixtures("fake_models")
def test_more_folders_are_searched_by_name_and_identity(more: Path) -> None:
    mine = write_fake_model(more, "mine")
    write_fake_model(more, "photo", identity=identity_of("other").hex())
    (more / "broken").mkdir()
    (more / "broken" / "model.safetensors").write_bytes(b"no model")
    older = retire(write_fake_model(more, "old"))
    assert find_model("mine").path == mine
    assert find_model("photo").identity == identity_of("photo"), "the installed one has the name"
    assert find_by_identity(identity_of("other")[:4]).path.parent == more / "photo"
    assert find_by_identity(identity_of("old")[:4]).path == older
    assert [info.name for info in more_models()] == ["mine", "photo"]
    with pytest.raises(UnknownModelError, match=r"there is no model old; here are: mnist .*, photo .*, mine .*, old "):
        find_model("old")


@pytest.mark.usefixtures("fake_models")
def test_a_folder_that_is_given_brings_its_older_models(tmp_path: Path) -> None:
    mine = write_fake_model(tmp_path, "mine")
    data = nvae_codec.compress(PIXELS, method="model", model=mine.parent)
    retire(mine)
    write_fake_model(tmp_path, "mine", identity=identity_of("better").hex())
    with pytest.raises(UnknownModelError, match=f"made by model {identity_of('mine')[:4].hex()}, which is not here"):
        nvae_codec.decompress(data)
    assert np.array_equal(nvae_codec.decompress(data, model=mine.parent), PIXELS)


@pytest.mark.usefixtures("fake_models")
def test_a_model_of_the_hub_is_found_in_its_cache(cached: Path) -> None:
    for name in ("hf://sea/wind", "hf://sea/wind@main", f"hf://sea/wind@{COMMIT}", cached / "snapshots" / COMMIT):
        info = find_model(name)
        assert (info.name, info.identity) == ("mine", identity_of("mine"))
    data = nvae_codec.compress(PIXELS, method="model", model="hf://sea/wind")
    assert np.array_equal(nvae_codec.decompress(data, model="hf://sea/wind"), PIXELS)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("hf://sea/calm", "hf://sea/calm is not in the local cache, and the Hugging Face Hub cannot be reached"),
        ("hf://sea/wind@v2", "is not in the local cache"),
        ("hf://wind", "does not name a model as hf://ORG/NAME does"),
        ("hf://../wind", "does not name a model"),
        ("hf://a/b/c", "does not name a model"),
    ],
)
@pytest.mark.usefixtures("fake_models", "cached")
def test_what_the_hub_does_not_have_is_said(name: str, reason: str) -> None:
    with pytest.raises(UnknownModelError, match=reason):
        find_model(name)


def test_the_hub_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UnknownModelError, match=r"hf://sea/wind needs huggingface_hub; .*nvae-codec\[hub\]"):
        find_model("hf://sea/wind")


def test_older_models_that_are_shipped_load_and_are_named_by_their_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NVAE_CODEC_MODELS", raising=False)
    for path in MODELS_FOLDER.glob("*/older/*"):
        assert path.suffix == ".safetensors"
        assert path.stem == nvae_codec.load_model(path, device="cpu").identity[:4].hex()
