"""Models by name, path, identity and from Hugging Face's cache."""

import hashlib
import os
import sys
from pathlib import Path

import numpy as np
import pytest

import nvae_codec
from nvae_codec.errors import UnknownModelError
from nvae_codec.zoo.library import find_by_identity, find_model, more_models
from tests.fakes import write_fake_model

PIXELS = np.random.default_rng(2).integers(0, 256, (16, 24, 3), np.uint8)
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def identity_of(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


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


@pytest.mark.usefixtures("fake_models")
def test_a_file_of_a_replaced_model_still_decodes(tmp_path: Path) -> None:
    data = nvae_codec.compress(PIXELS, method="model")
    before = find_model("photo")
    before.path.parent.replace(before.path.parent.with_name("photo-before"))
    newer = write_fake_model(tmp_path, "photo", identity=identity_of("newer").hex())
    newer.parent.replace(before.path.parent)
    assert find_model("photo").identity == identity_of("newer")
    assert find_by_identity(before.identity).identity == before.identity
    assert np.array_equal(nvae_codec.decompress(data), PIXELS)
    assert np.array_equal(nvae_codec.decompress(data, model="photo"), PIXELS)


@pytest.mark.usefixtures("fake_models")
def test_more_folders_are_searched_by_name_and_identity(more: Path) -> None:
    mine = write_fake_model(more, "mine")
    write_fake_model(more, "photo", identity=identity_of("other").hex())
    (more / "broken").mkdir()
    (more / "broken" / "model.safetensors").write_bytes(b"no model")
    assert find_model("mine").path == mine
    assert find_model("photo").identity == identity_of("photo"), "the installed one has the name"
    assert find_by_identity(identity_of("other")[:4]).path.parent == more / "photo"
    assert [info.name for info in more_models()] == ["mine", "photo"]
    with pytest.raises(
        UnknownModelError, match=r"there is no model old; installed models: mnist .*, photo .*, mine .*, photo"
    ):
        find_model("old")


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
def test_models_that_the_hub_lacks_are_named(name: str, reason: str) -> None:
    with pytest.raises(UnknownModelError, match=reason):
        find_model(name)


def test_the_hub_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UnknownModelError, match=r"hf://sea/wind needs huggingface_hub; .*nvae-codec\[hub\]"):
        find_model("hf://sea/wind")
