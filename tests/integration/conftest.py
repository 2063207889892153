"""A home with models in its registry, made once, and servers on copies of it."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.language import EMBEDDINGS, MODELS, SCRIPTED, TINY, language_server
from tests.integration.server import ServerProcess, closing, entity
from tests.models.fixtures import PutWeights, SavedModel

#: Everything in it: small models that need nothing but MLflow to load, and those that misbehave.
STOCK = ("params", "frame", "slow", "hostile", "load_raises", "load_hangs", "load_eats", "iris")
MODEL = "stock"


@dataclass(frozen=True, slots=True)
class Stock:
    """A home that no server runs on, whose registry holds the models of STOCK as versions of one
    registered model."""

    home: Path
    versions: dict[str, str]

    def entity(self, name: str, model: str, **more: object) -> dict[str, object]:
        """A served entity `name` of one of the models."""
        return entity(name, MODEL, self.versions[model], **more)


#: Makes a server on a new copy of the stocked home; it is not started, and gone at the test's end.
MakeServer = Callable[..., ServerProcess]


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory, saved_model: SavedModel) -> Stock:
    home = tmp_path_factory.mktemp("stock") / "home"
    with closing(ServerProcess(home, registry="eager")) as server:
        server.start()
        versions = {name: server.register(MODEL, saved_model(name)) for name in STOCK}
        assert server.terminate() == 0
    return Stock(home, versions)


@pytest.fixture
def make_server(stock: Stock, tmp_path: Path) -> Iterator[MakeServer]:
    with ExitStack() as stack:

        def make(**settings: object) -> ServerProcess:
            home = tmp_path / "home"
            shutil.copytree(stock.home, home)
            # The models need no environment of their own, and must not be built one.
            server = ServerProcess(home, **{"env_manager": "local", **settings})  # type: ignore[arg-type]
            stack.enter_context(closing(server))
            return server

        yield make


@pytest.fixture(scope="session")
def shared(stock: Stock, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with short limits, for tests that leave it running and use endpoints of their own.

    A request may take 5 seconds, a replica 30 to start and a GiB of memory; a request waits 2
    seconds for an endpoint that is not ready.
    """
    home = tmp_path_factory.mktemp("shared") / "home"
    shutil.copytree(stock.home, home)
    server = ServerProcess(
        home,
        registry="eager",
        env_manager="local",
        request_timeout=5,
        start_timeout=30,
        ready_wait=2,
        replica_memory=1 << 30,
    )
    with closing(server):
        yield server.start()


@pytest.fixture(scope="session")
def chats(
    tmp_path_factory: pytest.TempPathFactory, put_weights: PutWeights
) -> Iterator[ServerProcess]:
    """A server with the endpoints of `language.py`, ready."""
    home = tmp_path_factory.mktemp("chats") / "home"
    for model in MODELS:
        put_weights(home, model)
    with closing(language_server(home)) as server:
        server.start()
        for name in (TINY, EMBEDDINGS, SCRIPTED):
            server.updated(name)
        yield server
