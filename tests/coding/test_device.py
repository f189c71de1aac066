"""Nothing but copies crosses between the CPU and another device: tests/pretended.py, and tests/gpu for a real one."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from nvae_codec.coding.codec import ModelCodec
from nvae_codec.evaluation.images import Evaluator
from nvae_codec.images.raster import RasterImage
from nvae_codec.integer.model import IntegerModel
from nvae_codec.runtime import Runtime
from tests.models import OF_LIKELIHOODS, RECIPES, exported_model, make_image, round_trip
from tests.pretended import DEVICE, pretended_device


def put_there(model: IntegerModel, batch_tiles: int | None = None) -> ModelCodec:
    return ModelCodec(replace(model, graph=model.graph.to(DEVICE)), Runtime(batch_tiles=batch_tiles), device=DEVICE)


@pytest.mark.parametrize("which", RECIPES | OF_LIKELIHOODS)
def test_a_device_gives_the_same_bytes_and_pixels(which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = exported_model(which)
    images = [make_image(40, 36, seed)[:, :, : model.channels] & np.uint8(model.top_value) for seed in range(3)]
    if model.channels == 1:
        images = [image[:, :, 0] for image in images]
    expected = ModelCodec(model).encode(images)
    with pretended_device(monkeypatch) as device:
        assert round_trip(put_there(model, batch_tiles=1), *images) == expected
    assert {"aten::bmm", "aten::addmm"} <= device.operations
    assert "aten::convolution" not in device.operations, "only matrix products and sums of products are exact there"


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 2), (3, 40), (70, 90)])
def test_a_device_takes_any_size(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where planes have no pixel, and where slices are small and large; flat, too, for slices of one symbol."""
    for image in (make_image(*size), np.full((*size, 3), 7, np.uint8)):
        expected = ModelCodec(exported_model()).encode([image])
        with pretended_device(monkeypatch):
            assert round_trip(put_there(exported_model()), image) == expected


def test_a_device_measures_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    image = RasterImage.from_pixels(make_image(70, 90))
    expected, heat = Evaluator(ModelCodec(exported_model()), samples=2).measure("it", image)
    with pretended_device(monkeypatch):
        row, same_heat = Evaluator(put_there(exported_model()), samples=2).measure("it", image)
    assert {key: value for key, value in row.items() if "seconds" not in key} == {
        key: value for key, value in expected.items() if "seconds" not in key
    }
    assert np.array_equal(heat, same_heat)


def test_the_pretended_device_finds_a_copy_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pretended_device(monkeypatch):
        there = torch.ones(3).to(DEVICE)
        with pytest.raises(RuntimeError, match="on the same device"):
            there + torch.ones(3)
        with pytest.raises(RuntimeError, match="not supported"):
            there.numpy()
        assert (there + 1).mul_(2).cpu().tolist() == [4, 4, 4]
