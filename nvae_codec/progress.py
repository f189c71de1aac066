"""How far a coding pass is, for whoever listens: a progress bar, or nobody.

    with listen_to_progress(lambda done, total: print(f"{done} of {total} pixels")):
        data = nvae_codec.compress(pixels)

The codec says how many pixels a pass has (``count_pixels``) and batches say when a phase of some is done (``advance``).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Listener = Callable[[int, int], None]

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)
_pass: ContextVar[list[int] | None] = ContextVar("pass", default=None)
"""Work that is done, pixels of the whole pass, and its work; work is measured in pixels."""


@contextmanager
def listen_to_progress(listener: Listener) -> Iterator[None]:
    """Call ``listener`` with the pixels that are done and all those of a coding pass, as it goes on, in this thread and
    those that work for it."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def count_pixels(total: int, more: int = 0) -> Iterator[None]:
    """A coding pass over so many pixels, and other work that takes as long as so many ``more``.

    Within another pass it is a part of that one.
    """
    token = _pass.set(_pass.get() or [0, max(1, total), total + more])
    try:
        yield
    finally:
        _pass.reset(token)


def advance(pixels: int) -> None:
    """So many pixels of the pass are done, if there is one; a pass may try some of them more than once."""
    listener, counts = _listener.get(), _pass.get()
    if listener is not None and counts is not None:
        counts[0] += pixels
        _, total, work = counts
        listener(min(counts[0] * total // max(work, total), total), total)
