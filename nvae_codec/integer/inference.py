"""The settings under which the integer network is exact, whatever the user's own settings are."""

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

_MKLDNN: Any = torch.backends.mkldnn
FP32_SETTINGS = (torch.backends.cuda.matmul, _MKLDNN.matmul, _MKLDNN.conv)
"""Where torch may compute float32 products in TF32 or bfloat16 if the user asks for that."""


@dataclass
class _Shared:
    """Settings of the whole process: the user's own, while at least one thread is inside :func:`exact_inference`."""

    lock: threading.Lock
    threads: int = 0
    nnpack: tuple[bool, ...] = ()
    precisions: tuple[str, ...] = ()
    forked: bool = False


_shared = _Shared(threading.Lock())


@contextmanager
def exact_inference(device: torch.device) -> Iterator[None]:
    """No gradients, autocast, NNPACK (inexact on integers) or reduced precision; restores the user's settings.

    Threads may be inside at the same time: the first one saves what belongs to the whole process, and the last one
    restores it. In a process forked after torch was used, torch runs on one thread: its others are not in the child.
    """
    with ExitStack() as stack:
        if _shared.forked:
            torch.set_num_threads(1)
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(torch.inference_mode())
        stack.enter_context(torch.autocast(device.type, enabled=False))
        _enter()
        stack.callback(_leave)
        yield


def _enter() -> None:
    with _shared.lock:
        if not _shared.threads:
            _shared.nnpack = torch.backends.nnpack.set_flags(False)  # type: ignore[no-untyped-call]
            # the older allow_tf32 raises if somebody has used this newer setting, which works in both cases
            _shared.precisions = tuple(setting.fp32_precision for setting in FP32_SETTINGS)
            for setting in FP32_SETTINGS:
                setting.fp32_precision = "ieee"
        _shared.threads += 1


def _leave() -> None:
    with _shared.lock:
        _shared.threads -= 1
        if _shared.threads == 0:
            _restore()


def _restore() -> None:
    torch.backends.nnpack.set_flags(*_shared.nnpack)  # type: ignore[no-untyped-call]
    for setting, precision in zip(FP32_SETTINGS, _shared.precisions, strict=True):
        setting.fp32_precision = precision


def _after_fork() -> None:
    """The child has this thread alone: no other one will leave, release the lock, or work for torch."""
    _shared.lock = threading.Lock()
    _shared.forked = True
    if _shared.threads > 0:
        _restore()
        _shared.threads = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
