"""The integer network as a list of operations, evaluated on demand as inputs become known.

One graph holds the whole model: the encoder needs ``image``, the distributions of each group need the ``z`` of the
groups above, each phase needs the pixels of the phases before. An evaluation is given inputs in any order and asked for
results; it computes what is needed and drops values that nothing will use again::

    evaluation = graph.evaluate()
    evaluation.give("blank", ...);  prior = evaluation.take("prior.0");  evaluation.give("z.0", ...)
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from nvae_codec.errors import ModelFileError, NumericsError
from nvae_codec.integer.fusion import Chain, fuse, replace_steps
from nvae_codec.integer.operation import Operation
from nvae_codec.integer.operations import Convolve, Input


class Graph:
    """Operations, each after its inputs, and the names of the results that are outputs."""

    def __init__(self, operations: Sequence[Operation], outputs: Mapping[str, str]) -> None:
        """``outputs`` maps public names (prior.0, pixels.3, ...) to names of operations.

        Raises ModelFileError if two operations have the same name.
        """
        self.operations = {operation.name: operation for operation in operations}
        if len(self.operations) < len(operations):
            raise ModelFileError("two operations have the same name")
        self.outputs = dict(outputs)
        self.inputs = {name: op for name, op in self.operations.items() if isinstance(op, Input)}
        self._uses: dict[tuple[str, ...], Counter[str]] = {}
        self._views: dict[tuple[str, ...], Graph] = {}

    def replace(self, changed: Mapping[str, Operation]) -> Graph:
        """The graph with other parameters in some operations; how it is evaluated stays the same."""
        graph = Graph([changed.get(name, operation) for name, operation in self.operations.items()], self.outputs)
        graph.__dict__["schedule"] = {
            name: replace_steps(operation, changed) if isinstance(operation, Chain) else changed.get(name, operation)
            for name, operation in self.schedule.items()
        }
        graph._uses = self._uses
        return graph

    def with_outputs(self, outputs: Mapping[str, str]) -> Graph:
        """The same operations with other outputs. The graph is made once: planning its evaluation takes a while."""
        key = tuple(part for item in outputs.items() for part in item)
        if key not in self._views:
            self._views[key] = Graph(list(self.operations.values()), outputs)
        return self._views[key]

    def uses(self, wanted: Sequence[str]) -> Counter[str]:
        """How often each value is used where the ``wanted`` outputs are taken once each."""
        found = self._uses.get(tuple(wanted))
        if found is None:
            stack = [self.outputs[name] for name in wanted]
            found, seen = Counter(stack), set[str]()
            while stack:
                name = stack.pop()
                if name not in seen:
                    seen.add(name)
                    found.update(self.schedule[name].inputs)
                    stack += self.schedule[name].inputs
            self._uses[tuple(wanted)] = found
        return found.copy()

    @property
    def stride(self) -> int:
        """Pixels from one position of the coarsest input to the next: the sides of images are multiples of it."""
        return max(source.stride for source in self.inputs.values())

    @cached_property
    def schedule(self) -> dict[str, Operation]:
        """What is run, by the name of its result: the operations, on the CPU with pointwise ones joined to chains."""
        devices = {value.device.type for op in self.operations.values() for value in op.constants().values()}
        return fuse(self.operations, self.outputs.values()) if devices <= {"cpu"} else self.operations

    def evaluate(self, wanted: Sequence[str] | None = None, *, debug: bool = False) -> Evaluation:
        """Start an evaluation that takes the ``wanted`` outputs (all by default) once each.

        With ``debug``, every accumulator and result is checked to be an integer; NumericsError if one is not.
        """
        return Evaluation(self, list(self.outputs) if wanted is None else list(wanted), debug=debug)

    def to(self, device: torch.device) -> Graph:
        """The same graph with its constants on a device."""
        moved = []
        for operation in self.operations.values():
            constants: dict[str, Any] = {name: value.to(device) for name, value in operation.constants().items()}
            for name, value in constants.items():
                if value.dim() == 4:
                    constants[name] = value.contiguous(memory_format=torch.channels_last)
            moved.append(dataclasses.replace(operation, **constants))
        return Graph(moved, self.outputs)


class Evaluation:
    """Values computed so far, and how many uses of each are still to come."""

    def __init__(self, graph: Graph, wanted: list[str], *, debug: bool) -> None:
        """Count the uses of every value by the wanted outputs."""
        self.graph, self.debug = graph, debug
        self.values: dict[str, Tensor] = {}
        self.uses = graph.uses(wanted)

    def give(self, name: str, value: Tensor) -> None:
        """Set an input, integers within its bound, (B, C, H, W); ignored if no wanted output needs it."""
        if self.uses[name]:
            self.values[name] = value.float().contiguous(memory_format=torch.channels_last)

    def take(self, output: str) -> Tensor:
        """Compute an output. Raises KeyError if an input that it needs was not given yet."""
        wanted = self.graph.outputs[output]
        stack = [wanted]
        while stack:
            name = stack[-1]
            if name in self.values:
                stack.pop()
                continue
            operation = self.graph.schedule[name]
            if isinstance(operation, Input):
                raise KeyError(f"{output} needs {name}, which was not given")
            missing = [source for source in operation.inputs if source not in self.values]
            if missing:
                stack += missing
                continue
            self.values[name] = self._run(operation, [self.values[source] for source in operation.inputs])
            for source in operation.inputs:
                self._use(source)
            stack.pop()
        return self._use(wanted)

    def _run(self, operation: Operation, inputs: Sequence[Tensor]) -> Tensor:
        if not self.debug:
            return operation.run(inputs)
        if isinstance(operation, Chain):
            return operation.run_by(self._run, inputs)
        if isinstance(operation, Convolve):
            # checked before it is requantised: rounding hides the fraction of a sum that is not exact
            total = operation.accumulate(inputs)
            self._check(operation, total)
            return operation.requantize(total)
        result = operation.run(inputs)
        self._check(operation, result)
        return result

    def _check(self, operation: Operation, value: Tensor) -> None:
        if not torch.equal(value, value.round()):
            raise NumericsError(f"{operation.name} is not an integer")

    def _use(self, name: str) -> Tensor:
        value = self.values[name]
        self.uses[name] -= 1
        if not self.uses[name]:
            del self.values[name]
        return value
