"""Work on segments: in this process, in others, or wherever ``Workers`` are; results come in order each way."""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from PIL import Image

from nvae_codec.errors import NvaeCodecError
from nvae_codec.images.limits import limit_pixels
from nvae_codec.zoo.library import Models

Item = TypeVar("Item")
Result = TypeVar("Result")

_kept: list[Models] = []
"""In a worker process: the models of its work."""


@dataclass(frozen=True)
class Pool:
    """Workers that have started.

    ``submit(work, item)`` gives what waits for the result of ``work(models, item)``; ``most()`` items are to be under
    way at once.
    """

    submit: Callable[[Callable[[Models, Any], Any], Any], Callable[[], Any]]
    most: Callable[[], int]


class Workers(Protocol):
    """Who does the work. They must be able to import what it is made of."""

    def start(self, models: Models) -> AbstractContextManager[Pool]:
        """Workers that load these models themselves, until the end of the context.

        Raises NvaeCodecError where a worker ends without a result.
        """
        ...


@dataclass(frozen=True)
class Processes:
    """So many processes of this machine; one is this process itself."""

    count: int

    @contextmanager
    def start(self, models: Models) -> Iterator[Pool]:
        """As ``Workers`` say."""
        if self.count == 1:
            yield Pool(lambda work, item: partial(work, models, item), lambda: 1)
            return
        # spawned, not forked: torch's threads do not survive a fork
        context = multiprocessing.get_context("spawn")
        initargs = (models, Image.MAX_IMAGE_PIXELS)
        pool = ProcessPoolExecutor(self.count, context, initializer=begin_worker, initargs=initargs)
        try:
            yield Pool(lambda work, item: pool.submit(do_work, work, item).result, lambda: 2 * self.count)
        except BrokenProcessPool as error:
            raise NvaeCodecError("a worker process ended before its time; is there memory for so many?") from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


HERE = Processes(1)


def map_in_order(
    work: Callable[[Models, Item], Result], items: Iterable[Item], models: Models, workers: Workers
) -> Iterator[Result]:
    """``work(models, item)`` of each item, in their order.

    Of the items only as many are taken ahead as the workers want under way. Raises what the work and the workers raise.
    """
    with workers.start(models) as pool:
        under_way: deque[Callable[[], Result]] = deque()
        for item in items:
            under_way.append(pool.submit(work, item))
            if len(under_way) >= pool.most():
                yield under_way.popleft()()
        while under_way:
            yield under_way.popleft()()


def begin_worker(models: Models, most_pixels: int | None) -> None:
    """In a worker process, before its work: what all of that is done with. Only the first call does anything."""
    if not _kept:
        _kept.append(models)
        limit_pixels(most_pixels)
        threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    """End this process with the one that started it, however that ends: a pool's workers wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def do_work(work: Callable[[Models, Item], Result], item: Item) -> Result:
    """In a worker process that has begun."""
    return work(_kept[0], item)
