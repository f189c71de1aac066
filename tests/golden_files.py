"""Golden files: what was written once is written again with the same bytes on every machine.

``python -m tools.golden`` writes new ones, after a change of the format or of the golden models.
"""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

from nvae_codec.export.export import export
from nvae_codec.integer.model import IntegerModel
from nvae_codec.integer.model_file import pack_model
from tests.models import exported_model, make_network, make_recipe, random_crops

GOLDEN = Path(__file__).parent / "golden"
REFRESH = bool(os.environ.get("NVAE_CODEC_REFRESH_GOLDEN"))

MODELS: dict[str, Callable[[], IntegerModel]] = {
    "tiny": lambda: exported_model("phases, batch norm, gates"),
    "flows": lambda: (
        export(make_network(make_recipe("phases of two levels", "network.flows = 1")), [random_crops(4, 64)]).model
    ),
    "digits": lambda: exported_model("bernoulli"),
    "five": lambda: exported_model("joint, 5 bits"),
}
"""How the golden models were made, and are made again where the file is missing.

Training and export compute with floats, so another machine may make others.
"""


@cache
def golden_model(name: str) -> Path:
    """The file of a golden model."""
    path = GOLDEN / f"{name}.safetensors"
    if REFRESH and not path.exists():
        path.write_bytes(pack_model(MODELS[name](), "", {}))
    return path


def keep_golden(name: str, data: bytes) -> bytes:
    """The golden file of that name, which may have other bytes: what adapts to an image computes with floats."""
    path = GOLDEN / name
    if REFRESH:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    return path.read_bytes()


def check_golden(name: str, data: bytes) -> bytes:
    """The golden file of that name, which must have these bytes."""
    golden = keep_golden(name, data)
    assert data == golden, f"{name} has other bytes: a change of the format, or of what is computed on this machine"
    return golden
