"""Shell completion: the script that docs/python.md tells to source, and what it completes."""

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from tests.cli.conftest import Run


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_has_a_script(run: Run, monkeypatch: pytest.MonkeyPatch, shell: str) -> None:
    monkeypatch.setenv("_NVAE_CODEC_COMPLETE", f"{shell}_source")
    monkeypatch.setattr(sys, "exit", lambda code: code)  # click leaves so, and this stays
    lines = run("models").out.decode().splitlines()
    assert f"_NVAE_CODEC_COMPLETE={shell}_complete" in "\n".join(lines)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("nvae-codec dec", ["plain,decompress"]),
        ("nvae-codec compress --meth", ["plain,--method"]),
        ("nvae-codec compress --method st", ["plain,stored"]),
        ("nvae-codec compress pho", ["file,pho"]),
        ("nvae-codec compress a.png -o pho", ["file,pho"]),
        ("nvae-codec decompress pho", ["file,pho"]),
        ("nvae-codec test pho", ["file,pho"]),
        ("nvae-codec info pho", ["file,pho"]),
        ("nvae-codec pack pho", ["file,pho"]),
        ("nvae-codec compress --model pho", ["file,pho", "plain,photo"]),
        ("nvae-codec unpack --model m", ["file,m", "plain,mnist"]),
    ],
)
@pytest.mark.usefixtures("fake_models")
def test_commands_options_models_and_files(words: str, expected: list[str]) -> None:
    *before, incomplete = words.split(" ")
    group = importlib.import_module("nvae_codec.cli.main").nvae_codec
    completer = ShellComplete(group, {}, "nvae-codec", "_NVAE_CODEC_COMPLETE")
    assert [f"{item.type},{item.value}" for item in completer.get_completions(before[1:], incomplete)] == expected


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash, whose completion is tested, is not installed")
def test_bash_completes(tmp_path: Path) -> None:
    command = tmp_path / "nvae-codec"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m nvae_codec "$@"\n')
    command.chmod(0o755)
    lines = """
        eval "$(_NVAE_CODEC_COMPLETE=bash_source nvae-codec)"
        COMP_WORDS=(nvae-codec mod) COMP_CWORD=1
        _nvae_codec_completion nvae-codec
        echo "${COMPREPLY[@]}"
    """
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", lines], env=os.environ | {"PATH": path}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "models\n"
