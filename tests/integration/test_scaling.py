"""A real server adds replicas under load and takes them away again, to none; nobody notices."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.conftest import Stock
from tests.integration.load import load
from tests.integration.server import ServerProcess, closing, wait_for

#: A model that waits so long, and takes four requests at a time.
NAP = 0.05
BODY = {"dataframe_split": {"columns": ["seconds"], "data": [[NAP]]}}
#: Seconds, where a server by itself takes minutes.
QUIET, IDLE = 2.0, 1.0


@pytest.fixture(scope="module")
def server(stock: Stock, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    home = tmp_path_factory.mktemp("scaling") / "home"
    shutil.copytree(stock.home, home)
    with closing(
        ServerProcess(home, env_manager="local", scale_down_after=QUIET, scale_to_zero_after=IDLE)
    ) as server:
        yield server.start()


def replicas(server: ServerProcess, endpoint: str) -> int:
    """Those that answer."""
    return len(live(server, endpoint)["replicas"])


def live(server: ServerProcess, endpoint: str) -> dict[str, Any]:
    """What is shown of its one served entity."""
    endpoints = server.call("GET", "lakeport/live")["endpoints"]
    (shown,) = [each for each in endpoints if each["name"] == endpoint]
    found: dict[str, Any] = shown["entities"][0]
    return found


def kinds(server: ServerProcess, endpoint: str) -> list[str]:
    return [event["kind"] for event in server.events(endpoint)]


def test_replicas_come_with_the_load_and_go_with_it(server: ServerProcess, stock: Stock) -> None:
    server.create(
        "naps",
        stock.entity(
            "naps",
            "slow",
            workload_size=None,
            min_provisioned_concurrency=4,
            max_provisioned_concurrency=12,
        ),
    )
    with load(server, "naps", BODY, threads=1) as trickle:
        with load(server, "naps", BODY, threads=16) as crowd:
            wait_for(lambda: replicas(server, "naps") == 3, what="three replicas")
            crowd.grows_by(100)
        wait_for(lambda: replicas(server, "naps") == 1, what="one replica")
        trickle.grows_by(20)

    assert not trickle.failed, f"{trickle}: {trickle.failed[:3]}"
    assert not crowd.failed, f"{crowd}: {crowd.failed[:3]}"
    events = kinds(server, "naps")
    assert "scaled_up" in events
    assert "scaled_down" in events
    assert "replica_ended" not in events


def test_to_zero_and_back_loses_nothing(server: ServerProcess, stock: Stock) -> None:
    server.create("sleeper", stock.entity("sleeper", "slow", scale_to_zero_enabled=True))
    woken = 2
    for _ in range(woken):
        wait_for(lambda: replicas(server, "sleeper") == 0, what="no replica")
        shown = server.get("sleeper")
        assert shown["state"]["ready"] == "READY"
        (entity,) = shown["config"]["served_entities"]
        assert entity["state"]["deployment"] == "DEPLOYMENT_READY"
        with load(server, "sleeper", BODY, threads=8, pause=0.05) as tally:
            tally.grows_by(30)
        assert not tally.failed, f"{tally}: {tally.failed[:3]}"

    assert kinds(server, "sleeper").count("woke") == woken
    assert live(server, "sleeper")["cold_starts"] == woken
