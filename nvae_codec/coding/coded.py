"""The result of a coding method, before it becomes a file."""

from dataclasses import dataclass

Extension = tuple[int, bytes]
"""Type and content of an extension block of the file."""

ADAPTATION_BLOCK = 2
"""Type of the block that changes the model for the images (docs/adaptation.md)."""


@dataclass(frozen=True)
class Coded:
    """The images of one segment as a method coded them: candidates are compared by it, and the best one is finalized.

    payload: the method's bytes; of a model, those of the stack. plan: a model's integers from 0 (docs/format.md,
    "Plan"), which say how the payload is divided into batches. extensions: blocks of the file that a decoder needs
    besides the payload.
    """

    payload: bytes
    plan: tuple[int, ...] = ()
    extensions: tuple[Extension, ...] = ()
    method: str = "model"
