"""Long runs that print their figures, on a server whose registry holds the benchmark's models."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.models import SavedModel, save
from benchmarks.open_loop import Target
from tests.integration.server import ServerProcess, closing, wait_for

#: Of the full length: 0.01 is a smoke test of these tests, whose figures say nothing.
SCALE = float(os.environ.get("LAKEPORT_TEST_SOAK_SCALE", "1"))
#: What the registered models are called, and versions of each.
MODELS = {"iris": 2, "forest": 1, "sleep": 1}

Tell = Callable[..., None]


class Bench:
    """A server with the models registered, and what to ask them."""

    def __init__(self, server: ServerProcess, models: Mapping[str, SavedModel]) -> None:
        self.server = server
        self._models = models

    def target(self, endpoint: str, model: str) -> Target:
        host, port = self.server.address
        token = {"Authorization": f"Bearer {self.server.token}"}
        return Target(
            host,
            port,
            f"/serving-endpoints/{endpoint}/invocations",
            self._models[model].body(1).decode(),
            {"Content-Type": "application/json", **token},
        )

    def replicas(self, endpoint: str) -> dict[str, int | None]:
        """The replicas that serve an endpoint's requests now, and their processes as far as they
        have been looked at."""
        live = self.server.call("GET", "lakeport/live")
        (found,) = (each for each in live["endpoints"] if each["name"] == endpoint)
        return {
            f"{entity['name']} {replica['id']}": replica["pid"]
            for entity in found["entities"]
            for replica in entity["replicas"]
        }

    def wait_for_replicas(self, endpoint: str, count: int) -> None:
        def there() -> bool:
            return len(self.replicas(endpoint)) == count

        wait_for(there, what=f"{count} replicas of {endpoint}")

    def memory(self) -> int:
        """Resident bytes of the server and all its processes."""
        taken = 0
        for process in [psutil.Process(self.server.process.pid), *self.server.family()]:
            with contextlib.suppress(psutil.NoSuchProcess):
                taken += process.memory_info().rss
        return taken


def sized(name: str, model: str, concurrency: int, **more: object) -> dict[str, object]:
    """A served entity with a fixed concurrency: one replica for each 4."""
    return {
        "name": name,
        "entity_name": model,
        "entity_version": "1",
        "scale_to_zero_enabled": False,
        "min_provisioned_concurrency": concurrency,
        "max_provisioned_concurrency": concurrency,
        **more,
    }


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("soak")
    server = ServerProcess(
        folder / "home", registry="eager", env_manager="local", scale_to_zero_after=2
    )
    with closing(server):
        server.start()
        models = {name: save(name, _made(folder / "models")) for name in MODELS}
        for name, versions in MODELS.items():
            for _ in range(versions):
                server.register(name, models[name].folder)
        yield Bench(server, models)


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Tell:
    """Prints figures, whatever pytest captures."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def say(what: str, **figures: Any) -> None:
        said = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in figures.items())
        assert capture is not None
        with capture.global_and_fixture_disabled():
            print(f"\n{what}: {said}")

    return say


def met(found: float, limit: float, unit: str, *, least: bool = False) -> str:
    """`12.3 ms (target: at most 20 ms, met)`."""
    word = "met" if (found >= limit if least else found <= limit) else "NOT MET"
    return (
        f"{found:.4g} {unit} (target: at {'least' if least else 'most'} {limit:g} {unit}, {word})"
    )
