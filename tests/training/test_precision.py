"""Half precision: latents that carry pixels stay in float32, whatever runs in bfloat16 beside them."""

from pathlib import Path

import pytest
import torch

from nvae_codec.network.nvae import Elbo, Nvae
from nvae_codec.training.loop import Options, Trainer
from nvae_codec.training.precision import keep_latents_precise
from tests.models import make_recipe, random_crops


def measure(network: Nvae, *, half: bool) -> Elbo:
    torch.manual_seed(1)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        elbo: Elbo = network(random_crops(2, 32))
    return elbo


def difference(a: Elbo, b: Elbo) -> float:
    """The largest of the groups' KLs, relative."""
    return max(float(abs(x.sum() / y.sum() - 1)) for x, y in zip(a.kl, b.kl, strict=True))


@pytest.mark.parametrize("which", ["pyramid", "phases on a pyramid"])
def test_latents_that_carry_pixels_stay_in_float32(which: str) -> None:
    torch.manual_seed(0)
    network = Nvae(make_recipe(which)).eval()
    whole, rounded = measure(network, half=False), measure(network, half=True)
    keep_latents_precise(network, torch.device("cpu"), torch.bfloat16)
    kept = measure(network, half=True)
    assert difference(kept, whole) < 1e-3 < difference(rounded, whole)
    assert float(kept.pixels[0]) == pytest.approx(float(whole.pixels[0]), rel=1e-3)


def test_the_trainer_sees_to_it(tmp_path: Path) -> None:
    recipe = make_recipe("phases on a pyramid")
    trainer = Trainer(recipe, tmp_path, Options(precision="bf16"), resume=False)
    plain = Trainer(recipe, tmp_path, Options(), resume=False)
    assert difference(measure(trainer.network.eval(), half=True), measure(plain.network.eval(), half=False)) < 1e-3
