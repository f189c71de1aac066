"""The objective: the negative ELBO with an annealed and balanced KL (NVAE, section 3.2 and appendix A).

Regularization of the weights is in :mod:`nvae_codec.training.regularization`.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nvae_codec.network.nvae import Elbo
from nvae_codec.recipes.recipe import Recipe, TrainingRecipe


def kl_weight(training: TrainingRecipe, progress: float) -> float:
    """The weight of the KL after a fraction of the steps: constant, then linear to 1, from kl_start or over a floor."""
    if training.kl_warmup_fraction <= 0:
        return 1.0
    risen = max(progress - training.kl_hold_fraction, 0.0)
    if training.kl_ramp == "floor":
        return max(min(risen / training.kl_warmup_fraction, 1.0), training.kl_start)
    return min(1.0, training.kl_start + (1 - training.kl_start) * risen / training.kl_warmup_fraction)


def learning_rate(training: TrainingRecipe, step: int) -> float:
    """Linear warm-up, constant, and a cosine down to final_learning_rate over the last decay_fraction of the steps."""
    if training.steps_per_epoch:
        return _rate_by_epochs(training, step)
    rise = min(1.0, (step + 1) / max(1, training.warmup_steps))
    begin = training.steps * (1 - training.decay_fraction)
    fall = max(0.0, (step - begin) / max(1.0, training.steps - begin))
    cosine = 0.5 + 0.5 * math.cos(math.pi * min(1.0, fall))
    return rise * (training.final_learning_rate + (training.learning_rate - training.final_learning_rate) * cosine)


def _rate_by_epochs(training: TrainingRecipe, step: int) -> float:
    """The official schedule: warm-up from 0 at each step, and then a cosine that changes once per epoch."""
    if step < training.warmup_steps:
        return training.learning_rate * step / training.warmup_steps
    warmup = training.warmup_steps // training.steps_per_epoch
    epochs = max(1, training.steps // training.steps_per_epoch - warmup - 1)
    done = min(step // training.steps_per_epoch - warmup, epochs)
    top = (
        training.learning_rate * (training.warmup_steps - 1) / training.warmup_steps
        if training.warmup_steps
        else training.learning_rate
    )
    return training.final_learning_rate + (top - training.final_learning_rate) * (
        0.5 + 0.5 * math.cos(math.pi * done / epochs)
    )


def balance_weights(recipe: Recipe, dtype: torch.dtype = torch.float32) -> Tensor:
    """alpha per group, from the top (NVAE, appendix A): larger maps may use more bits."""
    groups = recipe.network.groups[::-1]
    alpha = [4.0**scale / count for scale, count in enumerate(groups) for _ in range(count)]
    return torch.tensor(alpha, dtype=dtype) / min(alpha)


@dataclass
class BitsPerDim:
    """A batch's bits/dim: what is minimized, and its parts. pixels: (phases,), kl: (groups,)."""

    loss: Tensor
    pixels: Tensor
    kl: Tensor

    @property
    def total(self) -> Tensor:
        """The negative ELBO in bits/dim."""
        return self.pixels.sum() + self.kl.sum()


def mean_kl(elbo: Elbo) -> Tensor:
    """The mean KL per image of each group in nats, (groups,), without a gradient."""
    return torch.stack([group.sum(1).abs().mean() for group in elbo.kl]).detach()


def weigh(elbo: Elbo, weight: float, alpha: Tensor | None, dims: int, batch_kl: Tensor | None = None) -> BitsPerDim:
    """The loss of ``dims`` colour values. ``alpha`` balances the groups; None sums them plainly.

    batch_kl: what :func:`mean_kl` is for the whole batch, where the ELBO is that of a part.
    """
    unit = 1 / (math.log(2) * dims)
    pixels = torch.stack(elbo.pixels) * unit
    kl = torch.stack([group.sum() for group in elbo.kl]) * unit
    balanced = kl
    if alpha is not None:
        # official form: each group weighed by its own KL over alpha, weights of mean 1, no gradient through them
        share = ((mean_kl(elbo) if batch_kl is None else batch_kl) + 0.01) / alpha
        balanced = kl * (share / share.mean())
    return BitsPerDim(pixels.sum() + weight * balanced.sum(), pixels, kl)
