"""Work on segments as tasks of Ray, on one machine or many. https://docs.ray.io/en/latest/ray-core/fault-tolerance.html"""

from __future__ import annotations

import importlib
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

from nvae_codec import __version__
from nvae_codec.errors import NvaeCodecError
from nvae_codec.parallel.processes import Pool, begin_worker, do_work
from nvae_codec.zoo.library import Models

if TYPE_CHECKING:
    from types import ModuleType

REACH_SECONDS = 10
RETRIES = 4
"""How often a task starts again whose worker died: a segment that kills each of its workers must not do so for ever."""


@dataclass(frozen=True)
class Ray:
    """The workers of a Ray cluster. Images and segments travel through Ray, so they need no folder in common.

    ``address``: where the cluster is, as ``ray.init`` takes it, or ``local`` for one of this machine, with ``count``
    workers, that ends with the work. A task holds ``cpus`` and ``gpus``. If its worker or machine dies, it starts again
    on another.
    """

    address: str
    count: int = 1
    cpus: int = 1
    gpus: int = 0

    @contextmanager
    def start(self, models: Models) -> Iterator[Pool]:
        """As ``Workers`` say; raises NvaeCodecError too where there is no Ray, no cluster, or no room in it."""
        ray = _import_ray()
        here = self.address == "local"
        local = {"num_cpus": self.count * self.cpus, "include_dashboard": False} if here else {}
        try:
            _reach(self.address)
            ray.init(address=self.address, logging_level="error", log_to_driver=False, **local)
        except (OSError, ValueError, RuntimeError) as error:
            raise NvaeCodecError(f"no Ray cluster at {self.address}: {error}") from error
        task = ray.remote(_work).options(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=RETRIES)

        def submit(work: Callable[[Models, Any], Any], item: Any) -> Callable[[], Any]:
            promise = task.remote(__version__, models, Image.MAX_IMAGE_PIXELS, work, item)
            return lambda: _result(ray, promise)

        try:
            if not self._room(ray):  # Ray would wait for such a machine for ever
                task_size = f"CPUs: {self.cpus}, GPUs: {self.gpus}"
                raise NvaeCodecError(f"no machine of the Ray cluster at {self.address} can hold a task ({task_size})")
            # asked each time: clusters grow and shrink
            yield Pool(submit, lambda: 2 * max(1, self._room(ray)))
        finally:
            ray.shutdown()

    def _room(self, ray: ModuleType) -> int:
        """How many tasks the machines that are there can hold at once."""
        room = 0
        for machine in ray.nodes():
            has = machine["Resources"] if machine["Alive"] else {}
            rooms = [has.get(kind, 0) // each for kind, each in (("CPU", self.cpus), ("GPU", self.gpus)) if each]
            room += int(min(rooms))
        return room


def _import_ray() -> ModuleType:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster would report itself to Ray's makers
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise NvaeCodecError("--ray needs Ray: python -m pip install 'nvae-codec[ray]'") from None


def _reach(address: str) -> None:
    """Raise OSError where nothing answers at HOST:PORT; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdecimal():
        socket.create_connection((host, int(port)), REACH_SECONDS).close()


def _result(ray: ModuleType, promise: Any) -> Any:
    try:
        return ray.get(promise)
    except ray.exceptions.RayTaskError as error:  # the work's own error, within a page of traceback
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise NvaeCodecError(f"Ray gave a segment up ({type(error).__name__}); is there memory for it?") from error


def _work(version: str, models: Models, most_pixels: int | None, work: Callable[[Models, Any], Any], item: Any) -> Any:
    """A task. Its process stays for others, and keeps the models that it has loaded."""
    if version != __version__:
        raise NvaeCodecError(f"a worker has nvae-codec {__version__}, not {version}")
    begin_worker(models, most_pixels)
    return do_work(work, item)
