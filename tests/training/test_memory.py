"""Cells that are computed again give the same gradients and statistics, and less is kept for them."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from nvae_codec.network.nvae import Nvae
from nvae_codec.training.loop import Options, Trainer
from nvae_codec.training.memory import checkpoint_cells, peak_memory
from tests.models import make_recipe, random_crops


class Images:
    def draw(self, count: int, rng: object, rows: slice, history: object) -> object:
        return random_crops(count, 16).numpy()[rows]


@pytest.mark.parametrize("which", ["phases, batch norm, gates", "official, two pairs of flows"])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_run_is_the_same_with_less_kept(which: str, precision: str, tmp_path: Path) -> None:
    found = []
    for checkpointing in (False, True):
        options = Options(precision=precision, checkpointing=checkpointing)
        trainer = Trainer(make_recipe(which), tmp_path, options, resume=False)
        for _ in range(2):
            trainer.take_step(Images())  # type: ignore[arg-type]
        state = trainer.network.state_dict()
        gradients = {f"gradient.{n}": p.grad for n, p in trainer.network.named_parameters() if p.grad is not None}
        found.append(state | gradients)
    assert found[0].keys() == found[1].keys()
    assert any(name.endswith("running_mean") for name in found[0])
    assert [name for name in found[0] if not torch.equal(found[0][name], found[1][name])] == []


def test_less_is_kept_for_the_backward_pass() -> None:
    def count_kept(network: Nvae) -> int:
        kept: list[int] = []

        def note(value: Tensor) -> Tensor:
            kept.append(value.nbytes)
            return value

        with torch.autograd.graph.saved_tensors_hooks(note, lambda value: value):
            network(random_crops(2, 32))
        return sum(kept)

    recipe = make_recipe("official: batch norm, gates, swish")
    plain, sparing = Nvae(recipe), Nvae(recipe)
    checkpoint_cells(sparing)
    assert count_kept(sparing) < 0.7 * count_kept(plain)


def test_the_peak_of_memory_grows() -> None:
    before = peak_memory(torch.device("cpu"))
    block = torch.ones(1 << 26)
    after = peak_memory(torch.device("cpu"))
    assert before is not None
    assert after is not None
    assert before > 1 << 20
    assert after >= block.nbytes
