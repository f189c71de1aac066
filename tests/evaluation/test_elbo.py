"""The bounds that files are measured against."""

import math

import numpy as np
import pytest
import torch

from nvae_codec.coding.codec import ModelCodec
from nvae_codec.evaluation import ImageElbo, float_elbo, integer_elbo
from nvae_codec.evaluation.elbo import noise_of, normal_mass
from nvae_codec.likelihoods.mixture import logistic_mass
from nvae_codec.runtime import Runtime
from nvae_codec.zoo.load import prepare_codec
from tests.models import OF_LIKELIHOODS, RECIPES, exported_model, exported_network, make_image


def reference_normal(low: float, high: float) -> float:
    """By the error function of the tail that both ends lie in."""
    if low >= 0:
        return 0.5 * (math.erfc(low / math.sqrt(2)) - math.erfc(high / math.sqrt(2)))
    if high <= 0:
        return reference_normal(-high, -low)
    return 1 - 0.5 * math.erfc(-low / math.sqrt(2)) - 0.5 * math.erfc(high / math.sqrt(2))


def reference_logistic(low: float, high: float) -> float:
    """(e^high - e^low) / ((1 + e^high)(1 + e^low)), from the side where nothing overflows."""
    if low >= 0 or high == math.inf:
        low, high = -high, -low
    top = 1.0 if high == math.inf else 1 / (1 + math.exp(-high)) if high > -700 else 0.0
    bottom = 0.0 if low == -math.inf or low < -700 else math.exp(low) / (1 + math.exp(low))
    if low != -math.inf and high - low < 1e-3:
        middle = math.exp((low + high) / 2)
        return (high - low) * middle / (1 + middle) ** 2
    return top - bottom


INTERVALS = [
    (-math.inf, math.inf), (-math.inf, 0.0), (0.0, math.inf), (-1.0, 1.0), (-8.0, 8.0), (2.0, 2.5), (-2.5, -2.0),
    (7.0, 7.01), (-7.01, -7.0), (-math.inf, -9.0), (9.0, math.inf), (20.0, 21.0), (-21.0, -20.0), (0.0, 1e-6),
]  # fmt: skip


@pytest.mark.parametrize(("low", "high"), INTERVALS)
def test_masses_keep_their_digits_in_the_tails(low: float, high: float) -> None:
    ends = np.array([low]), np.array([high])
    assert normal_mass(*ends)[0] == pytest.approx(reference_normal(low, high), rel=1e-9)
    assert logistic_mass(*ends)[0] == pytest.approx(reference_logistic(low, high), rel=1e-6)


def test_masses_of_neighbours_sum_to_one() -> None:
    edges = np.r_[-np.inf, np.linspace(-30, 30, 601), np.inf]
    assert normal_mass(edges[:-1], edges[1:]).sum() == pytest.approx(1, rel=1e-12)
    assert logistic_mass(edges[:-1], edges[1:]).sum() == pytest.approx(1, rel=1e-12)
    assert (normal_mass(edges[:-1], edges[1:]) > 0).all()


def test_an_elbo_adds_its_parts() -> None:
    elbo = ImageElbo((1.0, 2.0), (3.0, 6.0), 24)
    assert elbo.bits == 12
    assert elbo.bits_per_dim == float(elbo) == 0.5


@pytest.mark.parametrize("which", RECIPES)
def test_the_exact_bound_follows_from_its_seed(which: str) -> None:
    image, model = make_image(40, 56), exported_model(which)
    one = integer_elbo(image, model, seed=3, samples=2)
    assert one == integer_elbo(image, model, seed=3, samples=2)
    other = integer_elbo(image, model, seed=4, samples=2)
    assert other != one
    assert other.bits == pytest.approx(one.bits, rel=0.05)
    assert len(one.kl) == len(model.groups)
    assert len(one.pixels) == len(model.phases)
    assert one.dims == 40 * 56 * 3
    assert all(part > 0 for part in (*one.kl, *one.pixels))


