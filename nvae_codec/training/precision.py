"""Half precision: which kind of number a run uses, and which layers stay in float32."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from nvae_codec.errors import NvaeCodecError
from nvae_codec.network.cells import ResidualCell
from nvae_codec.network.normal import widen
from nvae_codec.network.nvae import Nvae
from nvae_codec.network.pyramid import carrying_parts

AUTOCAST = {"float32": None, "no": None, "bf16": torch.bfloat16, "fp16": torch.float16}
"""By the names of the loop's options and those of accelerate's launcher."""
FIRST_LOSS_SCALE = 1024.0
"""Of fp16, as officially; it follows the gradients from there."""


def choose_autocast(precision: str) -> torch.dtype | None:
    """The kind of number that networks run in, or None; empty is the launcher's, or float32. Raises NvaeCodecError."""
    precision = precision or os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if precision not in AUTOCAST:
        raise NvaeCodecError(f"the precision {precision} is not possible; there are bf16 and fp16")
    return AUTOCAST[precision]


def keep_latents_precise(network: Nvae, device: torch.device, half: torch.dtype) -> None:
    """Keep float32 where latents that carry pixels pass; branches and the later phases stay in half precision.

    bfloat16 has eight bits, and such a latent reaches 200 times its sigma (docs/training.md).
    """
    for module in carrying_parts(network.hierarchy, network.likelihood):
        module.forward = _under(None, device, module.forward)
        for cell in module.modules():
            if isinstance(cell, ResidualCell):
                cell.body.forward = _under(half, device, cell.body.forward)  # type: ignore[method-assign]


def _under(dtype: torch.dtype | None, device: torch.device, forward: Callable[..., Any]) -> Callable[..., Any]:
    """A module's forward in a kind of number, whatever it is called in; None is float32."""

    @wraps(forward)
    def called(*inputs: Any) -> Any:
        if dtype is None:
            inputs = tuple(widen(each) if isinstance(each, Tensor) else each for each in inputs)
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            return forward(*inputs)

    return called
