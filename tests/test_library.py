from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nvae_codec
import nvae_codec.pillow
from nvae_codec.arrays import nvae_decode, nvae_encode
from nvae_codec.container.header import Kind, split_parts
from nvae_codec.errors import ModelFileError, NvaeCodecError, UnknownModelError, UnsupportedImageError
from nvae_codec.zoo.library import find_model, installed_models, read_model_info
from tests.fakes import FakeCodec, FakeLoader, OneCodec, write_fake_model

PIXELS = np.random.default_rng(1).integers(0, 256, (30, 20, 3), np.uint8)


@pytest.mark.parametrize("method", ["auto", "model", "webp", "stored"])
@pytest.mark.usefixtures("fake_models")
def test_pixels_come_back(method: str) -> None:
    for pixels in (PIXELS, PIXELS[::2, ::-1], np.asfortranarray(PIXELS), PIXELS[:1, :1], PIXELS[:, :, 0]):
        restored = nvae_codec.decompress(nvae_codec.compress(pixels, method=method))
        assert restored.dtype == np.uint8
        assert np.array_equal(restored, pixels)
        assert restored.flags.writeable, "some methods' pixels cannot be changed"


def test_samples_of_the_other_byte_order_come_back() -> None:
    samples = (PIXELS[:, :, 0].astype(np.uint16) * 7).astype(">u2")
    restored = nvae_codec.decompress(nvae_codec.compress(samples, method="stored"))
    assert restored.dtype == np.uint16
    assert np.array_equal(restored, samples)


def test_a_loaded_model_serves_many_calls(fake_models: FakeLoader) -> None:
    model = nvae_codec.load_model("mnist", device="cpu", threads=2)
    for _ in range(3):
        data = nvae_codec.compress(PIXELS, model=model, method="model")
        assert np.array_equal(nvae_codec.decompress(data, model=model), PIXELS)
    assert fake_models.calls == [{"name": "mnist", "device": "cpu", "threads": 2, "batch_tiles": None}]
    assert split_parts(data).header.model_id == model.identity[:4]


@pytest.mark.parametrize("method", ["auto", "model", "stored"])
@pytest.mark.parametrize("shape", [(7, 5), (7, 5, 2), (7, 5, 3), (7, 5, 4), (1, 1, 3)], ids=str)
@pytest.mark.usefixtures("fake_models")
def test_16_bits_come_back(shape: tuple[int, ...], method: str) -> None:
    samples = np.random.default_rng(0).integers(0, 1 << 16, shape, np.uint16)
    files = [nvae_encode(samples, method=method)]
    if shape[2:] in ((), (3,)):
        files.append(nvae_codec.compress(samples, method=method))
    for data in files:
        for restored in (nvae_codec.decompress(data), nvae_decode(data)):
            assert restored.dtype == np.uint16
            assert np.array_equal(restored, samples)


@pytest.mark.usefixtures("fake_models")
def test_files_that_are_no_arrays_are_refused(pngsuite: Path) -> None:
    from nvae_codec.container.methods import write_file
    from nvae_codec.images.read import read_image

    for name, why in (("basn3p08", "has a palette"), ("basn0g02", "has 2 bits a sample")):
        file = write_file(read_image((pngsuite / f"{name}.png").read_bytes()), "stored", OneCodec(FakeCodec("photo")))
        assert split_parts(file).header.kind is Kind.FILE
        with pytest.raises(UnsupportedImageError, match=why):
            nvae_codec.decompress(file)


@pytest.mark.parametrize(
    ("pixels", "error"),
    [
        (PIXELS.astype(np.int32), TypeError),
        (PIXELS.tolist(), TypeError),
        (PIXELS[:, :, 0].ravel(), ValueError),
        (PIXELS[:, :, :2], ValueError),
        (PIXELS[:0], ValueError),
    ],
)
def test_other_arrays_are_refused(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], error: type) -> None:
    with pytest.raises(error):
        nvae_codec.compress(pixels)


@pytest.mark.parametrize("data", ["text", 10**12, None, [1, 2]])
def test_other_types_than_bytes_are_refused(data: Any) -> None:
    with pytest.raises(TypeError, match=r"data must be the bytes of an \.nvae file"):
        nvae_codec.decompress(data)


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"model": 3}, TypeError, "model must be a name, a path or what load_model gave, not int"),
        ({"model": b"photo"}, TypeError, "model must be a name, a path or what load_model gave, not bytes"),
        ({"device": "tpu"}, NvaeCodecError, "there is no device 'tpu'; there are auto, cpu, cuda"),
        ({"threads": 0}, NvaeCodecError, "threads must be at least 1, not 0"),
        ({"batch_tiles": 0}, NvaeCodecError, "batch_tiles must be at least 1, not 0"),
        ({"batch_tiles": 2.5}, TypeError, "'float' object cannot be interpreted as an integer"),
    ],
)
def test_impossible_settings_of_models_are_refused(
    fake_models: FakeLoader, given: dict[str, Any], error: type, said: str
) -> None:
    first = {"name_or_path" if name == "model" else name: value for name, value in given.items()}
    for call in (
        lambda: nvae_codec.load_model(**first),
        lambda: nvae_codec.compress(PIXELS, **given),
        lambda: nvae_codec.decompress(b"", **given),
        lambda: nvae_codec.open_archive("none", **given),
        lambda: nvae_codec.pillow.configure(**given),
    ):
        with pytest.raises(error, match=f"^{said}$"):
            call()
    assert fake_models.calls == []


@pytest.mark.usefixtures("fake_models")
def test_models_are_found(tmp_path: Path) -> None:
    mine = write_fake_model(tmp_path, "mine")
    assert [info.name for info in installed_models()] == ["mnist", "photo"]
    assert find_model("photo").id == find_model(find_model("photo").path).id
    assert find_model(mine) == find_model(str(mine.parent))
    with pytest.raises(UnknownModelError, match=r"there is no model else; installed models: mnist \(\w{8}\), photo"):
        find_model("else")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not a model file"),
        (b"\xff" * 20, "not a model file"),
        ((4).to_bytes(8, "little") + b"nope", "not a model file"),
        ((2).to_bytes(8, "little") + b"{}", "not a model file"),
    ],
)
def test_other_files_are_no_models(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match=reason):
        read_model_info(path)


def test_models_of_another_format_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="of format 'nvae-codec exact 99'"):
        read_model_info(write_fake_model(tmp_path, "newer", format="nvae-codec exact 99"))
    with pytest.raises(ModelFileError, match="identity"):
        read_model_info(write_fake_model(tmp_path, "short", identity="abcd"))


def test_the_version_is_that_of_the_package() -> None:
    assert nvae_codec.__version__ == version("nvae-codec")
