"""How a network is evaluated: it changes speed and memory, never a file."""

from __future__ import annotations

from dataclasses import dataclass

DEVICES = ("auto", "cpu", "cuda")
"""auto: CUDA where there is a device on which a model passes its self-test, else the CPU."""


@dataclass(frozen=True)
class Runtime:
    """Device (one of DEVICES), CPU threads (None: torch's), and tiles evaluated together (None: the codec's)."""

    device: str = "auto"
    threads: int | None = None
    batch_tiles: int | None = None
