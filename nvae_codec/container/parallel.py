"""Work on segments, one after another or in processes of their own; results come in order either way."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from PIL import Image

from nvae_codec.errors import NvaeCodecError
from nvae_codec.images.limits import limit_pixels
from nvae_codec.model_library import Models

Item = TypeVar("Item")
Result = TypeVar("Result")

_kept: list[Models] = []
"""In a worker process: the models of its work."""


def map_in_order(
    work: Callable[[Models, Item], Result], items: Iterable[Item], models: Models, workers: int
) -> Iterator[Result]:
    """``work(models, item)`` of each item, in their order; with several workers each loads the models itself.

    At most twice as many items as workers are under way. Raises what the work raises, and NvaeCodecError where a
    worker ends without a result.
    """
    if workers == 1:
        yield from (work(models, item) for item in items)
        return
    # spawned, not forked: torch's threads do not survive a fork
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_begin_worker, initargs=(models, Image.MAX_IMAGE_PIXELS))
    under_way: deque[Future[Result]] = deque()
    try:
        for item in items:
            under_way.append(pool.submit(_work, work, item))
            if len(under_way) >= 2 * workers:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    except BrokenProcessPool as error:
        raise NvaeCodecError("a worker process ended before its time; is there memory for so many?") from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin_worker(models: Models, most_pixels: int | None) -> None:
    _kept.append(models)
    limit_pixels(most_pixels)


def _work(work: Callable[[Models, Item], Result], item: Item) -> Result:
    return work(_kept[0], item)