def test_each_image_has_noise_of_its_own() -> None:
    images = [np.full((4, 4, 3), value, np.uint8) for value in range(3)]
    drawn = [noise_of(image, seed).random() for image in images for seed in range(2)]
    assert len(set(drawn)) == 6
    assert noise_of(images[1].copy(), 0).random() == drawn[2]


def test_a_codec_and_its_model_have_one_bound() -> None:
    image = make_image(24, 24)
    expected = integer_elbo(image, exported_model(), samples=1)
    assert integer_elbo(image, ModelCodec(exported_model()), samples=1) == expected
    chunked = prepare_codec(exported_model(), Runtime("cpu", batch_tiles=1))
    assert integer_elbo(image, chunked, samples=1) == expected


@pytest.mark.parametrize("which", RECIPES)
def test_exact_and_float_bounds_agree(which: str) -> None:
    network, exported = exported_network(which)
    image = make_image(64, 72)
    exact, real = integer_elbo(image, exported.model), float_elbo(image, network)
    assert exact.bits == pytest.approx(real.bits, rel=0.01)
    assert exact.kl == pytest.approx(real.kl, rel=0.1)
    assert exact.pixels == pytest.approx(real.pixels, rel=0.03)


@pytest.mark.parametrize("which", RECIPES)
def test_the_float_bound_is_that_of_training(which: str) -> None:
    network, _ = exported_network(which)
    image = make_image(64, 64)
    found = float_elbo(image, network, samples=8)
    torch.manual_seed(0)
    crops = torch.from_numpy(image.transpose(2, 0, 1).copy())[None]
    with torch.inference_mode():
        draws = [network(crops) for _ in range(8)]
    kl = [float(np.mean([float(draw.kl[g].sum()) for draw in draws])) / math.log(2) for g in range(len(found.kl))]
    pixels = [float(np.mean([float(draw.pixels[p]) for draw in draws])) / math.log(2) for p in range(len(found.pixels))]
    assert found.kl == pytest.approx(kl, rel=0.03)
    assert found.pixels == pytest.approx(pixels, rel=0.03)


def test_bounds_of_images_that_fit_no_stride() -> None:
    network, exported = exported_network("phases of two levels")
    for size in [(1, 1), (3, 17), (33, 20)]:
        image = make_image(*size)
        exact, real = integer_elbo(image, exported.model, samples=32), float_elbo(image, network, samples=32)
        assert exact.dims == real.dims == image.size
        assert exact.bits == pytest.approx(real.bits, rel=0.1)


def test_other_arrays_have_no_bound() -> None:
    image = make_image(16, 16)
    for other, error in [(image.astype(np.int64), TypeError), (image / 255, TypeError), (image[:, :, :2], ValueError)]:
        with pytest.raises(error):
            integer_elbo(other, exported_model())  # type: ignore[arg-type]
        with pytest.raises(error):
            float_elbo(other, exported_network()[0])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one sample"):
        integer_elbo(image, exported_model(), samples=0)


@pytest.mark.parametrize("which", OF_LIKELIHOODS)
def test_bounds_of_the_official_likelihoods_agree(which: str) -> None:
    network, exported = exported_network(which)
    top = exported.model.top_value
    image = (make_image(60, 60) // (256 // (top + 1))).astype(np.uint8)
    image = image if exported.model.channels == 3 else np.ascontiguousarray(image[..., 0])
    exact, real = integer_elbo(image, exported.model, samples=16), float_elbo(image, network, samples=16)
    assert exact.dims == image.size
    # logits of this untrained network are far beyond 16, where the exact ones end
    assert exact.bits == pytest.approx(real.bits, rel=0.01 if top > 1 else 0.03)
    torch.manual_seed(0)
    shown = torch.from_numpy(image.reshape(60, 60, -1).transpose(2, 0, 1).copy())[None]
    x = torch.nn.functional.pad(shown * (2 / top) - 1, [exported.model.padding] * 4, value=-1.0)
    with torch.inference_mode():
        trained = [network.elbo(x) for _ in range(8)]
    nats = float(np.mean([sum(float(part.sum()) for part in (*draw.kl, *draw.pixels)) for draw in trained]))
    assert real.bits == pytest.approx(nats / math.log(2), rel=0.03)
