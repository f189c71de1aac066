"""The canary: proof, at every loading, that this machine computes the model's integers."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
import xxhash

from nvae_codec.errors import NumericsError
from nvae_codec.integer.graph import Evaluation, Graph
from nvae_codec.integer.inference import exact_inference

BATCHES = (1, 17)
"""One, and more than the sixteen from which torch takes other paths."""


def make_canary(graph: Graph) -> str:
    """The hash that a model file carries, hexadecimal."""
    return _combine(_hash_outputs(graph, max(BATCHES), torch.device("cpu")))


def check_canary(graph: Graph, canary: str, device: torch.device) -> None:
    """Raise NumericsError where this machine computes something else than the one that froze the model.

    Also where an accumulator is not an integer: of one that was not, rounding may hide the fraction.
    """
    many = _hash_outputs(graph, BATCHES[1], device)
    if _combine(many) != canary or _hash_outputs(graph, BATCHES[0], device) != many[: BATCHES[0]]:
        raise NumericsError(
            f"this machine ({device}) does not compute the model's integers: its files could not be read elsewhere"
        )


def _combine(hashes: list[str]) -> str:
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def _hash_outputs(graph: Graph, batch: int, device: torch.device) -> list[str]:
    """A hash of all outputs for each of ``batch`` made-up images; those of a smaller batch are its first."""
    with exact_inference(device):
        return _hash_exactly(graph.evaluate(debug=True), batch, device)


def _hash_exactly(evaluation: Evaluation, batch: int, device: torch.device) -> list[str]:
    graph = evaluation.graph
    side = 2 * max(source.pixels for source in graph.inputs.values())
    for number, (name, source) in enumerate(sorted(graph.inputs.items())):
        places = (side // source.pixels) ** 2
        # a congruential sequence: the same integers everywhere, spread over [-bound, bound]
        values = np.arange(1, batch * source.channels * places + 1, dtype=np.uint64)
        values = (values * 2654435761 + number * 40503) % 2**32 // 2**16 % (2 * source.bound + 1)
        shape = (batch, source.channels, side // source.pixels, side // source.pixels)
        whole = (values.astype(np.float32) - source.bound).reshape(shape)
        evaluation.give(name, torch.from_numpy(whole).to(device))
    digests = [xxhash.xxh3_128() for _ in range(batch)]
    for output in sorted(graph.outputs):
        whole = evaluation.take(output).to(torch.int32).contiguous().cpu().numpy()
        for item, digest in zip(whole, digests, strict=True):
            digest.update(item.astype("<i4").tobytes())
    return [digest.hexdigest() for digest in digests]
