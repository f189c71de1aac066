"""A device that is not there: tensors that say they lie on it, and lie on the CPU.

What would fail on a GPU for want of a copy fails here too: an operation on tensors of both devices, NumPy's look at one
that is not on the CPU. It goes by torch's name ``meta``, the one device that every build of torch lets tensors lie on.
It says nothing about a GPU's arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE, CPU = torch.device("meta"), torch.device("cpu")
COPY = torch.ops.aten._to_copy.default


class Pretended(Tensor):
    """A tensor of the device, and where it really is."""

    host: Tensor

    @staticmethod
    def __new__(cls, host: Tensor) -> Pretended:
        made: Pretended = Tensor._make_wrapper_subclass(
            cls, host.shape, strides=host.stride(), dtype=host.dtype, device=DEVICE
        )
        made.host = host
        return made

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        raise RuntimeError(f"{func}: the device is gone")


class PretendedDevice(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Does on the CPU what is asked of the device. ``operations``: what was."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        there = [tensor for tensor in tensors if isinstance(tensor, Pretended)]
        goal = torch.device(kwargs.get("device") or (DEVICE if there else CPU))
        if "device" in kwargs:
            kwargs["device"] = CPU
        if there:
            self.operations.add(func.name())
        if func is not COPY and there and any(t.dim() and not isinstance(t, Pretended) for t in tensors):
            raise RuntimeError(f"{func}: expected all tensors to be on the same device")
        result = func(*tree_map(_on_host, args), **tree_map(_on_host, kwargs))
        for tensor in there:
            if result is tensor.host:  # changed in place
                return tensor
        return tree_map(_on_device, result) if goal == DEVICE else result


def _on_host(leaf: Any) -> Any:
    return leaf.host if isinstance(leaf, Pretended) else leaf


def _on_device(leaf: Any) -> Any:
    return Pretended(leaf) if isinstance(leaf, Tensor) else leaf


@contextmanager
def pretended_device(monkeypatch: pytest.MonkeyPatch) -> Iterator[PretendedDevice]:
    """The device is there, as far as torch can be told."""
    with monkeypatch.context() as patch, PretendedDevice() as device:
        # of this device there is no autocast, and what is made outside of inference mode has no views inside
        patch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
        patch.setattr(torch, "inference_mode", torch.no_grad)
        yield device
