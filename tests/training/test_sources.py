"""Every source gives its images, in the recipe's channels, or says in one line what is missing."""

import gzip
import struct
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nvae_codec
from nvae_codec.cli.main import main
from nvae_codec.errors import NvaeCodecError
from nvae_codec.training.sources import ROOT_VARIABLE, open_source

GRAY = np.random.default_rng(0).integers(0, 256, (5, 28, 28), np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (4, 32, 32, 3), np.uint8)


def test_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "gray.npz", images=GRAY)
    np.savez(tmp_path / "colour.npz", images=COLOUR)
    assert np.array_equal([load() for load in open_source(tmp_path / "gray.npz", 1)], GRAY[..., None])
    assert np.array_equal(open_source(tmp_path / "gray.npz")[2](), np.repeat(GRAY[2][..., None], 3, 2))
    assert np.array_equal([load() for load in open_source(tmp_path / "colour.npz")], COLOUR)
    with pytest.raises(NvaeCodecError, match=r"colour images, but the recipe has image\.channels = 1"):
        open_source(tmp_path / "colour.npz", 1)


@pytest.mark.parametrize("zipped", [False, True])
def test_digits_in_idx_files(tmp_path: Path, zipped: bool) -> None:
    data = struct.pack(">4I", 0x803, *GRAY.shape) + GRAY.tobytes()
    path = tmp_path / ("t10k-images-idx3-ubyte" + ".gz" * zipped)
    path.write_bytes(gzip.compress(data) if zipped else data)
    assert np.array_equal([load() for load in open_source(path, 1)], GRAY[..., None])
    for damaged in (data[:-1], b"", data[:7]):
        path.write_bytes(gzip.compress(damaged) if zipped else damaged)
        with pytest.raises(NvaeCodecError, match="not an idx file"):
            open_source(path, 1)


def test_folders_in_gray(tmp_path: Path) -> None:
    Image.fromarray(COLOUR[0]).save(tmp_path / "a.png")
    (image,) = open_source(tmp_path, 1)
    assert image().shape == (32, 32, 1)
    assert np.array_equal(open_source(f"imagefolder:{tmp_path}")[0](), COLOUR[0])


def test_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "colour.npz", images=COLOUR)
    archive = tmp_path / "colour.nvae"
    assert main(["pack", str(tmp_path / "colour.npz"), "-o", str(archive), "--method", "stored"]) == 0
    assert len(nvae_codec.open_archive(archive).names) == 4
    assert np.array_equal([load() for load in open_source(archive)], COLOUR)
    with pytest.raises(NvaeCodecError, match="has 3 channels, not 1"):
        open_source(archive, 1)[0]()


def fake_torchvision(monkeypatch: pytest.MonkeyPatch, **sets: object) -> None:
    datasets = types.ModuleType("torchvision.datasets")
    vars(datasets).update(sets)
    whole = types.ModuleType("torchvision")
    vars(whole)["datasets"] = datasets
    monkeypatch.setitem(sys.modules, "torchvision", whole)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", datasets)


def test_named_sets_come_from_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    portraits = tmp_path / "celeba" / "img_align_celeba"
    portraits.mkdir(parents=True)
    portrait = np.zeros((218, 178, 3), np.uint8)
    portrait[40:188, 15:163] = 200
    Image.fromarray(portrait).save(portraits / "1.png")

    def celeba(root: str, split: str) -> object:
        assert split == "train"
        return types.SimpleNamespace(root=root, base_folder="celeba", filename=["1.png"])

    fake_torchvision(
        monkeypatch,
        MNIST=lambda root, train: types.SimpleNamespace(data=GRAY),
        CIFAR10=lambda root, train: types.SimpleNamespace(data=COLOUR),
        CelebA=celeba,
    )
    assert np.array_equal([load() for load in open_source("mnist", 1)], GRAY[..., None])
    assert np.array_equal([load() for load in open_source("cifar10")], COLOUR)
    (face,) = open_source("celeba")
    assert face().shape == (64, 64, 3)
    assert (face() == 200).all()


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(root: str, train: bool) -> object:
        raise RuntimeError("Dataset not found.")

    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    fake_torchvision(monkeypatch, MNIST=absent)
    with pytest.raises(NvaeCodecError, match=r"no MNIST here \(Dataset not found.\); put MNIST/raw"):
        open_source("mnist", 1)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    with pytest.raises(NvaeCodecError, match="needs torchvision"):
        open_source("cifar10")
    package = tmp_path / "broken" / "torchvision"
    package.mkdir(parents=True)
    for name in ("torchvision", "torchvision.datasets"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(package.parent)
    for wrong in ("raise RuntimeError('operator torchvision::nms does not exist')", "import nothing_of_that_name"):
        (package / "__init__.py").write_text(wrong)
        with pytest.raises(NvaeCodecError, match="torchvision is installed but does not load"):
            open_source("cifar10")
    with pytest.raises(NvaeCodecError, match="data sets by name: mnist, cifar10, celeba, imagefolder"):
        open_source(tmp_path / "nowhere")
    with pytest.raises(NvaeCodecError, match="imagefolder:PATH"):
        open_source("imagefolder:")
