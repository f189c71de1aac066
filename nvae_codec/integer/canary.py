"""The canary: a check, whenever a model is loaded, that this machine computes the model's integers."""

import hashlib

import numpy as np
import torch
import xxhash

from nvae_codec.errors import NumericsError
from nvae_codec.integer.graph import Graph
from nvae_codec.integer.inference import exact_inference

LARGEST_STRIDE_OF_MANY = 256
"""Models with a larger stride run the canary on two images: many would take minutes."""


def canary_size(graph: Graph) -> tuple[int, int]:
    """Images, and the side of each in pixels. Seventeen, as torch takes other paths from a batch of sixteen on."""
    return 17 if graph.stride <= LARGEST_STRIDE_OF_MANY else 2, 2 * graph.stride


def make_canary(graph: Graph) -> str:
    """The hash that a model file carries, in hexadecimal."""
    return _combine(_hash_outputs(graph, canary_size(graph)[0], torch.device("cpu")))


def check_canary(graph: Graph, canary: str, device: torch.device) -> None:
    """Raise NumericsError if this machine does not compute the integers of the machine that exported the model.

    Also if an accumulator is not an integer: rounding may hide its fraction in the outputs.
    """
    many = _hash_outputs(graph, canary_size(graph)[0], device)
    if _combine(many) != canary or _hash_outputs(graph, 1, device) != many[:1]:
        raise NumericsError(
            f"this machine ({device}) does not compute the model's integers: its files could not be read elsewhere"
        )


def _combine(hashes: list[str]) -> str:
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def _hash_outputs(graph: Graph, batch: int, device: torch.device) -> list[str]:
    """A hash of all outputs for each of ``batch`` synthetic images; a smaller batch has the first of a larger one."""
    evaluation, side = graph.evaluate(debug=True), canary_size(graph)[1]
    digests = [xxhash.xxh3_128() for _ in range(batch)]
    with exact_inference(device):
        for number, (name, source) in enumerate(sorted(graph.inputs.items())):
            shape = (batch, source.channels, side // source.stride, side // source.stride)
            # a congruential sequence: the same integers everywhere, spread over [-largest, largest]
            values = np.arange(1, np.prod(shape) + 1, dtype=np.uint64)
            values = (values * 2654435761 + number * 40503) % 2**32 // 2**16 % (2 * source.largest + 1)
            integers = (values.astype(np.float32) - source.largest).reshape(shape)
            evaluation.give(name, torch.from_numpy(integers).to(device))
        for output in sorted(graph.outputs):
            integers = evaluation.take(output).to(torch.int32).contiguous().cpu().numpy()
            for item, digest in zip(integers, digests, strict=True):
                digest.update(item.astype("<i4").tobytes())
    return [digest.hexdigest() for digest in digests]
