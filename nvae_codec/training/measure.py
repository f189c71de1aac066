"""Held-out crops under a network: bits/dim by part, and the latents in use."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nvae_codec.network.nvae import Nvae
from nvae_codec.training.histories import with_histories
from nvae_codec.training.objective import weigh

ACTIVE_NATS = 0.01
"""A channel of latents is active if its KL at each position is above this on average."""
BATCH_PIXELS = 4 * 256**2
"""Pixels that are evaluated at once."""


@torch.inference_mode()
def measure(
    network: Nvae, crops: NDArray[np.uint8], batch: int | None = None, seed: int = 0, expert: int = 0
) -> dict[str, Any]:
    """Bits/dim of crops (N, C, H, W) under a network, by part, and the fraction of active channels per group."""
    batch = batch or max(1, BATCH_PIXELS // (crops.shape[2] * crops.shape[3]))
    device = next(network.parameters()).device
    torch.manual_seed(seed)
    network.eval()
    parts, channels = [], []
    for start in range(0, len(crops), batch):
        elbo = network(torch.from_numpy(crops[start : start + batch]).to(device), expert=expert)
        parts.append(weigh(elbo, 1.0, None, crops.size))
        channels.append([group.sum(0) for group in elbo.kl])
    network.train()
    pixels = torch.stack([bits.pixels for bits in parts]).sum(0)
    kl = torch.stack([bits.kl for bits in parts]).sum(0)
    positions = [crops.size / crops.shape[1] / stride**2 for stride in network.recipe.network.latent_strides]
    nats = [
        torch.stack(group).sum(0) / count for group, count in zip(zip(*channels, strict=True), positions, strict=True)
    ]
    return {
        "bits_per_dim": round(float(pixels.sum() + kl.sum()), 5),
        "pixels": [round(float(v), 5) for v in pixels],
        "kl": [round(float(v), 5) for v in kl],
        "active": [round(float((group > ACTIVE_NATS).float().mean()), 3) for group in nats],
    }


def measure_histories(network: Nvae, crops: NDArray[np.uint8]) -> dict[str, float]:
    """Bits/dim of held-out crops after each kind of history that is trained on, with the heads of the kind's expert."""
    recipe = network.recipe.training.histories
    changed = {} if recipe is None else with_histories(crops, recipe, network.recipe.stride)
    return {name: measure(network, own, expert=expert)["bits_per_dim"] for name, (expert, own) in changed.items()}
