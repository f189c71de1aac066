"""The exact network as a list of operations, evaluated on demand while a walk gives it what becomes known.

One graph holds the whole model: the encoder needs ``image``, each group's state the ``z`` before it, each phase the
planes of pixels before it. A walk gives inputs in whatever order it learns them and takes results; the graph computes
what is needed and forgets what nothing still to come will need::

    walk = graph.evaluate()
    walk.give("blank", ...);  prior = walk.take("prior.0");  walk.give("z.0", ...);  walk.take("pixels.0")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from nvae_codec.errors import NumericsError
from nvae_codec.integer.operations import Convolve, Input, Operation


class Graph:
    """Operations in an order in which each comes after its inputs, and the names of the results that a walk takes."""

    def __init__(self, operations: Sequence[Operation], outputs: Mapping[str, str]) -> None:
        """``outputs`` maps public names (prior.0, pixels.3, ...) to operations."""
        self.operations = {operation.name: operation for operation in operations}
        self.outputs = dict(outputs)
        self.inputs = {name: op for name, op in self.operations.items() if isinstance(op, Input)}

    def evaluate(self, wanted: Sequence[str] | None = None, *, debug: bool = False) -> Evaluation:
        """Begin a walk that will take the ``wanted`` outputs (all by default), each once.

        With ``debug`` every accumulator and result is checked to be whole; NumericsError where one is not.
        """
        return Evaluation(self, list(self.outputs) if wanted is None else list(wanted), debug=debug)

    def to(self, device: torch.device) -> Graph:
        """The same graph with its constants on a device."""
        moved = []
        for operation in self.operations.values():
            fields = dict(vars(operation))
            for key, value in operation.constants().items():
                on_device = value.to(device)
                is_weight = on_device.dim() == 4
                fields[key] = on_device.contiguous(memory_format=torch.channels_last) if is_weight else on_device
            moved.append(type(operation)(**fields))
        return Graph(moved, self.outputs)


class Evaluation:
    """One walk through a graph: values computed so far, and how many results still need each."""

    def __init__(self, graph: Graph, wanted: list[str], *, debug: bool) -> None:
        """Count the uses of every value by the wanted outputs."""
        self.graph, self.debug = graph, debug
        self.values: dict[str, Tensor] = {}
        self.uses: dict[str, int] = {}
        stack = [graph.outputs[name] for name in wanted]
        for name in stack:
            self.uses[name] = self.uses.get(name, 0) + 1
        seen: set[str] = set()
        while stack:
            name = stack.pop()
            if name in seen:
                continue
            seen.add(name)
            for source in graph.operations[name].inputs:
                self.uses[source] = self.uses.get(source, 0) + 1
                stack.append(source)

    def give(self, name: str, value: Tensor) -> None:
        """Set an input, integers within its bound, (B, C, H, W); ignored where no wanted output needs it."""
        if self.uses.get(name):
            self.values[name] = value.float().contiguous(memory_format=torch.channels_last)

    def take(self, output: str) -> Tensor:
        """Compute an output. Raises KeyError when an input that it needs was not given yet."""
        wanted = self.graph.outputs[output]
        stack = [wanted]
        while stack:
            name = stack[-1]
            if name in self.values:
                stack.pop()
                continue
            operation = self.graph.operations[name]
            if isinstance(operation, Input):
                raise KeyError(f"{output} needs {name}, which was not given")
            missing = [source for source in operation.inputs if source not in self.values]
            if missing:
                stack += missing
                continue
            self.values[name] = self._run(operation)
            stack.pop()
        return self._use(wanted)

    def _run(self, operation: Operation) -> Tensor:
        inputs = [self.values[source] for source in operation.inputs]
        if self.debug and isinstance(operation, Convolve):
            total = operation.accumulate(inputs)
            self._check(operation, total)  # of one that was not exact, the rounding hides the fraction in the result
            result = operation.requantize(total)
        else:
            result = operation.run(inputs)
            if self.debug:
                self._check(operation, result)
        for source in operation.inputs:
            self._use(source)
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
