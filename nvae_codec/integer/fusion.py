"""Chains of pointwise operations, run block by block of positions, so that what lies between them stays in the cache.

A 1x1 convolution of few channels takes less time to compute than to write to memory and read again, and a large new
tensor costs page faults as well. Blocks change no result: each position depends on itself alone.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nvae_codec.integer.operation import Operation
from nvae_codec.integer.operations import Convolve

Run = Callable[[Operation, Sequence[Tensor]], Tensor]

BLOCK_VALUES = 2**17
"""float32 values of the widest result in a block of one thread: half a megabyte, about half of an L2 cache."""


@dataclass(frozen=True)
class Chain(Operation):
    """Pointwise operations in order, of which only the last result is used outside; the name is the last one's."""

    steps: tuple[Operation, ...] = field(repr=False)

    def run(self, inputs: Sequence[Tensor]) -> Tensor:
        """Run all steps."""
        return self.run_by(lambda operation, values: operation.run(values), inputs)

    def run_by(self, run: Run, inputs: Sequence[Tensor]) -> Tensor:
        """The same with ``run`` for each step and block."""
        batch, _, height, width = inputs[0].shape
        positions = batch * height * width
        size = max(64, BLOCK_VALUES // self.width // 16 * 16) * torch.get_num_threads()
        if positions <= size:
            return self._run_block(run, inputs)
        rows = [value.permute(0, 2, 3, 1).reshape(positions, -1) for value in inputs]
        out = torch.empty(0)
        for start in range(0, positions, size):
            # as maps of sixteen rows if possible: oneDNN is slower on a single row
            count = min(size, positions - start)
            high = 16 if count % 16 == 0 else 1
            block = [row[start : start + count].view(1, high, count // high, -1).permute(0, 3, 1, 2) for row in rows]
            result = self._run_block(run, block).permute(0, 2, 3, 1).reshape(count, -1)
            out = out if start else result.new_empty(positions, result.shape[1])
            out[start : start + count] = result
        return out.view(batch, height, width, -1).permute(0, 3, 1, 2)

    def _run_block(self, run: Run, inputs: Sequence[Tensor]) -> Tensor:
        values = dict(zip(self.inputs, inputs, strict=True))
        for step in self.steps:
            values[step.name] = run(step, [values[source] for source in step.inputs])
        return values[self.name]

    @property
    def width(self) -> int:
        """Channels of the widest result, about: outputs of convolutions, digits counted."""
        return max([1, *(step.parts[1].numel() for step in self.steps if isinstance(step, Convolve))])


def fuse(operations: Mapping[str, Operation], outputs: Iterable[str]) -> dict[str, Operation]:
    """The operations, with those that only one pointwise operation depends on moved into a chain with it."""
    users: dict[str, list[str]] = {name: [] for name in operations}
    for operation in operations.values():
        for source in operation.inputs:
            users[source].append(operation.name)
    kept = set(outputs)
    chain_of: dict[str, str] = {}
    for name, operation in reversed(list(operations.items())):
        if operation.pointwise:
            chains = {chain_of.get(user, "") for user in users[name]}
            inside = len(chains) == 1 and "" not in chains and name not in kept
            chain_of[name] = chains.pop() if inside else name
    members: dict[str, list[str]] = {}
    for name in operations:
        if name in chain_of:
            members.setdefault(chain_of[name], []).append(name)
    schedule: dict[str, Operation] = {}
    for name, operation in operations.items():
        if name not in chain_of:
            schedule[name] = operation
        elif chain_of[name] == name:
            steps = tuple(operations[each] for each in members[name])
            own = {step.name for step in steps}
            inputs = dict.fromkeys(source for step in steps for source in step.inputs if source not in own)
            schedule[name] = Chain(name, tuple(inputs), steps)
    return schedule


def replace_steps(chain: Chain, changed: Mapping[str, Operation]) -> Chain:
    """The chain with other parameters in some of its steps."""
    if not any(step.name in changed for step in chain.steps):
        return chain
    return Chain(chain.name, chain.inputs, tuple(changed.get(step.name, step) for step in chain.steps))
