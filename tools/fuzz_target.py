"""A thing that the fuzzer attacks, and how bytes are changed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nvae_codec.container.archive.index import segment_checksum

NUMBERS = (b"\0", b"\x7f", b"\x80", b"\xff\x7f", b"\xff\xff\xff\xff\x07", b"\xff" * 9 + b"\x01")
"""Varints and lengths that readers like least."""


@dataclass(frozen=True)
class Target:
    """Something that reads files. ``make`` gives a mutant and whether it was resealed; ``read`` may refuse it."""

    name: str
    make: Callable[[np.random.Generator], tuple[Any, bool]]
    read: Callable[[Any], object]
    data: bytes = b""
    resealed: bool = False  # whether some mutants are


class WrongPixelsError(AssertionError):
    """A mutant was read to other pixels than those of the sound file, whose checksum it carries."""


def mutate(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """One to three changes of bits, bytes, numbers, ranges and order."""
    out = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        # half of the changes hit the first bytes, where most of the structure is
        reach = min(len(out), 64) if rng.random() < 0.5 else len(out)
        at = int(rng.integers(max(reach, 1)))
        end = at + int(rng.integers(1, 17))
        match rng.integers(8):
            case 0 if out:
                out[at] ^= 1 << int(rng.integers(8))
            case 1:
                out[at:end] = rng.bytes(end - at)
            case 2:
                number = NUMBERS[rng.integers(len(NUMBERS))]
                out[at : at + len(number)] = number
            case 3:
                out[at:at] = NUMBERS[rng.integers(len(NUMBERS))]
            case 4:
                del out[at:end]
            case 5:
                out[at:at] = out[at:end] * int(rng.integers(1, 40))
            case 6:
                del out[int(rng.integers(len(out) + 1)) :]
            case _:
                out[at:end] = other[at:end]
    return bytes(out)


def join_archive(head: bytes, segments: bytes, stream: bytes) -> bytes:
    """An archive of these segments and this compressed index, with its checksum."""
    tail = len(stream).to_bytes(8, "little")
    return head + segments + stream + tail + segment_checksum(head + stream + tail)
