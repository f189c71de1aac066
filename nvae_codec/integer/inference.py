"""The setting in which the exact network is exact, whatever the user's own settings are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def exact_inference(device: torch.device) -> Iterator[None]:
    """No gradients, autocast, NNPACK (inexact on integers) or TF32; the user's settings come back afterwards."""
    nnpack = torch.backends.nnpack.set_flags(False)  # type: ignore[no-untyped-call]
    matmul = torch.backends.cuda.matmul
    # the older allow_tf32 raises where somebody has used this newer setting; this one bears either
    precision = matmul.fp32_precision
    try:
        matmul.fp32_precision = "ieee"
        with torch.inference_mode(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.backends.nnpack.set_flags(*nnpack)  # type: ignore[no-untyped-call]
        matmul.fp32_precision = precision
