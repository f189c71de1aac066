"""The changes that make image and changes together smallest: proximal Adam in decorrelated coordinates, then rounding.

Every phase is a problem of its own, since no output layer's features depend on another. In the coordinates of
``directions.py`` all parameters have about the same curvature and the same price, so that

    minimize over c    nats of all pixels (c)  +  PRICE · |c|_1

has a sparse solution, whose rounding to integers costs about the last quarter of a bit each. The gradient is Adam's
(Kingma and Ba 2015) on growing batches of the sample, and the |c| a soft threshold after each step (as in ISTA).
"""

from collections.abc import Sequence
from concurrent.futures import Executor
from contextvars import copy_context
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nvae_codec.adaptation.kernel import measure
from nvae_codec.adaptation.layers import change_layer, real_weight
from nvae_codec.adaptation.parameters import STEPS, LayerChange, step_size
from nvae_codec.adaptation.sample import PhaseSample
from nvae_codec.errors import DamagedFileError
from nvae_codec.integer.model import Adaptable, IntegerModel
from nvae_codec.integer.operations import Convolve
from nvae_codec.progress import advance

Float64 = NDArray[np.float64]

STEP = 3.0
"""A rounding step in standard errors of a coordinate, which are 1 / sqrt of the pixels: tried 3 and 4. For uniform
noise of a step and a price of its logarithm, theory says sqrt 12 (docs/adaptation.md)."""
PRICE = 6.0
"""Nats of a coordinate's unit step: tried 4, 6 and 8."""
MOMENTUM, MEMORY, QUIET = 0.8, 0.95, 3.0
"""Adam's beta_1 and beta_2, and its epsilon: nats per step that are noise in a gradient."""
LARGEST_COORDINATE = 2000
STEP_WORK = 0.15
"""The time for value and gradient of a pixel, as a share of the time to code it."""
LEAST_MEASURED = 1 << 13
"""Pixels that tell what a change gains, or half of the sample if that is more."""


@dataclass(frozen=True)
class Schedule:
    """steps of the optimizer; the first batch is 1 / ``first`` of a phase's sample, the last 1 / ``last``; rate in
    rounding steps, falling to zero; directions: how many are free, None for all."""

    steps: int
    first: float = 12.0
    last: float = 3.0
    rate: float = 1.2
    directions: int | None = None

    def share(self, step: int) -> float:
        """How much of a phase's sample a step looks at."""
        return 1 / (self.first + (self.last - self.first) * step / self.steps)

    @property
    def passes(self) -> float:
        """How often a pixel of the sample is looked at, about."""
        return sum(map(self.share, range(self.steps)))


@dataclass(frozen=True)
class Found:
    """The change of one layer, None where it is not worth its bytes, and what all pixels of the phase gain by it."""

    change: LayerChange | None
    gain: float


class Phase:
    """The problem of one output layer: weights as a function of coordinates."""

    def __init__(self, model: IntegerModel, layer: Adaptable, sample: PhaseSample) -> None:
        operation = model.graph.operations[layer.operation]
        assert isinstance(operation, Convolve)
        self.model, self.layer, self.sample = model, layer, sample
        self.weight = real_weight(operation)
        self.multiplier = operation.multiplier.double().cpu().numpy()[:, None]
        self.step = choose_step(STEP, sample.pixels)
        gains = layer.gains.astype(np.float64) * 2.0**-layer.shift * step_size(self.step)
        self.gains = gains[:, None] * self.multiplier
        self.directions = layer.directions.astype(np.float64)

    def weights(self, coordinates: Float64) -> NDArray[np.float32]:
        """Real weights of real coordinates (O, D)."""
        return _to_float(self.weight + self.gains * (coordinates @ self.directions))

    def rounded_weights(self, change: LayerChange) -> NDArray[np.float32]:
        """The integer weights of the adapted layer, in the same units."""
        return real_weight(change_layer(self.model, self.layer, change))

    def by_coordinates(self, gradient: Float64) -> Float64:
        """The gradient by coordinates, of one by weights."""
        product: Float64 = (gradient * self.gains) @ self.directions.T
        return product


def choose_step(errors: float, pixels: int) -> int:
    """The step that is nearest to so many standard errors of a coordinate that ``pixels`` tell."""
    ideal = errors / np.sqrt(max(1, pixels))
    return min(range(STEPS), key=lambda step: abs(float(np.log(step_size(step) / ideal))))


def _to_float(values: Float64) -> NDArray[np.float32]:
    single: NDArray[np.float32] = values.astype(np.float32)
    return single


def optimize_phase(phase: Phase, schedule: Schedule) -> Found:
    """Coordinates of one layer, rounded, and what they gain on the sample, in bits of all pixels."""
    sample, shape = phase.sample, phase.layer.shape
    if not sample.count:
        return Found(None, 0.0)
    found = np.zeros(shape)
    mean, square = np.zeros(shape), np.zeros(shape)
    at = 0
    for k in range(schedule.steps):
        size = min(sample.count, max(2048, int(schedule.share(k) * sample.count)))
        at = 0 if at + size > sample.count else at
        _, by_weight = measure(phase.model, phase.weights(found), sample, range(at, at + size))
        at += size
        gradient = phase.by_coordinates(by_weight) * (sample.pixels / size)
        if schedule.directions is not None:
            gradient[:, schedule.directions :] = 0
        mean = MOMENTUM * mean + (1 - MOMENTUM) * gradient
        square = MEMORY * square + (1 - MEMORY) * gradient**2
        rate = schedule.rate * min(1, (k + 1) / 5) * (1 - k / schedule.steps)
        scale = rate / (np.sqrt(square / (1 - MEMORY ** (k + 1))) + QUIET)
        found -= scale * mean / (1 - MOMENTUM ** (k + 1))
        found = np.sign(found) * np.maximum(np.abs(found) - scale * PRICE, 0)
        advance(round(size * STEP_WORK))
    whole = np.clip(np.rint(found), -LARGEST_COORDINATE, LARGEST_COORDINATE).astype(np.int32)
    if not np.isfinite(found).all() or not whole.any():
        return Found(None, 0.0)
    change = LayerChange(phase.step, whole)
    seen = range(max(min(sample.count, LEAST_MEASURED), sample.count // 2))
    before = measure(phase.model, phase.weight, sample, seen)[0]
    try:
        after = measure(phase.model, phase.rounded_weights(change), sample, seen)[0]
    except DamagedFileError:  # so large that accumulators would not be exact
        return Found(None, 0.0)
    return Found(change, (before - after) * sample.pixels / len(seen) / np.log(2))


def optimize(
    model: IntegerModel, samples: Sequence[PhaseSample], schedule: Schedule, pool: Executor
) -> dict[int, Found]:
    """The best change of each phase's layer, by the layer's place among the model's adaptable ones."""
    places = {layer.operation: place for place, layer in enumerate(model.adaptable)}
    known = [(places[sample.operation], sample) for sample in samples if sample.operation in places]
    phases = [Phase(model, model.adaptable[place], sample) for place, sample in known]
    # the largest first, so that threads end together
    order = sorted(range(len(phases)), key=lambda index: -phases[index].sample.count)
    results = {index: pool.submit(copy_context().run, optimize_phase, phases[index], schedule) for index in order}
    return {known[index][0]: results[index].result() for index in range(len(phases))}
