"""Value and gradient of a colourwise mixture of logistics by its raw parameters: a compiled kernel for the optimizer.

The integer codec looks the logistic function up in tables; here it is real-valued, float32, so that there is a
gradient (Salimans et al. 2017, section 2.1, has the likelihood). The probability of a value includes the one count
that the coder gives every value, so outliers have a bounded cost and a vanishing gradient, as they do in a file.

Nothing that is decoded depends on this module: fast mathematics is allowed, and results may differ in their last bits
from machine to machine.
"""

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic
from numpy.typing import NDArray

from nvae_codec.adaptation.sample import PhaseSample
from nvae_codec.compiled import njit
from nvae_codec.integer.model import IntegerModel
from nvae_codec.likelihoods.mixture import (
    COLOUR_UNIT,
    LOG_SCALE_HIGH,
    LOG_SCALE_LOW,
    LOG_SCALE_UNIT,
    LOGIT_UNIT,
    half_range,
    level_unit,
)

Float32 = NDArray[np.float32]

BLOCK = 128
"""Pixels that are worked on together: their parameters stay in the first-level cache."""


@intrinsic
def _float_of_bits(_: Any, bits: Any) -> Any:
    """The float32 whose bits an int32 holds; LLVM vectorizes it, as it does not a call of exp."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return numba.float32(numba.int32), generate


@njit(inline="always", fastmath=True, error_model="numpy")
def _exp(x: Any) -> Any:
    """exp(x) of a float32 in [-87, 87], others clamped; relative error below 4e-6."""
    t = min(max(x, np.float32(-87)), np.float32(87)) * np.float32(1.44269504)
    whole = np.floor(t + np.float32(0.5))
    f = (t - whole) * np.float32(0.69314718)
    series = np.float32(1 / 120) + f * np.float32(1 / 720)
    series = np.float32(1 / 6) + f * (np.float32(1 / 24) + f * series)
    series = np.float32(1) + f * (np.float32(1) + f * (np.float32(0.5) + f * series))
    return series * _float_of_bits((np.int32(whole) + np.int32(127)) << np.int32(23))  # type: ignore[call-arg]


@njit(inline="always", fastmath=True, error_model="numpy")
def _logistic(d: Any, inverse: Any, value: Any, unit: Any, top: Any) -> Any:
    """The mass of a value's interval, and the derivatives of its logarithm by d and by ln(inverse).

    d: how far the value is from the mean. With E = exp(-|d| / s) and H = exp(h), h half an interval in scales, the mass
    is E (H - 1 / H) / ((1 + E / H) (1 + E H)), in which nothing is lost far from the mean.
    """
    one, two = np.float32(1), np.float32(2)
    sign = one if d >= 0 else -one
    h = unit * inverse / two
    wide = _exp(h)
    narrow, tail = one / wide, _exp(-abs(d) * inverse)
    right, left = one + tail * narrow, one + tail * wide
    both = one / (right * left)
    # 2 sinh h loses its digits where a scale is many values wide
    spread = wide - narrow if h > np.float32(0.05) else h * (two + h * h / np.float32(3))
    slope = sign * inverse * (tail * narrow * left - right) * both
    ratio = (narrow * left * left + wide * right * right) * both / spread
    # of the lowest and the highest value the interval has no outer end
    ends = value <= 0 or value >= top
    side = one if value <= 0 else -one
    reach = (side * d + unit / two) * inverse
    outer = one / (one + _exp(-reach))
    mass = outer if ends else tail * spread * both
    by_d = side * inverse * (one - outer) if ends else slope
    return mass, by_d, reach * (one - outer) if ends else d * slope + h * ratio


@njit(inline="always", fastmath=True, error_model="numpy")
def _coefficient(raw: Any, bounded: bool) -> Any:
    """A colour coefficient, and its derivative by the raw parameter."""
    c, slope = raw * np.float32(1 / COLOUR_UNIT), np.float32(1 / COLOUR_UNIT)
    if bounded:
        e = _exp(np.float32(2) * c)
        c = (e - np.float32(1)) / (e + np.float32(1))
        slope *= np.float32(1) - c * c
    return c, slope


@njit(fastmath=True, error_model="numpy")
def _mixture(raw: Any, guess: Any, values: Any, gradient: Any, start: int, size: int, model: Any) -> float:
    """-ln p of a block of pixels, and its gradient by ``raw`` (R, BLOCK); each loop becomes vector instructions."""
    coded, bounded, constants = model
    unit, half_values, top, least, share = constants[0], constants[1], constants[2], constants[3], constants[4]
    k_all = (raw.shape[0] - 3) // 9
    to_scale, to_logit = np.float32(1 / LOG_SCALE_UNIT), np.float32(1 / LOGIT_UNIT)
    quarter, low, high = unit / np.float32(4), np.float32(LOG_SCALE_LOW), np.float32(LOG_SCALE_HIGH)
    # made here, so that LLVM knows that they do not overlap
    weight, mass = np.empty((k_all, BLOCK), np.float32), np.empty((k_all, BLOCK), np.float32)
    by_mean, by_scale = np.empty((k_all, BLOCK), np.float32), np.empty((k_all, BLOCK), np.float32)
    largest, total, found = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    centre, by_centre, product = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32), np.ones(BLOCK, np.float32)
    for colour in range(coded):
        means, scales, logits = colour * k_all, (3 + colour) * k_all, (6 + colour) * k_all
        first = 9 * k_all + (1 if colour == 2 else 0)
        for i in range(size):
            centre[i] = guess[colour, start + i] * quarter
            largest[i], total[i], found[i], by_centre[i] = raw[logits, i], 0, 0, 0
        for other in range(colour):
            for i in range(size):
                residual = np.float32(4) * values[other, start + i] - guess[other, start + i]
                centre[i] += _coefficient(raw[first + other, i], bounded)[0] * residual * quarter
        for k in range(1, k_all):
            for i in range(size):
                largest[i] = max(largest[i], raw[logits + k, i])
        for k in range(k_all):
            for i in range(size):
                w, log_scale = _exp((raw[logits + k, i] - largest[i]) * to_logit), raw[scales + k, i]
                inside = np.float32(low <= log_scale and log_scale <= high)
                inverse = _exp(-min(max(log_scale, low), high) * to_scale) / half_values
                value = values[colour, start + i]
                d = unit * value - raw[means + k, i] - centre[i]
                mass[k, i], by_mean[k, i], stretch = _logistic(d, inverse, value, unit, top)
                by_scale[k, i] = stretch * inside * to_scale
                weight[k, i] = w
                total[i] += w
                found[i] += w * mass[k, i]
        for i in range(size):
            total[i] = np.float32(1) / total[i]
            p = found[i] * total[i] * share + least
            product[i] *= p
            found[i] = share * total[i] / p  # what turns weight times mass into a responsibility
            largest[i] = (p - least) / p  # the sum of the responsibilities
        for k in range(k_all):
            for i in range(size):
                r = weight[k, i] * mass[k, i] * found[i]
                gradient[means + k, i] = r * by_mean[k, i]
                gradient[scales + k, i] = r * by_scale[k, i]
                gradient[logits + k, i] = (weight[k, i] * total[i] * largest[i] - r) * to_logit
                by_centre[i] += r * by_mean[k, i]
        for other in range(colour):
            for i in range(size):
                residual = np.float32(4) * values[other, start + i] - guess[other, start + i]
                slope = _coefficient(raw[first + other, i], bounded)[1]
                gradient[first + other, i] = by_centre[i] * residual * quarter * slope
    nats = 0.0
    for i in range(size):
        nats -= np.log(product[i])
    return nats


@njit(fastmath=True, error_model="numpy")
def _multiply(weight: Any, block: Any, out: Any, size: int) -> None:
    """weight (O, P) times block (P, BLOCK), four rows of each at once: few loads for each product."""
    outputs, inputs = weight.shape
    for o in range(outputs):
        for i in range(size):
            out[o, i] = 0
    for o in range(0, outputs - 1, 2):
        first, second = out[o], out[o + 1]
        for j in range(0, inputs - 3, 4):
            a, b, c, d = block[j], block[j + 1], block[j + 2], block[j + 3]
            a0, b0, c0, d0 = weight[o, j], weight[o, j + 1], weight[o, j + 2], weight[o, j + 3]
            a1, b1, c1, d1 = weight[o + 1, j], weight[o + 1, j + 1], weight[o + 1, j + 2], weight[o + 1, j + 3]
            for i in range(size):
                first[i] += a0 * a[i] + b0 * b[i] + c0 * c[i] + d0 * d[i]
                second[i] += a1 * a[i] + b1 * b[i] + c1 * c[i] + d1 * d[i]
    for o in range(outputs):
        last = o == outputs - 1 and outputs % 2
        row = out[o]
        for j in range(0 if last else inputs // 4 * 4, inputs):
            a, a0 = block[j], weight[o, j]
            for i in range(size):
                row[i] += a0 * a[i]


@njit(fastmath=True, error_model="numpy")
def _accumulate(gradient: Any, block: Any, by_weight: Any, size: int) -> None:
    """Add gradient (O, BLOCK) times the transpose of block (P, BLOCK) to ``by_weight``."""
    outputs, inputs = by_weight.shape
    zero = np.float32(0)
    for o in range(outputs):
        row = gradient[o]
        for j in range(0, inputs - 3, 4):
            a, b, c, d = block[j], block[j + 1], block[j + 2], block[j + 3]
            a0, b0, c0, d0 = zero, zero, zero, zero
            for i in range(size):
                a0 += row[i] * a[i]
                b0 += row[i] * b[i]
                c0 += row[i] * c[i]
                d0 += row[i] * d[i]
            by_weight[o, j] += a0
            by_weight[o, j + 1] += b0
            by_weight[o, j + 2] += c0
            by_weight[o, j + 3] += d0
        for j in range(inputs // 4 * 4, inputs):
            a, a0 = block[j], zero
            for i in range(size):
                a0 += row[i] * a[i]
            by_weight[o, j] += a0


@njit(fastmath=True, error_model="numpy")
def _measure(
    weight: Any, features: Any, guess: Any, values: Any, first: int, last: int, by_weight: Any, model: Any
) -> float:
    """-ln p of the pixels from ``first`` to ``last``, raw = weight · features; adds its gradient to ``by_weight``."""
    outputs, inputs = weight.shape
    raw, gradient = np.empty((outputs, BLOCK), np.float32), np.zeros((outputs, BLOCK), np.float32)
    block = np.empty((inputs, BLOCK), np.float32)
    nats = 0.0
    for start in range(first, last, BLOCK):
        size = min(BLOCK, last - start)
        for j in range(inputs):
            for i in range(size):
                block[j, i] = features[j, start + i]
        _multiply(weight, block, raw, size)
        nats += _mixture(raw, guess, values, gradient, start, size, model)
        _accumulate(gradient, block, by_weight, size)
    return nats


@njit(fastmath=True, error_model="numpy")
def _raw_gradient(raw: Any, guess: Any, values: Any, gradient: Any, model: Any) -> float:
    outputs, count = raw.shape
    block, by_raw = np.empty((outputs, BLOCK), np.float32), np.zeros((outputs, BLOCK), np.float32)
    nats = 0.0
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        block[:, :size] = raw[:, start : start + size]
        nats += _mixture(block, guess, values, by_raw, start, size, model)
        gradient[:, start : start + size] = by_raw[:, :size]
    return nats


def measure(
    model: IntegerModel, weight: Float32, sample: PhaseSample, pixels: range | None = None
) -> tuple[float, NDArray[np.float64]]:
    """-ln p of pixels of a sample in nats, and its gradient by ``weight`` (R, P): raw parameters are weight · features.

    The R = 9K + 3 raw parameters are in the units of the integer network's outputs. ``pixels`` are some of the
    sample's, next to each other. Releases the GIL.
    """
    gradient = np.zeros(weight.shape)
    which = pixels if pixels is not None else range(sample.count)
    nats = _measure(
        weight, sample.features, sample.prediction, sample.values, which.start, which.stop, gradient,
        _settings(model, sample.coded),
    )  # fmt: skip
    return nats, gradient


def raw_gradient(model: IntegerModel, raw: Float32, sample: PhaseSample) -> tuple[float, Float32]:
    """-ln p of a sample's pixels in nats, and its gradient by their raw parameters, (R, n) both."""
    return raw_nats(model, raw, sample.prediction, sample.values, sample.coded)


def raw_nats(
    model: IntegerModel, raw: Float32, prediction: Float32, values: Float32, coded: int
) -> tuple[float, Float32]:
    """The same of pixels with their prediction and values (3, n), of which so many colours are coded."""
    gradient = np.zeros_like(raw)
    nats = _raw_gradient(raw, prediction, values, gradient, _settings(model, coded))
    return nats, gradient


def _settings(model: IntegerModel, coded: int) -> tuple[int, bool, Float32]:
    """What the kernel has to know of a model: a pixel's value has one count at least, of all others its share."""
    share = 1 - 2.0 ** (model.value_bits - model.pixel_bits)
    constants = [level_unit(model.value_bits), half_range(model.value_bits), model.top_value]
    return coded, model.bounded_colour, np.array([*constants, 2.0**-model.pixel_bits, share], np.float32)
