"""The proof that a graph is exact: the bound of every value, from the weights themselves, operation by operation."""

from nvae_codec.errors import ModelFileError
from nvae_codec.integer.canary import canary_size
from nvae_codec.integer.graph import Graph
from nvae_codec.integer.operation import FLOAT32_BOUND, Bounds

MOST_OPERATIONS = 2**13
MOST_VALUES, VALUES_PER_WEIGHT = 2**24, 2**3
"""The canary's largest map has at most so many values, more for a large model: what a file can demand of the loader
is limited in proportion to its size."""
MOST_PRODUCTS, PRODUCTS_PER_WEIGHT = 2**35, 2**14
"""The same for all multiplications of the canary: about 2 s on one core."""


def prove_exact(graph: Graph) -> dict[str, Bounds]:
    """The proved bound of every value, by the name of its operation.

    Raises ModelFileError if a result might not be exact, if operations do not fit together, or if running the canary
    would take more work or memory than a model of this size may ask for.
    """
    _require(len(graph.operations) <= MOST_OPERATIONS, f"{len(graph.operations)} operations")
    _require(bool(graph.inputs), "no inputs")
    bounds: dict[str, Bounds] = {}
    products = 0.0
    for name, operation in graph.operations.items():
        for source in operation.inputs:
            _require(source in bounds, f"{name} needs {source}, which is not before it")
        inputs = [bounds[source] for source in operation.inputs]
        count = len(inputs)
        _require(count == operation.arity or (operation.arity is None and count > 0), f"{name} has {count} inputs")
        bounds[name] = operation.bound(inputs)
        _require(float(bounds[name].largest.max()) < FLOAT32_BOUND, f"{name} may exceed what float32 holds exactly")
        products += operation.products(inputs)
    _require(all(name in bounds for name in graph.outputs.values()), "an output that no operation gives")
    _check_size(graph, bounds, products)
    return bounds


def _check_size(graph: Graph, bounds: dict[str, Bounds], products: float) -> None:
    """Every map divides that of the coarsest input, and the canary's images are not too much work."""
    weights = sum(value.numel() for operation in graph.operations.values() for value in operation.constants().values())
    images, side = canary_size(graph)
    pixels = images * side**2
    for name, (largest, stride) in bounds.items():
        _require(not stride or graph.stride % stride == 0, f"{name}: the size of its map")
        values = len(largest) * pixels / max(stride, 1) ** 2 if stride else len(largest) * images
        _require(values <= MOST_VALUES + VALUES_PER_WEIGHT * weights, f"{name} is too large a map")
    _require(
        pixels * products <= MOST_PRODUCTS + PRODUCTS_PER_WEIGHT * weights, "more work than a model of this size has"
    )


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise ModelFileError(problem)
