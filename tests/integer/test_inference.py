"""The exact network's own settings: they hold inside, and the user's come back."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from nvae_codec.integer.inference import exact_inference


def _nnpack() -> bool:
    before: tuple[bool] = torch.backends.nnpack.set_flags(False)  # type: ignore[no-untyped-call]
    torch.backends.nnpack.set_flags(*before)  # type: ignore[no-untyped-call]
    return before[0]


@pytest.mark.parametrize("before", [True, False])
def test_settings_hold_inside_and_come_back(before: bool) -> None:
    torch.backends.nnpack.set_flags(before)  # type: ignore[no-untyped-call]
    with torch.autocast("cpu", torch.bfloat16):
        with exact_inference(torch.device("cpu")):
            assert not _nnpack()
            assert not torch.is_autocast_enabled("cpu")
            assert not torch.is_grad_enabled()
        assert torch.is_autocast_enabled("cpu")
    assert _nnpack() is before
    assert torch.is_grad_enabled()


def test_settings_come_back_after_an_error() -> None:
    torch.backends.nnpack.set_flags(True)  # type: ignore[no-untyped-call]
    with pytest.raises(ValueError, match="on purpose"), exact_inference(torch.device("cpu")):
        raise ValueError("on purpose")
    assert _nnpack()


@pytest.mark.parametrize("newer", [False, True])
def test_tf32_is_off_inside_and_comes_back(newer: bool) -> None:
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    try:
        if newer:
            matmul.fp32_precision = "tf32"
        else:
            matmul.allow_tf32 = True
        with exact_inference(torch.device("cpu")):
            assert matmul.fp32_precision == "ieee"
        assert matmul.fp32_precision == "tf32"
    finally:
        matmul.fp32_precision = before


def test_settings_hold_until_the_last_thread_leaves() -> None:
    torch.backends.nnpack.set_flags(True)  # type: ignore[no-untyped-call]
    inside, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with exact_inference(torch.device("cpu")):
            inside.set()
            leave.wait(60)

    with ThreadPoolExecutor(1) as pool:
        with exact_inference(torch.device("cpu")):
            other = pool.submit(stay)
            assert inside.wait(60)
        assert not _nnpack(), "the other thread still computes"
        leave.set()
        other.result(60)
    assert _nnpack()


def test_reduced_precision_of_onednn_is_off_inside() -> None:
    before = torch.get_float32_matmul_precision()
    matmul: Any = torch.backends.mkldnn
    try:
        torch.set_float32_matmul_precision("medium")
        asked = matmul.matmul.fp32_precision
        with exact_inference(torch.device("cpu")):
            assert matmul.matmul.fp32_precision == "ieee"
        assert matmul.matmul.fp32_precision == asked != "ieee"
    finally:
        torch.set_float32_matmul_precision(before)


CHILD = """
import os, sys, torch
{setting}
from tests.models import exported_model
from nvae_codec.integer.canary import check_canary
from nvae_codec.integer.model_file import pack_model, read_model
from pathlib import Path
path = Path(sys.argv[1])
if {make}:
    path.write_bytes(pack_model(exported_model(), "", {{}}))
    sys.exit()
model = read_model(path)
torch.set_num_threads(2)
check_canary(model.graph, model.canary, torch.device("cpu"))
if {fork}:
    child = os.fork()
    if not child:
        check_canary(model.graph, model.canary, torch.device("cpu"))
        os._exit(0 if torch.get_num_threads() == 1 else 9)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def _run(path: Path, **changes: object) -> None:
    script = CHILD.format(**{"setting": "", "make": False, "fork": False} | changes)
    subprocess.run([sys.executable, "-c", script, path], check=True, timeout=120)


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    _run(path, make=True)
    return path


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_computes_on_one_thread(model_path: Path) -> None:
    _run(model_path, fork=True)


def test_a_default_device_changes_nothing(model_path: Path) -> None:
    _run(model_path, setting="torch.set_default_device('meta')")
