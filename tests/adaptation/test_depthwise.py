"""Changes of depthwise layers: the network with gradients equals the integer network, and files become smaller."""

import numpy as np
import torch

from nvae_codec.adaptation.depthwise import optimize_depthwise
from nvae_codec.adaptation.differentiable import PixelNetwork
from nvae_codec.adaptation.kernel import measure
from nvae_codec.adaptation.layers import adapt_model, real_weight
from nvae_codec.adaptation.parameters import Adaptation
from nvae_codec.adaptation.sample import take_sample
from nvae_codec.coding.codec import ModelCodec
from nvae_codec.integer.model import IntegerModel
from nvae_codec.schedule.shape import Shape
from tests.adaptation.models import adaptable_model, odd_image

MODEL, CPU = adaptable_model(), torch.device("cpu")
IMAGE = odd_image(96, 128)


def sampled_nats(model: IntegerModel) -> float:
    """Of the whole image, by the integer network."""
    samples = take_sample(model, [IMAGE], 1 << 20, np.random.Generator(np.random.PCG64(0)), CPU)
    weights = [real_weight(model.graph.operations[sample.operation]) for sample in samples]  # type: ignore[arg-type]
    return sum(measure(model, weight, sample)[0] for weight, sample in zip(weights, samples, strict=True))


def test_the_network_with_gradients_has_the_values_of_the_integer_network() -> None:
    network = PixelNetwork(MODEL)
    frames = network.frames([IMAGE], 1 << 20, np.random.Generator(np.random.PCG64(0)), CPU)
    assert sum(frame.pixels for frame in frames) == 96 * 128
    assert abs(sum(float(network.nats(frame, {})) for frame in frames) / sampled_nats(MODEL) - 1) < 1e-3


def test_changes_of_depthwise_layers_gain_what_they_promise_and_are_decoded() -> None:
    network = PixelNetwork(MODEL)
    frames = network.frames([IMAGE], 1 << 20, np.random.Generator(np.random.PCG64(0)), CPU)
    many = 256  # images like this one, so that small changes pay
    changes, gain = optimize_depthwise(MODEL, network, frames, many * 96 * 128, 40)
    assert changes
    assert {MODEL.adaptable[place].operation for place in changes} <= {op.name for op in network.depthwise}
    adaptation = Adaptation(0, changes)
    gained = (sampled_nats(MODEL) - sampled_nats(adapt_model(MODEL, adaptation))) / np.log(2)
    assert gained > 0
    assert abs(gain / many / gained - 1) < 0.25
    codec = ModelCodec(MODEL)
    coded = codec.encode_adapted([IMAGE], adaptation.pack(MODEL))
    assert np.array_equal(codec.decode([Shape.of(IMAGE)], coded)[0], IMAGE)
