"""Spectral regularization, and that of batch norms' scales, which keep a deep hierarchy smooth (NVAE, section 3.2)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvae_codec.network.cells import SqueezeExcitation
from nvae_codec.network.convolution import applied_weight
from nvae_codec.recipes.recipe import TrainingRecipe

FIRST_ITERATIONS, ITERATIONS = 40, 4
LEAST_NORM = 1e-3
PREFIX = "spectral."
"""The prefix of the estimates' names in a checkpoint."""


@dataclass
class _Layers:
    """Convolutions whose kernels, as matrices (out, the rest), have one shape; u (layers, out) estimates."""

    convolutions: list[nn.Conv2d]
    u: Tensor


class SpectralNorms:
    """The sum of the largest singular values of all convolutions, by power iteration.

    The estimates of the left singular vectors are kept from step to step, so a few iterations per step follow the
    weights. They are part of a run's state. Layers of one shape are iterated together.
    """

    def __init__(self, network: nn.Module, seed: int = 0) -> None:
        """Start with random estimates."""
        self.layers: dict[str, _Layers] = {}
        found: dict[str, list[nn.Conv2d]] = {}
        for convolution in list_convolutions(network):
            rows, columns = len(convolution.weight), convolution.weight[0].numel()
            found.setdefault(f"{rows}x{columns}", []).append(convolution)
        generator = torch.Generator().manual_seed(seed)
        for shape, convolutions in found.items():
            weight = convolutions[0].weight
            start = torch.randn(len(convolutions), len(weight), generator=generator).to(weight)
            self.layers[shape] = _Layers(convolutions, F.normalize(start, dim=1, eps=LEAST_NORM))
        self.iterations = FIRST_ITERATIONS

    def total(self) -> Tensor:
        """The sum, with a gradient to the weights; improves the estimates (more so at the first call)."""
        norms = [self._norms(layers).sum() for layers in self.layers.values()]
        self.iterations = ITERATIONS
        return torch.stack(norms).sum()

    def _norms(self, layers: _Layers) -> Tensor:
        weights = torch.stack([applied_weight(convolution).flatten(1) for convolution in layers.convolutions])
        with torch.no_grad():
            u, v = layers.u.to(weights), weights[:, 0]
            for _ in range(self.iterations):
                v = F.normalize(torch.einsum("lo,loi->li", u, weights), dim=1, eps=LEAST_NORM)
                u = F.normalize(torch.einsum("loi,li->lo", weights, v), dim=1, eps=LEAST_NORM)
            layers.u = u
        return torch.einsum("lo,loi,li->l", u, weights, v)

    def state(self) -> dict[str, Tensor]:
        """The estimates, for a checkpoint; none before the first call, which iterates longer."""
        if self.iterations == FIRST_ITERATIONS:
            return {}
        return {f"{PREFIX}{shape}": layers.u for shape, layers in self.layers.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue from the estimates of a checkpoint, if it has any."""
        if not any(name.startswith(PREFIX) for name in state):
            return
        for shape, layers in self.layers.items():
            layers.u = state[f"{PREFIX}{shape}"].to(layers.u)
        self.iterations = ITERATIONS


def list_convolutions(network: nn.Module) -> list[nn.Conv2d]:
    """The regularized convolutions: all except those of gates, which are linear layers in the official code."""
    gates = [module for module in network.modules() if isinstance(module, SqueezeExcitation)]
    left_out = {id(module) for gate in gates for module in gate.modules()}
    return [m for m in network.modules() if isinstance(m, nn.Conv2d) and id(m) not in left_out]


def scale_total(network: nn.Module) -> Tensor:
    """The sum of the largest |scale| of every batch normalization."""
    scales = [module.weight.abs().max() for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    return torch.stack(scales).sum() if scales else torch.zeros(())


def spectral_weight(training: TrainingRecipe, kl: float) -> float:
    """The weight of both sums when the KL has the weight ``kl``: geometrically from spectral_start to the final one."""
    if not training.spectral_start or not training.spectral_weight:
        return training.spectral_weight
    first, last = math.log(training.spectral_start), math.log(training.spectral_weight)
    return math.exp((1 - kl) * first + kl * last)
