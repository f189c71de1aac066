"""The exact network's own settings: they hold inside, and the user's come back."""

from __future__ import annotations

import pytest
import torch

from nvae_codec.integer.inference import exact_inference


def _nnpack() -> bool:
    before: tuple[bool] = torch.backends.nnpack.set_flags(False)  # type: ignore[no-untyped-call]
    torch.backends.nnpack.set_flags(*before)  # type: ignore[no-untyped-call]
    return before[0]


@pytest.mark.parametrize("before", [True, False])
def test_settings_hold_inside_and_come_back(before: bool) -> None:
    torch.backends.nnpack.set_flags(before)  # type: ignore[no-untyped-call]
    with torch.autocast("cpu", torch.bfloat16):
        with exact_inference(torch.device("cpu")):
            assert not _nnpack()
            assert not torch.is_autocast_enabled("cpu")
            assert not torch.is_grad_enabled()
        assert torch.is_autocast_enabled("cpu")
    assert _nnpack() is before
    assert torch.is_grad_enabled()


def test_settings_come_back_after_an_error() -> None:
    torch.backends.nnpack.set_flags(True)  # type: ignore[no-untyped-call]
    with pytest.raises(ValueError, match="on purpose"), exact_inference(torch.device("cpu")):
        raise ValueError("on purpose")
    assert _nnpack()


@pytest.mark.parametrize("newer", [False, True])
def test_tf32_is_off_inside_and_comes_back(newer: bool) -> None:
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    try:
        if newer:
            matmul.fp32_precision = "tf32"
        else:
            matmul.allow_tf32 = True
        with exact_inference(torch.device("cpu")):
            assert matmul.fp32_precision == "ieee"
        assert matmul.fp32_precision == "tf32"
    finally:
        matmul.fp32_precision = before
