"""Models that misbehave while they serve: each hurts its own replica, which comes back."""

from collections.abc import Iterator
from typing import NamedTuple

import httpx
import pytest

from tests.integration.conftest import Stock
from tests.integration.load import load
from tests.integration.server import ServerProcess, wait_for

NEIGHBOUR = {"inputs": [{"x": 1.0}]}


class Deed(NamedTuple):
    #: What the model is told to do.
    name: str
    #: What its caller gets.
    status: int
    #: What the endpoint's events say of it.
    event: str


FATAL = [
    Deed("os._exit", 500, "A replica ended: exited with code 3."),
    Deed("segfault", 500, "A replica ended: killed by SIGSEGV."),
    Deed("hang", 504, "A request ran into its time limit; the replica is replaced."),
    Deed("eat", 500, "A replica ended: out of memory: exited with code 70."),
]


def told(deed: str) -> dict[str, object]:
    return {"inputs": [{"do": deed}]}


def name_of(deed: str) -> str:
    return deed.replace(".", "-").strip("_")


@pytest.fixture(scope="module")
def hostile(shared: ServerProcess, stock: Stock) -> Iterator[str]:
    """An endpoint with a served entity for each deed, so that no test sees another's replica."""
    deeds = [*(deed.name for deed in FATAL), "raise", "sys.exit"]
    shared.create("hostile", *(stock.entity(name_of(deed), "hostile") for deed in deeds))
    yield "hostile"
    shared.call("DELETE", "serving-endpoints/hostile")


@pytest.fixture(scope="module")
def neighbour(shared: ServerProcess, stock: Stock) -> Iterator[str]:
    shared.create("neighbour", stock.entity("good", "params"))
    yield "neighbour"
    shared.call("DELETE", "serving-endpoints/neighbour")


def pid(server: ServerProcess, endpoint: str, entity: str) -> int | None:
    """Of the replica that answers; None when none does."""
    answer = server.ask(endpoint, told("pid"), entity=entity)
    if answer.status_code != 200:
        return None
    found: int = answer.json()["predictions"][0]
    return found


@pytest.mark.parametrize("deed", FATAL, ids=lambda deed: deed.name)
def test_a_model_ends_its_own_replica_only_and_it_comes_back(
    shared: ServerProcess, hostile: str, neighbour: str, deed: Deed
) -> None:
    entity = name_of(deed.name)
    before = pid(shared, hostile, entity)
    sibling = pid(shared, hostile, name_of("raise"))

    def replaced() -> int | None:
        """The old one may answer once more while it dies."""
        now = pid(shared, hostile, entity)
        return None if now == before else now

    with load(shared, neighbour, NEIGHBOUR, threads=2, pause=0.01) as tally:
        answer = shared.ask(hostile, told(deed.name), entity=entity)
        after = wait_for(replaced, what="a new replica")
        tally.grows_by(20)

    assert answer.status_code == deed.status, answer.text
    assert answer.headers["served-model-name"] == entity
    assert after
    assert pid(shared, hostile, name_of("raise")) == sibling
    assert not tally.failed, tally
    events = [e["message"] for e in shared.events(hostile) if e.get("entity") == entity]
    assert deed.event in events


@pytest.mark.parametrize("deed", ["raise", "sys.exit"])
def test_a_model_that_raises_keeps_its_replica(
    shared: ServerProcess, hostile: str, deed: str
) -> None:
    entity = name_of(deed)
    before = pid(shared, hostile, entity)

    answer = shared.ask(hostile, told(deed), entity=entity)

    assert 400 <= answer.status_code < 600
    assert answer.json()["error_code"]
    assert "/" not in answer.json()["message"].replace("https://", "")
    assert pid(shared, hostile, entity) == before


def test_an_endpoint_says_why_it_does_not_answer(shared: ServerProcess, stock: Stock) -> None:
    """Crashes one after the other are waited out longer and longer, and the state tells of it."""
    shared.create("crashing", stock.entity("crash", "hostile"))

    def crash_again() -> str | None:
        shared.ask("crashing", told("segfault"))
        [crash] = shared.get("crashing")["config"]["served_entities"]
        if crash["state"]["deployment"] != "DEPLOYMENT_RECOVERING":
            return None
        message: str = crash["state"]["deployment_state_message"]
        return message

    def unanswered() -> httpx.Response | None:
        answer = shared.ask("crashing", told("segfault"))
        return answer if answer.status_code == 503 else None

    message = wait_for(crash_again, what="a deployment that recovers")
    refused = wait_for(unanswered, what="a request that found no replica in time")

    assert message == "A replica ended: killed by SIGSEGV."
    assert shared.get("crashing")["state"]["ready"] == "NOT_READY"
    assert refused.json()["error_code"] == "TEMPORARILY_UNAVAILABLE"
    assert refused.headers["retry-after"]
    wait_for(lambda: pid(shared, "crashing", "crash"), what="a replica again")
    assert shared.get("crashing")["state"]["ready"] == "READY"
    shared.call("DELETE", "serving-endpoints/crashing")
