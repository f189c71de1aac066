"""The exact network gives the same integers whatever computes them, and however."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from nvae_codec.integer.canary import check_canary
from nvae_codec.integer.model_file import pack_model, read_model
from tests.golden_files import check_golden, golden_model
from tests.integer.hashing import evaluate, hash_model, hash_outputs, make_inputs
from tests.models import RECIPES, exported_model

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _without_nnpack() -> Iterator[None]:
    """As the codec does: NNPACK is not exact. Threads are put back."""
    threads = torch.get_num_threads()
    torch.backends.nnpack.set_flags(False)  # type: ignore[no-untyped-call]
    yield
    torch.set_num_threads(threads)


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
@pytest.mark.parametrize("which", RECIPES)
def test_threads_batches_and_layouts_change_nothing(which: str) -> None:
    graph = exported_model(which).graph
    inputs = make_inputs(graph, 17)
    torch.set_num_threads(1)
    expected = evaluate(graph, inputs, debug=True)
    assert all(value.dtype == torch.float32 and float(value.abs().max()) < 2**24 for value in expected.values())
    with torch.inference_mode():
        check_canary(graph, exported_model(which).canary, torch.device("cpu"))
    whole = hash_outputs(expected)
    torch.set_num_threads(2)
    assert hash_outputs(evaluate(graph, inputs)) == whole
    torch.set_num_threads(1)
    strided = {name: value.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2) for name, value in inputs.items()}
    assert hash_outputs(evaluate(graph, strided)) == whole
    plain = graph.to(torch.device("cpu"))
    assert hash_outputs(evaluate(plain, inputs)) == whole
    with torch.backends.mkldnn.flags(enabled=False):
        assert hash_outputs(evaluate(graph, inputs)) == whole
    for sizes in ([1] * 17, [4, 13], [16, 1]):
        parts = [torch.arange(17)[sum(sizes[:i]) : sum(sizes[: i + 1])] for i in range(len(sizes))]
        results = [evaluate(graph, {name: value[part] for name, value in inputs.items()}) for part in parts]
        joined = {name: torch.cat([result[name] for result in results]) for name in expected}
        assert hash_outputs(joined) == whole


def run_elsewhere(paths: list[Path], **environment: str) -> dict[str, object]:
    """Hashes of models from a process with other settings of its environment."""
    result = subprocess.run(
        [sys.executable, "-m", "tests.integer.hashing", *map(str, paths)],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, object] = json.loads(result.stdout)
    return found


def test_instruction_sets_change_nothing(tmp_path: Path) -> None:
    paths = []
    for index, which in enumerate(RECIPES):
        paths.append(tmp_path / f"{index}.safetensors")
        paths[-1].write_bytes(pack_model(exported_model(which), "", {}))
    found = run_elsewhere(paths, ONEDNN_MAX_CPU_ISA="SSE41", ATEN_CPU_CAPABILITY="default")
    assert found.pop("capability") in ("DEFAULT", "NO AVX", "NO_AVX")
    for path in paths:
        assert found[str(path)] == [hash_model(path, 2), hash_model(path, 17)] * 2


def test_golden_hashes() -> None:
    """Other releases of torch and other processors are compared with the one that made these files."""
    path = golden_model("tiny")
    model = read_model(path)
    found = {"identity": model.identity.hex(), "canary": model.canary, "outputs": hash_model(path)}
    check_golden("hashes.json", (json.dumps(found, indent=1) + "\n").encode())
    with torch.inference_mode():
        check_canary(model.graph, model.canary, torch.device("cpu"))
