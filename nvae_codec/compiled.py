"""Loops over symbols that numba compiles, once there is enough for them to do.

Importing numba takes a quarter of a second and compiling a loop a second or two, which only the first run after an
installation pays: the result is kept in the user's cache folder. (numba's own choice, ``__pycache__`` in the package,
would outlive the package when pip removes it, and Python would take what is left for a package.) A few symbols are
faster interpreted, by the same code.
"""

import logging
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

INTERPRETED = 2000
"""Symbols that a process handles interpreted: at up to 100 microseconds each they take as long as to import numba."""
SHARE = 4096
"""Fewest symbols for a thread: handing over fewer takes longer than coding them."""

_state: dict[str, Any] = {"interpreted": 0, "pool": None, "told": False}
if hasattr(os, "register_at_fork"):  # threads do not survive a fork
    os.register_at_fork(after_in_child=lambda: _state.update(pool=None))


def cache_folder() -> Path:
    """Where compiled loops are kept, unless NUMBA_CACHE_DIR says otherwise."""
    home = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(home) if home else Path.home() / ".cache") / "nvae-codec"


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """numba's decorator, with a cache in :func:`cache_folder`, or none where no folder can be written to."""
    import numba

    def compile_later(function: Callable[..., Any]) -> Any:
        config: Any = numba.config
        chosen = config.CACHE_DIR
        try:
            config.CACHE_DIR = chosen or str(cache_folder())  # read while the decorator runs
            return numba.njit(cache=True, nogil=True, **options)(function)
        except (RuntimeError, OSError):
            return numba.njit(nogil=True, **options)(function)
        finally:
            config.CACHE_DIR = chosen

    return compile_later


class Kernel:
    """A loop ``function(begin, end, *arguments)`` over symbols, which reads and writes arrays.

    It must give the same in Python and compiled: no integer may overflow, and float32 stays float32. Compiled code
    keeps the order of operations and contracts none, so results are the same on every machine.
    """

    def __init__(self, function: Callable[..., None]) -> None:
        self.function = function

    def __call__(self, count: int, *arguments: Any) -> None:
        """Run the loop from 0 to ``count``, in as many threads as torch has now."""
        if "numba" not in sys.modules and _state["interpreted"] + count <= INTERPRETED:
            _state["interpreted"] += count
            self.function(0, count, *arguments)
            return
        import torch  # here already: nobody has raw parameters without it

        shares = max(1, min(torch.get_num_threads(), count // SHARE))
        ends = [count * share // shares for share in range(shares + 1)]
        others = [self._pool.submit(self._compiled, *ends[at : at + 2], *arguments) for at in range(1, shares)]
        self._compiled(0, ends[1], *arguments)
        for other in others:
            other.result()

    @property
    def _pool(self) -> ThreadPoolExecutor:
        if _state["pool"] is None:
            _state["pool"] = ThreadPoolExecutor(thread_name_prefix="nvae-codec")
        pool: ThreadPoolExecutor = _state["pool"]
        return pool

    @cached_property
    def _compiled(self) -> Callable[..., None]:
        compiled = njit(error_model="numpy")(self.function)
        cache = compiled.stats.cache_path
        if cache and not any(Path(cache).parent.glob("*/*.nbi")):  # other commands compile more, in less time
            _tell_compiling()
        function: Callable[..., None] = compiled
        return function


def _tell_compiling() -> None:
    if not _state["told"]:
        _state["told"] = True
        logging.getLogger(__name__).warning(
            "nvae-codec: compiling its loops, once after an installation: a few seconds"
        )
