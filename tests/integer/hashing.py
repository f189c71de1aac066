"""Hashes of all that an exact network computes; also run as a process of its own, on other instruction sets."""

import hashlib
import json
import sys
from pathlib import Path

import torch
from torch import Tensor

from nvae_codec.integer.graph import Graph
from nvae_codec.integer.model_file import read_model

Inputs = dict[str, Tensor]


def make_inputs(graph: Graph, batch: int, places: int = 3) -> Inputs:
    """Integers within the bounds, the same everywhere; those of a small batch begin those of a large one."""
    side = places * max(source.stride for source in graph.inputs.values())
    inputs = {}
    for number, (name, source) in enumerate(sorted(graph.inputs.items())):
        shape = (batch, source.channels, side // source.stride, side // source.stride)
        index = torch.arange(1, torch.Size(shape).numel() + 1, dtype=torch.int64)
        values = (index * 1103515245 + number * 12345) % 2**31 // 2**12 % (2 * source.largest + 1) - source.largest
        inputs[name] = values.float().view(shape)
    return inputs


def evaluate(graph: Graph, inputs: Inputs, *, debug: bool = False) -> dict[str, Tensor]:
    """All outputs."""
    with torch.inference_mode():
        evaluation = graph.evaluate(debug=debug)
        for name, value in inputs.items():
            evaluation.give(name, value)
        return {name: evaluation.take(name).contiguous() for name in graph.outputs}


def hash_outputs(outputs: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(outputs):
        digest.update(name.encode() + outputs[name].to(torch.int32).numpy().astype("<i4").tobytes())
    return digest.hexdigest()


def hash_model(path: Path, batch: int = 17) -> str:
    graph = read_model(path).graph
    return hash_outputs(evaluate(graph, make_inputs(graph, batch)))


def main() -> None:
    """Print the capability of this process, and the hash of each model with two batch sizes and thread numbers."""
    torch.backends.nnpack.set_flags(False)  # type: ignore[no-untyped-call]
    hashes: dict[str, object] = {"capability": torch.backends.cpu.get_cpu_capability()}
    for path in sys.argv[1:]:
        found = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found += [hash_model(Path(path), batch) for batch in (2, 17)]
        hashes[path] = found
    json.dump(hashes, sys.stdout)


if __name__ == "__main__":
    main()
