"""What a file says about its images beyond the model: which expert codes them, and changes of the model's layers.

    expert, 1 byte ┬ [layers that change, a bit each from the lowest, 7 bits a byte]
                   ┴ [step of each of these, 1 byte] ┬ [coordinates of all of them: binary.py]

The bytes after the expert are there if a layer changes. Coordinates are in units of their layer's step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nvae_codec.adaptation.binary import Int32, pack_arrays, unpack_arrays
from nvae_codec.errors import DamagedFileError
from nvae_codec.integer.model import IntegerModel

STEPS = 64
"""Step s is (4 + s % 4) / 4 · 2^-(s // 4) of a direction: from 1.75 down to 2^-15, four to an octave."""


def step_size(step: int) -> float:
    """A step in units of the model's directions."""
    return (4 + step % 4) / 4 * 2.0 ** -(step // 4)


@dataclass(frozen=True)
class LayerChange:
    """Of one layer: the number of its step, and integer coordinates (O, D)."""

    step: int
    coordinates: Int32 = field(repr=False)


@dataclass(frozen=True)
class Adaptation:
    """The expert, and the changes of layers by their place among the model's adaptable ones."""

    expert: int = 0
    changes: Mapping[int, LayerChange] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether there is anything to write."""
        return bool(self.expert or self.changes)

    def pack(self, model: IntegerModel) -> bytes:
        """The bytes of an extension block."""
        out = bytearray([self.expert])
        if self.changes:
            out += _pack_mask(sum(1 << place for place in self.changes))
            out += bytes(self.changes[place].step for place in sorted(self.changes))
            arrays = [self.changes[place].coordinates for place in sorted(self.changes)]
            out += pack_arrays(arrays)
        return bytes(out)

    @classmethod
    def unpack(cls, data: bytes, model: IntegerModel) -> Adaptation:
        """The adaptation in an extension block. Raises DamagedFileError for bytes that :meth:`pack` does not make."""
        if data in (b"", b"\0"):
            raise DamagedFileError("damaged: its adaptation is empty")
        expert, count = data[0], len(model.adaptable)
        if expert >= model.experts:
            raise DamagedFileError(f"damaged: its model has no expert {expert}")
        changes: dict[int, LayerChange] = {}
        if len(data) > 1:
            mask, start = _unpack_mask(data[: 1 + -(-count // 7)], 1)
            places = [place for place in range(count) if mask >> place & 1]
            end = start + len(places)
            if not mask or mask >> count or len(data) < end:
                raise DamagedFileError("damaged: its adaptation changes layers that its model does not have")
            steps = data[start:end]
            if max(steps) >= STEPS:
                raise DamagedFileError("damaged: its adaptation has a step out of range")
            arrays = unpack_arrays(data[end:], [model.adaptable[place].shape for place in places])
            changes = {
                place: LayerChange(step, array) for place, step, array in zip(places, steps, arrays, strict=True)
            }
        return cls(expert, changes)


def _pack_mask(mask: int) -> bytes:
    """Seven bits a byte, the lowest first; the highest bit says that another byte follows."""
    out = bytearray()
    while mask > 127:
        out.append(mask & 127 | 128)
        mask >>= 7
    return bytes([*out, mask])


def _unpack_mask(data: bytes, start: int) -> tuple[int, int]:
    """The mask, and where it ends; 0 for bytes that :func:`_pack_mask` does not make."""
    end = next((at for at in range(start, len(data)) if data[at] < 128), start - 1) + 1
    mask = sum((byte & 127) << 7 * at for at, byte in enumerate(data[start:end]))
    return mask if _pack_mask(mask) == data[start:end] else 0, end
