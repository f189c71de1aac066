"""What each level of effort does to make files smaller: how much of the images is looked at, and for how long.

1      nothing: the model as it is
2      the expert, and shifts of the mixtures' parameters (the constant direction of each output layer)
3, 4   all directions of the output layers, few steps
5      the default: a sample of fixed size, so that large images take no longer
6, 7   larger samples, more steps
8, 9   depthwise kernels, too
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray

from nvae_codec.adaptation import DEFAULT_EFFORT, EFFORTS, LEAST_PIXELS
from nvae_codec.adaptation.depthwise import optimize_depthwise
from nvae_codec.adaptation.differentiable import PixelNetwork
from nvae_codec.adaptation.kernel import measure
from nvae_codec.adaptation.layers import adapt_model, real_weight
from nvae_codec.adaptation.optimize import STEP_WORK, Found, Schedule, optimize
from nvae_codec.adaptation.parameters import Adaptation, LayerChange
from nvae_codec.adaptation.sample import PhaseSample, sample_experts, take_sample
from nvae_codec.integer.model import IntegerModel
from nvae_codec.integer.operations import Convolve


@dataclass(frozen=True)
class Effort:
    """budget: pixels of the sample. schedule: of the optimizer. depthwise: its steps for depthwise layers, at least."""

    budget: int
    schedule: Schedule
    depthwise: int = 0


LEVELS = {
    2: Effort(1 << 16, Schedule(16, directions=1)),
    3: Effort(1 << 16, Schedule(24)),
    4: Effort(3 << 15, Schedule(32)),
    5: Effort(1 << 17, Schedule(48)),
    6: Effort(1 << 18, Schedule(80)),
    7: Effort(1 << 19, Schedule(120)),
    8: Effort(1 << 20, Schedule(200), depthwise=60),
    9: Effort(1 << 21, Schedule(400), depthwise=120),
}

LEAST_EFFORT = min(LEVELS)

SAFETY_BITS = 64
"""A gain that is not larger than the bytes of the adaptation by so much may be luck."""


def adapt_to(
    model: IntegerModel,
    images: Sequence[NDArray[np.uint8]],
    effort: int,
    device: torch.device,
    total: int | None = None,
) -> bytes:
    """The block that a file of images should have, which share it; empty where nothing is worth its bytes.

    ``images``: levels, uint8 (H, W, 3) or (H, W). ``effort``: one of ``EFFORTS``, else ValueError. ``total``: pixels of
    the file, where ``images`` are a part of it.
    """
    if effort not in EFFORTS:
        raise ValueError(f"effort must be from 1 to 9, not {effort}")
    if not _is_adapted(model, sum(image.shape[0] * image.shape[1] for image in images), effort):
        return b""
    for level in dict.fromkeys((effort, LEAST_EFFORT)):  # where many changes are too dear, few may still pay
        adaptation = choose_adaptation(model, images, LEVELS[level], device, torch.get_num_threads(), total)
        if adaptation.changes:
            break
    return adaptation.pack(model) if adaptation else b""


def _is_adapted(model: IntegerModel, pixels: int, effort: int) -> bool:
    return effort > 1 and bool(model.adaptable) and pixels >= LEAST_PIXELS


def count_work(model: IntegerModel, pixels: int, effort: int) -> int:
    """How many pixels are coded in the time that adaptation takes for images of so many pixels, about."""
    if effort not in LEVELS or not _is_adapted(model, pixels, effort):
        return 0
    sample, schedule = min(pixels, LEVELS[effort].budget), LEVELS[effort].schedule
    return sample + round(sample * schedule.passes * STEP_WORK)


def choose_adaptation(
    model: IntegerModel,
    images: Sequence[NDArray[np.uint8]],
    level: Effort,
    device: torch.device,
    threads: int,
    total: int | None = None,
) -> Adaptation:
    """The expert and the changes that are worth their bytes."""
    rng = np.random.Generator(np.random.PCG64(0))
    expert = _choose_expert(model, images, device)
    chosen = model.with_expert(expert)
    total = total or sum(image.shape[0] * image.shape[1] for image in images)
    with ThreadPoolExecutor(threads) as pool:

        def change_outputs(by: IntegerModel, schedule: Schedule) -> dict[int, Found]:
            return optimize(by, take_sample(by, images, level.budget, rng, device, total), schedule, pool)

        if not level.depthwise or not _has_depthwise(chosen):
            return _keep_best(model, expert, change_outputs(chosen, level.schedule))
        first = _keep_best(model, expert, change_outputs(chosen, LEVELS[DEFAULT_EFFORT].schedule))
        changes, gain = _change_depthwise(adapt_model(model, first), images, level, total, device)
        if gain < 8 * len(Adaptation(expert, changes).pack(model)):
            changes, gain = {}, 0.0
        found = change_outputs(adapt_model(model, Adaptation(expert, changes)), level.schedule)
        return _keep_best(model, expert, found, changes, gain)


DEPTHWISE_BUDGET, DEPTHWISE_PASSES, MOST_STEPS = 1 << 20, 4, 400
"""Depthwise layers are optimized and measured on crops of so many pixels, each seen so often if that takes more steps
than the effort has, and at most so many steps."""


def _has_depthwise(model: IntegerModel) -> bool:
    """Whether its file lets depthwise layers change."""
    names = {operation.name for operation in PixelNetwork(model).depthwise}
    return any(layer.operation in names for layer in model.adaptable)


def _change_depthwise(
    model: IntegerModel, images: Sequence[NDArray[np.uint8]], level: Effort, total: int, device: torch.device
) -> tuple[dict[int, LayerChange], float]:
    """Changes of depthwise layers, and what they gain in bits."""
    with torch.inference_mode(mode=False), torch.enable_grad():
        network = PixelNetwork(model)
        frames = network.frames(images, DEPTHWISE_BUDGET, np.random.Generator(np.random.PCG64(2)), device)
        steps = max(level.depthwise, min(DEPTHWISE_PASSES * len(frames), MOST_STEPS))
        return optimize_depthwise(model, network, frames, total, steps)


EXPERT_BUDGET, EXPERT_CROP = 1 << 13, 64
"""Pixels of the sample that chooses the expert, and the side of its crops: on 48 held-out images it chose as four times
as many did, but once."""


def _choose_expert(model: IntegerModel, images: Sequence[NDArray[np.uint8]], device: torch.device) -> int:
    """The expert whose heads cost a sample fewest bits."""
    if model.experts == 1:
        return 0
    rng, experts = np.random.Generator(np.random.PCG64(1)), range(model.experts)
    samples = sample_experts(model, images, EXPERT_BUDGET, rng, device, experts, EXPERT_CROP)
    costs = [sum(_nats(model, sample) * sample.pixels / max(1, sample.count) for sample in own) for own in samples]
    return int(np.argmin(costs))


def _nats(model: IntegerModel, sample: PhaseSample) -> float:
    operation = model.graph.operations[sample.operation]
    assert isinstance(operation, Convolve)
    return measure(model, real_weight(operation), sample)[0]


def _keep_best(
    model: IntegerModel,
    expert: int,
    found: dict[int, Found],
    changes: Mapping[int, LayerChange] = MappingProxyType({}),
    gain: float = 0.0,
) -> Adaptation:
    """The layers whose gain is larger than what they add to the bytes of the adaptation, the best first.

    ``changes``: what is kept already, and what it gains.
    """
    kept, total = dict(changes), gain
    size = len(Adaptation(expert, kept).pack(model)) if expert or kept else 0
    for place, each in sorted(found.items(), key=lambda item: -item[1].gain):
        if each.change is None:
            continue
        larger = {**kept, place: each.change}
        bytes_now = len(Adaptation(expert, larger).pack(model))
        if each.gain > 8 * (bytes_now - size):
            kept, size, total = larger, bytes_now, total + each.gain
    if total < 8 * size + SAFETY_BITS and not expert:
        return Adaptation()
    return Adaptation(expert, kept)
