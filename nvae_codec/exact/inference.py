"""The setting in which the exact network is exact, whatever the user's own settings are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def exact_inference(device: torch.device) -> Iterator[None]:
    """No gradients, autocast, NNPACK (inexact on whole numbers) or TF32; the user's settings come back afterwards."""
    nnpack = torch.backends.nnpack.set_flags(False)  # type: ignore[no-untyped-call]
    tf32: list[Any] = [torch.backends.cudnn, torch.backends.cuda.matmul]
    kept = [place.allow_tf32 for place in tf32] if device.type == "cuda" else []
    try:
        for place in tf32[: len(kept)]:
            place.allow_tf32 = False
        with torch.inference_mode(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.backends.nnpack.set_flags(*nnpack)  # type: ignore[no-untyped-call]
        for place, value in zip(tf32, kept, strict=False):
            place.allow_tf32 = value
