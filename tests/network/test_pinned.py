"""Models that are trained today load tomorrow: names, shapes and values of photo's network are pinned."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from nvae_codec.network.nvae import Nvae
from nvae_codec.recipe import read_recipe

PHOTO = Path(__file__).parents[2] / "models" / "photo" / "recipe.toml"
NAMES = "18b42608c1fa4c3056b933094e20b5fe87b16e3bbc28f958ec00696fbd566d7f"
KL = [173.8619, 345.3958, 351.2869, 693.4388]
PIXELS = [2273.510, 2919.865, 2862.238, 2850.422, 11576.168, 11735.680, 11667.085]


def test_the_network_of_photo_keeps_its_names_shapes_and_values() -> None:
    torch.manual_seed(0)
    network = Nvae(read_recipe(PHOTO))
    state = network.state_dict()
    listed = "\n".join(f"{name} {tuple(value.shape)}" for name, value in state.items())
    assert len(state) == 251
    assert hashlib.sha256(listed.encode()).hexdigest() == NAMES
    torch.manual_seed(1)
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    torch.manual_seed(2)
    with torch.no_grad():
        elbo = network(pixels)
    assert [float(kl.double().sum()) for kl in elbo.kl] == pytest.approx(KL, rel=1e-4)
    assert [float(nats) for nats in elbo.pixels] == pytest.approx(PIXELS, rel=1e-4)
