"""Directions are learned for a model file that has none."""

from pathlib import Path

from nvae_codec.integer.model_file import pack_model, read_model
from tests.models import exported_model, save_images
from tools.directions import learn


def test_a_model_file_gets_directions(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(pack_model(exported_model(), "name = 'tiny'\n", {"steps": 7}))
    identity = learn(tmp_path / "m.safetensors", [save_images(tmp_path / "images")], tmp_path / "n.safetensors", 32)
    before, after = read_model(tmp_path / "m.safetensors"), read_model(tmp_path / "n.safetensors")
    assert after.identity.hex() == identity != before.identity.hex()
    assert not before.adaptable
    names = [layer.operation for layer in after.adaptable]
    assert sum(name.endswith("_out") for name in names) == len(after.phases)
    assert sum(name.endswith("_body_0") for name in names) == len(names) - len(after.phases) > 0, "depthwise layers"
    learn(tmp_path / "n.safetensors", [tmp_path / "images"], tmp_path / "o.safetensors", 16, keep=True)
    assert read_model(tmp_path / "o.safetensors").identity == after.identity
    assert after.canary == before.canary
