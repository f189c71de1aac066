"""Tasks of Ray, on a stand-in for it; tests/cli/test_ray.py has the real one."""

import sys
import types
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from nvae_codec.errors import DamagedFileError, NvaeCodecError
from nvae_codec.parallel import processes as parallel
from nvae_codec.parallel import ray as cluster
from nvae_codec.parallel.processes import map_in_order
from nvae_codec.parallel.ray import Ray
from nvae_codec.zoo.library import Models
from tests.fakes import FakeCodec


class RayError(Exception):
    """What Ray itself says."""


class RayTaskError(RayError):
    """What a task raised."""

    def __init__(self, cause: Exception) -> None:
        super().__init__("a page of traceback")
        self.cause = cause


class FakeRay(types.ModuleType):
    """A cluster in this process, that notes what it was asked for."""

    def __init__(self, *machines: dict[str, float]) -> None:
        super().__init__("ray")
        self.exceptions = types.SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)
        self.machines = machines
        self.asked: dict[str, Any] = {}
        self.running = False

    def init(self, **asked: Any) -> None:
        self.asked |= asked
        self.running = True

    def shutdown(self) -> None:
        self.running = False

    def nodes(self) -> list[dict[str, Any]]:
        dead = {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}}
        return [dead, *({"Alive": True, "Resources": machine} for machine in self.machines)]

    def remote(self, work: Callable[..., Any]) -> Any:
        def options(**asked: Any) -> Any:
            self.asked |= asked
            return types.SimpleNamespace(remote=partial(partial, work))

        return types.SimpleNamespace(options=options)

    def get(self, promise: Callable[[], Any]) -> Any:
        try:
            return promise()
        except RayError:
            raise
        except Exception as error:
            raise RayTaskError(error) from error


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeRay]:
    def start_fake(*machines: dict[str, float]) -> FakeRay:
        fake = FakeRay(*machines)
        monkeypatch.setitem(sys.modules, "ray", fake)
        monkeypatch.setattr(parallel, "_kept", [])
        return fake

    return start_fake


MODELS = Models(FakeCodec("photo"))


def square(models: Models, item: int) -> int:
    assert models.identity() == MODELS.identity()
    return item * item


def test_results_come_in_order(start: Callable[..., FakeRay]) -> None:
    fake = start({"CPU": 4.0})
    items = iter(range(50))
    results = map_in_order(square, items, MODELS, Ray("local", 3, cpus=2))
    assert next(results) == 0
    assert next(items) == 4, "twice the two tasks that there is room for were taken"
    assert fake.running
    assert list(results) == [item * item for item in range(1, 50) if item != 4]
    assert not fake.running
    assert (fake.asked["num_cpus"], fake.asked["num_gpus"], fake.asked["max_retries"]) == (2, 0, cluster.RETRIES)


def test_a_local_cluster_has_room_for_its_workers(
    start: Callable[..., FakeRay], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = start({"CPU": 6.0})
    monkeypatch.setattr(fake, "remote", None)
    with pytest.raises(TypeError):
        list(map_in_order(square, [1], MODELS, Ray("local", 3, cpus=2)))
    assert fake.asked["num_cpus"] == 6


@pytest.mark.parametrize(
    ("machines", "cpus", "gpus", "enough"),
    [
        ([{"CPU": 2.0}, {"CPU": 2.0}], 2, 0, True),
        ([{"CPU": 2.0}, {"CPU": 2.0}], 3, 0, False),
        ([{"CPU": 2.0}, {"GPU": 1.0}], 1, 1, False),
        ([{"CPU": 2.0, "GPU": 1.0}], 1, 1, True),
        ([], 1, 0, False),
    ],
)
def test_a_cluster_without_room_is_refused(
    start: Callable[..., FakeRay], machines: list[dict[str, float]], cpus: int, gpus: int, enough: bool
) -> None:
    fake, workers = start(*machines), Ray("auto", cpus=cpus, gpus=gpus)
    if enough:
        assert list(map_in_order(square, [3], MODELS, workers)) == [9]
        return
    with pytest.raises(NvaeCodecError, match=rf"no machine .* can hold a task \(CPUs: {cpus}, GPUs: {gpus}\)"):
        list(map_in_order(square, [3], MODELS, workers))
    assert not fake.running


def fail(error: Exception, models: Models, item: int) -> int:
    raise error


def test_errors_are_those_of_the_work(start: Callable[..., FakeRay]) -> None:
    fake = start({"CPU": 1.0})
    with pytest.raises(DamagedFileError, match="torn"):
        list(map_in_order(partial(fail, DamagedFileError("torn")), [1], MODELS, Ray("auto")))
    with pytest.raises(NvaeCodecError, match=r"Ray gave a segment up \(RayError\)"):
        list(map_in_order(partial(fail, RayError("died\nand died")), [1], MODELS, Ray("auto")))
    assert not fake.running


def test_a_worker_of_another_release_is_refused(start: Callable[..., FakeRay], monkeypatch: pytest.MonkeyPatch) -> None:
    start({"CPU": 1.0})
    results = map_in_order(square, [1, 2, 3, 4], MODELS, Ray("auto"))
    assert next(results) == 1
    monkeypatch.setattr(cluster, "__version__", "0.0")
    with pytest.raises(NvaeCodecError, match=r"a worker has nvae-codec 0\.0, not "):
        next(results)


def test_a_missing_cluster_is_reported_immediately(
    start: Callable[..., FakeRay], monkeypatch: pytest.MonkeyPatch
) -> None:
    start({"CPU": 1.0})
    with pytest.raises(NvaeCodecError, match=r"no Ray cluster at 127\.0\.0\.1:1: "):
        list(map_in_order(square, [1], MODELS, Ray("127.0.0.1:1")))
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(NvaeCodecError, match="--ray needs Ray: python -m pip install"):
        list(map_in_order(square, [1], MODELS, Ray("local")))
