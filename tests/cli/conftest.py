import importlib
import io
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest


@dataclass
class Result:
    code: int
    out: bytes
    err: str

    @property
    def error_lines(self) -> list[str]:
        """What went wrong, without the summary."""
        return [line for line in self.err.splitlines() if line.startswith(("nvae-codec: ", "Error: "))]


class Stream(io.TextIOWrapper):
    """Standard input or output in memory, on a terminal or not."""

    def __init__(self, data: bytes = b"", *, terminal: bool = False) -> None:
        self.memory = io.BytesIO(data)
        self.terminal = terminal
        super().__init__(self.memory, encoding="utf-8", write_through=True)

    def isatty(self) -> bool:
        return self.terminal


Run = Callable[..., Result]


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file may grow beyond so many bytes: what a full disk is, for those who write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command line in this process: ``run("info", "x.nvae", stdin=b"", terminal=False)``."""
    main = importlib.import_module("nvae_codec.cli.main").main

    def run_main(*arguments: object, stdin: bytes = b"", terminal: bool = False) -> Result:
        out, err = Stream(terminal=terminal), Stream()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", Stream(stdin))
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            code = main([str(argument) for argument in arguments])
        return Result(code, out.memory.getvalue(), err.memory.getvalue().decode())

    return run_main
