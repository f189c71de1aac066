"""The compiled likelihood: its value is the integer codec's, and its gradient that of finite differences."""

import dataclasses

import numpy as np
import pytest
import torch

from nvae_codec.adaptation.kernel import measure, raw_gradient
from nvae_codec.adaptation.layers import real_weight
from nvae_codec.adaptation.sample import PhaseSample, take_sample
from nvae_codec.integer.model import IntegerModel
from nvae_codec.integer.operations import Convolve
from tests.adaptation.models import adaptable_model, odd_image
from tests.models import make_image


def samples(model: IntegerModel, *images: np.ndarray) -> list[PhaseSample]:
    return take_sample(model, images, 1 << 20, np.random.Generator(np.random.PCG64(0)), torch.device("cpu"))


@pytest.mark.parametrize("bounded", [False, True])
def test_the_gradient_is_that_of_finite_differences(bounded: bool) -> None:
    model = dataclasses.replace(adaptable_model(), bounded_colour=bounded)
    rng = np.random.Generator(np.random.PCG64(3))
    k, count = model.components, 300
    raw = rng.normal(0, 60, (9 * k + 3, count)).astype(np.float32)
    raw[3 * k : 6 * k] -= 300
    values = rng.integers(0, 256, (3, count)).astype(np.float32)
    values[:, :20] = rng.choice([0, 255], (3, 20))
    prediction = 4 * values + rng.normal(0, 40, (3, count)).round().astype(np.float32)
    sample = PhaseSample("", np.zeros((1, count), np.float32), prediction.astype(np.float32), values, 3, count)
    _, gradient = raw_gradient(model, raw, sample)
    for row in range(len(raw)):
        step = np.float32(2 if row < 9 * k else 8)
        sums = []
        for sign in (1, -1):
            moved = raw.copy()
            moved[row] += sign * step
            sums.append(raw_gradient(model, moved, sample)[0])
        slope = (sums[0] - sums[1]) / (2 * float(step))
        assert slope == pytest.approx(
            gradient[row].sum(dtype=np.float64), rel=0.03, abs=3e-3 * float(np.abs(gradient[row]).sum())
        )


def test_the_gradient_by_weights_follows_from_that_by_raw_parameters() -> None:
    model = adaptable_model()
    for sample in samples(model, odd_image(32, 48)):
        operation = model.graph.operations[sample.operation]
        assert isinstance(operation, Convolve)
        weight = real_weight(operation)
        raw_nats, by_raw = raw_gradient(model, weight @ sample.features, sample)
        nats, by_weight = measure(model, weight, sample)
        assert nats == pytest.approx(raw_nats, rel=1e-4)
        assert np.allclose(by_weight, by_raw @ sample.features.T, rtol=2e-2, atol=1e-3 * np.abs(by_weight).max())
        half = sample.count // 2
        parts = [measure(model, weight, sample, range(*ends))[0] for ends in ((0, half), (half, sample.count))]
        assert sum(parts) == pytest.approx(nats, rel=1e-4)


@pytest.mark.parametrize("gray", [False, True])
def test_the_value_is_that_of_the_integer_model(gray: bool) -> None:
    from nvae_codec.coding.codec import ModelCodec
    from nvae_codec.coding.ledger import Ledger

    model, image = adaptable_model(), make_image(64, 64, 3)
    image = image[:, :, 0] if gray else image
    ledger = Ledger(details=True)
    ModelCodec(model).encode([image], ledger)
    bits = sum(float(phase.sum()) for batch in ledger.batches for phase in batch.value_bits())
    found = 0.0
    for sample in samples(model, image):
        operation = model.graph.operations[sample.operation]
        assert isinstance(operation, Convolve)
        assert sample.count == sample.pixels
        found += measure(model, real_weight(operation), sample)[0] / np.log(2)
    assert found == pytest.approx(bits, rel=0.01), "but for tiles and draws of z"
