"""The proof refuses graphs whose sums might not be exact; the canary and debug runs find what it cannot see."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from nvae_codec.errors import ModelFileError, NumericsError
from nvae_codec.integer import operations as ops
from nvae_codec.integer.bounds import prove_exact
from nvae_codec.integer.canary import check_canary, make_canary
from nvae_codec.integer.graph import Graph
from nvae_codec.integer.operation import Operation
from tests.integer.hashing import evaluate, make_inputs
from tests.models import exported_model

GATED = "official: batch norm, gates, swish"


def tamper(graph: Graph, name: str, **changes: Any) -> Graph:
    """The graph with fields of one operation changed."""
    operations = [
        dataclasses.replace(operation, **changes) if operation.name == name else operation
        for operation in graph.operations.values()
    ]
    return Graph(operations, graph.outputs)


def first(graph: Graph, kind: type[Operation], condition: Callable[[Any], bool] = lambda op: True) -> Any:
    return next(op for op in graph.operations.values() if isinstance(op, kind) and condition(op))


def single(op: ops.Convolve) -> bool:
    return not op.digits


REFUSED: Mapping[str, tuple[type[Operation], Callable[[Any], bool], Callable[[Any], dict[str, Any]], str]] = {
    "weights beyond the bound": (
        ops.Convolve, single, lambda op: {"weight": op.weight * 2**14}, "a sum may reach"),
    "a bias beyond the bound": (
        ops.Convolve, single, lambda op: {"bias": op.bias + 2**24}, "a sum may reach"),
    "digits left out": (ops.Convolve, lambda op: op.digits, lambda op: {"digits": ()}, "a sum may reach"),
    "digits too large": (ops.Convolve, lambda op: op.digits, lambda op: {"digits": (22,)}, "a sum may reach"),
    "no such digits": (ops.Convolve, lambda op: op.digits, lambda op: {"digits": (0,)}, "digits"),
    "weights that are not whole": (
        ops.Convolve, single, lambda op: {"weight": op.weight - 0.25 * op.weight.sign()}, "weight is not an integer"),
    "a bias that is not whole": (ops.Convolve, single, lambda op: {"bias": op.bias + 0.5}, "bias is not an integer"),
    "a multiplier that is not a number": (
        ops.Convolve, single, lambda op: {"multiplier": op.multiplier * torch.nan}, "a multiplier is not a number"),
    "a wider result": (ops.Convolve, single, lambda op: {"high": 2**24}, "may"),
    "a table too short": (ops.LookUp, lambda op: True, lambda op: {"table": op.table[1:-1]}, "outside the table"),
    "a table that lacks one end": (ops.LookUp, lambda op: True, lambda op: {"table": op.table[:-1]}, "outside"),
    "a wider input": (ops.Input, lambda op: op.name == "image", lambda op: {"largest": 2**20}, "may"),
    "a negative limit": (ops.Add, lambda op: True, lambda op: {"limit": -1}, "limit"),
    "a wider gate": (ops.LookUp, lambda op: "gate" in op.name, lambda op: {"table": op.table * 4096}, "product"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_a_tampered_graph_is_refused(what: str) -> None:
    kind, condition, change, said = REFUSED[what]
    graph = exported_model(GATED).graph
    operation = first(graph, kind, condition)
    with pytest.raises(ModelFileError, match=said) as error:
        prove_exact(tamper(graph, operation.name, **change(operation)))
    assert "\n" not in str(error.value)


def test_the_canary_detects_a_changed_weight() -> None:
    model = exported_model()
    names = [op.name for op in model.graph.operations.values() if isinstance(op, ops.Convolve)]
    for name in names[:: len(names) // 6]:
        operation = model.graph.operations[name]
        assert isinstance(operation, ops.Convolve)
        weight = operation.weight.clone()
        weight[0] *= -1
        changed = tamper(model.graph, name, weight=weight, bias=operation.bias + 1000)
        assert make_canary(changed) != model.canary, name
        with pytest.raises(NumericsError, match="does not compute the model's integers"):
            check_canary(changed, model.canary, torch.device("cpu"))


def test_debug_runs_find_sums_that_are_not_integers() -> None:
    graph = exported_model().graph
    convolution = first(graph, ops.Convolve)
    changed = tamper(graph, convolution.name, bias=convolution.bias + 0.125)
    inputs = make_inputs(graph, 2)
    evaluate(changed, inputs)
    with pytest.raises(NumericsError, match=f"{convolution.name} is not an integer"):
        evaluate(changed, inputs, debug=True)


def reference(x: Tensor, op: ops.Convolve) -> Tensor:
    """The accumulators in 64-bit integers."""
    padded = torch.nn.functional.pad(x.to(torch.int64), [op.padding] * 4)
    k, outputs, per_group = op.weight.shape[2], len(op.weight), op.weight.shape[1]
    h, w = ((n - k) // op.stride + 1 for n in padded.shape[2:])
    windows = padded.unfold(2, k, op.stride).unfold(3, k, op.stride)[:, :, :h, :w]  # (B, C, h, w, k, k)
    out = torch.empty(len(x), outputs, h, w, dtype=torch.int64)
    for channel in range(outputs):
        begin = channel // (outputs // op.groups) * per_group
        weight = op.weight[channel].to(torch.int64)[None, :, None, None]
        out[:, channel] = (windows[:, begin : begin + per_group] * weight).sum((1, 4, 5)) + int(op.bias[channel])
    return out


@pytest.mark.parametrize("which", ["phases of two levels", GATED])
def test_accumulators_are_those_of_integers_even_at_the_bounds(which: str) -> None:
    graph = exported_model(which).graph
    kinds, bounds = set(), prove_exact(graph)
    for op in graph.operations.values():
        if not isinstance(op, ops.Convolve):
            continue
        torch.manual_seed(0)
        largest = bounds[op.inputs[0]].largest.float().view(-1, 1, 1)
        x = (largest * (2 * torch.rand(2, len(largest), 6, 6) - 1)).round()
        # at the middle, full size with the signs of one output's weights: the largest sum that it can have
        x[1] = largest * torch.where(torch.rand_like(x[1]) < 0.5, 1, -1)
        signs = op.weight[:1].sign().expand(op.groups, -1, -1, -1).flatten(0, 1)
        x[1, :, : signs.shape[1], : signs.shape[2]] = largest * signs
        accumulated = op.accumulate([x])
        assert accumulated.dtype == (torch.float64 if op.digits else torch.float32)
        assert torch.equal(accumulated.to(torch.int64), reference(x, op)), op.name
        kinds.add((bool(op.digits), op.groups > 1, op.stride, op.weight.shape[2]))
    assert len(kinds) >= 4


def test_digits_are_exact_beyond_float32() -> None:
    """A sum of 2^30 and 1, which float32 would round away."""
    weight = torch.tensor([2.0**20, 1.0]).view(1, 2, 1, 1)
    op = ops.Convolve("wide", ("x",), weight, torch.zeros(1), torch.ones(1), low=-(2**23), high=2**23, digits=(12,))
    x = torch.tensor([1023.0, 1.0]).view(1, 2, 1, 1)
    assert int(op.accumulate([x])) == 1023 * 2**20 + 1
    graph = Graph([ops.Input("x", (), 2, 1023, 1), op], {"out": "wide"})
    prove_exact(graph)
    with pytest.raises(ModelFileError, match="a sum may reach"):
        prove_exact(tamper(graph, "wide", digits=()))


def test_the_average_over_space_rounds_half_up_in_sixteenths() -> None:
    op = ops.Average("mean", ("x",))
    x = torch.tensor([[1.0, 2.0], [2.0, 2.0]]).view(1, 1, 2, 2)
    assert int(op.run([x])) == 28
    assert int(op.run([-x])) == -28
    thirds = torch.tensor([0.0, 0.0, 1.0]).view(1, 1, 1, 3)
    assert int(op.run([thirds])) == 5
    assert int(op.run([-thirds])) == -5
    torch.manual_seed(0)
    wide = torch.randint(-4095, 4096, (2, 3, 37, 41)).float()
    expected = torch.floor(wide.double().sum((2, 3)) * 16 / (37 * 41) + 0.5)
    assert torch.equal(op.run([wide])[:, :, 0, 0].double(), expected)


def test_a_missing_input_is_named() -> None:
    graph = exported_model().graph
    evaluation = graph.evaluate()
    evaluation.give("blank", make_inputs(graph, 1)["blank"])
    with pytest.raises(KeyError, match=r"prior\.1 needs z\.0"):
        evaluation.take("prior.1")
