"""Optimizers that a recipe can name: Adamax as in the official code, AdamW, and Muon."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from nvae_codec.recipes.recipe import TrainingRecipe

SMALLEST_SIDE = 16
"""Muon's updates are for matrices; weights with fewer rows or columns, depthwise ones among them, take AdamW's."""
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
UPDATE_RMS = 0.2


def make_optimizer(training: TrainingRecipe, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer of a recipe; parameters without ``requires_grad`` never change."""
    rate, decay = training.learning_rate, training.weight_decay
    if training.optimizer == "adamax":
        return torch.optim.Adamax(parameters, rate, eps=1e-3, weight_decay=decay, foreach=True)
    if training.optimizer == "muon":
        return Muon(parameters, rate, weight_decay=decay)
    return torch.optim.AdamW(parameters, rate, betas=(0.9, 0.98), weight_decay=decay, foreach=True)


class Muon(torch.optim.Optimizer):
    """Momentum orthogonalized by Newton-Schulz iterations, for matrices; AdamW for all other parameters.

    Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/; the scale of the updates, with which
    AdamW's learning rate and weight decay fit, from Liu et al. 2025, https://arxiv.org/abs/2502.16982, section 2.2.
    The weight of a convolution is the matrix (output channels, input channels * kernel area).
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        *,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(
            parameters, {"lr": lr, "momentum": momentum, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            given: list[Tensor] = [parameter for parameter in group["params"] if parameter.grad is not None]
            matrices = [parameter for parameter in given if is_matrix(parameter)]
            self._step_matrices(matrices, group)
            self._step_others([parameter for parameter in given if not is_matrix(parameter)], group)
        return loss

    def _step_matrices(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        by_shape: dict[tuple[int, int], list[Tensor]] = {}
        for parameter in parameters:
            by_shape.setdefault((len(parameter), parameter[0].numel()), []).append(parameter)
        for (rows, columns), found in by_shape.items():
            gradients = torch.stack([gradient(parameter).reshape(rows, columns) for parameter in found])
            for parameter in found:
                self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
            momenta = [self.state[parameter]["momentum"] for parameter in found]
            torch._foreach_lerp_(momenta, [gradient(parameter) for parameter in found], 1 - group["momentum"])
            averaged = torch.stack([momentum.reshape(rows, columns) for momentum in momenta])
            update = orthogonalize(gradients.lerp_(averaged, group["momentum"]))  # Nesterov's
            update *= UPDATE_RMS * math.sqrt(max(rows, columns))
            for parameter, change in zip(found, update, strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.sub_(change.view_as(parameter), alpha=group["lr"])

    def _step_others(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        if not parameters:
            return
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter] = {
                    "step": torch.tensor(0.0),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
        first, second = ([self.state[p][moment] for p in parameters] for moment in ("exp_avg", "exp_avg_sq"))
        gradients, (beta1, beta2) = [gradient(p) for p in parameters], group["betas"]
        torch._foreach_lerp_(first, gradients, 1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, gradients, gradients, 1 - beta2)
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        for parameter, mean, square in zip(parameters, first, second, strict=True):
            self.state[parameter]["step"] += 1
            step = float(self.state[parameter]["step"])
            scale = (square / (1 - beta2**step)).sqrt_().add_(group["eps"])
            parameter.addcdiv_(mean, scale, value=-group["lr"] / (1 - beta1**step))


def gradient(parameter: Tensor) -> Tensor:
    """The gradient of a parameter that has one."""
    assert parameter.grad is not None
    return parameter.grad


def is_matrix(parameter: Tensor) -> bool:
    """Whether Muon orthogonalizes the updates of a parameter."""
    return parameter.ndim >= 2 and min(len(parameter), parameter[0].numel()) >= SMALLEST_SIDE


def orthogonalize(matrices: Tensor) -> Tensor:
    """Approximately the nearest semi-orthogonal matrices, singular values within about [0.7, 1.2]; (N, rows, columns).

    Five Newton-Schulz iterations of the fifth degree.
    """
    a, b, c = NEWTON_SCHULZ
    wide = matrices.shape[1] <= matrices.shape[2]
    x: Tensor = matrices if wide else matrices.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide else x.mT
