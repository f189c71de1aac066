"""The average of the weights, and a run's state on disk."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from nvae_codec.errors import DamagedFileError, NvaeCodecError
from nvae_codec.training import checkpoint
from nvae_codec.training.checkpoint import (
    FILE,
    Average,
    copy_weights,
    load_average,
    part_of,
    read_checkpoint,
    write_tensors,
)
from nvae_codec.training.loop import Options, Trainer
from nvae_codec.training.measure import measure
from tests.models import make_recipe, random_crops


def test_the_average_moves_towards_the_weights() -> None:
    network = nn.Linear(1, 1)
    nn.init.zeros_(network.weight)
    average = Average(network, 0.9)
    nn.init.ones_(network.weight)
    average.update(network, step=10_000)
    assert float(average.state["weight"]) == pytest.approx(0.1)
    average.update(network, step=10_000)
    assert float(average.state["weight"]) == pytest.approx(0.19)
    # early on it moves faster, so that it forgets where it began
    average.update(network, step=10)
    assert float(average.state["weight"]) == pytest.approx(0.19 + 0.81 / 2)
    assert average.state["weight"].data_ptr() != network.weight.data_ptr()


def test_the_average_copies_counts() -> None:
    network = nn.BatchNorm2d(2)
    average = Average(network, 0.99)
    network(torch.randn(4, 2, 3, 3))
    average.update(network, 10_000)
    assert int(average.state["num_batches_tracked"]) == 1
    assert network.running_mean is not None
    torch.testing.assert_close(average.state["running_mean"], network.running_mean * 0.01)


def test_a_checkpoint_holds_recipe_weights_and_average(tmp_path: Path) -> None:
    recipe = make_recipe()
    trainer = Trainer(recipe, tmp_path, Options(), resume=False)
    trainer.average.state["hierarchy.start.value"] += 1
    trainer.save(valid={"bits_per_dim": 3.0})
    saved, tensors, done = read_checkpoint(tmp_path)
    assert saved == recipe
    assert done["step"] == 0
    assert done["valid"] == {"bits_per_dim": 3.0}
    assert set(part_of(tensors, "network.")) == set(trainer.network.state_dict())
    assert not list(tmp_path.glob("*.part"))
    recipe, network, _ = load_average(tmp_path)
    assert not network.training
    assert bool((network.hierarchy.start.value == trainer.network.hierarchy.start.value + 1).all())


def test_weights_of_another_run_are_taken_where_they_fit(tmp_path: Path) -> None:
    first = Trainer(make_recipe(), tmp_path, Options(), resume=False)
    for value in first.average.state.values():
        value.fill_(0.5)
    first.save()
    wider = make_recipe("phases of two levels", "network.width = 20", "training.seed = 3")
    second = Trainer(wider, tmp_path / "second", Options(), resume=False)
    before = {name: value.clone() for name, value in second.network.state_dict().items()}
    assert second.start_from(tmp_path, "likelihood.heads") > 0
    for name, value in second.network.state_dict().items():
        fits = name.startswith("likelihood.heads") and value.shape == first.average.state[name].shape
        assert bool((value == 0.5).all()) if fits else torch.equal(value, before[name])
        assert torch.equal(second.average.state[name], value)
    with pytest.raises(NvaeCodecError, match="no weights that fit below nothing"):
        copy_weights(second.network, tmp_path, "nothing")


def test_damage_is_noticed(tmp_path: Path) -> None:
    Trainer(make_recipe(), tmp_path, Options(), resume=False).save()
    path = tmp_path / FILE
    data = path.read_bytes()
    beginning = 8 + int.from_bytes(data[:8], "little")
    step = data.index(b'step\\": 0') + 8
    for at in (step, *range(beginning, len(data), len(data) // 50), len(data) - 1):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(DamagedFileError, match=r"checkpoint\.safetensors: damaged: its checksum is wrong$"):
            read_checkpoint(tmp_path)
    path.write_bytes(data)
    read_checkpoint(tmp_path)


def test_what_is_no_checkpoint_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(NvaeCodecError, match="give a run of nvae-codec train"):
        read_checkpoint(tmp_path)
    (tmp_path / FILE).write_bytes(b"something else")
    with pytest.raises(NvaeCodecError, match="not a checkpoint") as error:
        read_checkpoint(tmp_path)
    assert "\n" not in str(error.value)
    save_file({"a": torch.zeros(1)}, str(tmp_path / FILE))
    with pytest.raises(NvaeCodecError, match="not a checkpoint of a training run"):
        read_checkpoint(tmp_path)


def test_a_write_that_fails_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tensors(tmp_path / FILE, {"a": torch.zeros(2)}, {})
    before = (tmp_path / FILE).read_bytes()

    def fill_disk(_: object, path: str, __: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", fill_disk)
    with pytest.raises(OSError, match="No space left"):
        write_tensors(tmp_path / FILE, {"a": torch.ones(2)}, {})
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert (tmp_path / FILE).read_bytes() == before


@pytest.mark.parametrize("name", ["natural32", "photo"])
def test_the_checkpoints_of_shipped_models_load(name: str) -> None:
    recipe, network, _ = load_average(name)
    pixels = random_crops(2, 64)
    assert recipe.name == name
    assert measure(network, pixels.numpy())["bits_per_dim"] < 6  # of noise; 8 without a model
