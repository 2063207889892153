"""Updates that fail, and updates under load: the config that serves is never the one to suffer."""

from collections.abc import Iterator

import pytest

from tests.integration.conftest import Stock
from tests.integration.load import load
from tests.integration.server import ServerProcess

BODY = {"inputs": [{"x": 1.0}]}


@pytest.fixture(scope="module")
def kept(shared: ServerProcess, stock: Stock) -> Iterator[str]:
    """An endpoint that serves `good`."""
    shared.create("kept", stock.entity("good", "params"))
    yield "kept"
    shared.call("DELETE", "serving-endpoints/kept")


@pytest.fixture(scope="module", autouse=True)
def hanging(shared: ServerProcess, stock: Stock) -> Iterator[str]:
    """An endpoint that serves `good`, with an update that hangs: begun before the other tests, for
    it takes the server 30 seconds to give up."""
    shared.create("hanging", stock.entity("good", "params"))
    shared.update("hanging", stock.entity("bad", "load_hangs"))
    yield "hanging"
    shared.call("DELETE", "serving-endpoints/hanging")


def says_why(server: ServerProcess, endpoint: str, reason: str) -> None:
    """Hold that the endpoint's update has failed for `reason`, and that version 1 serves."""
    found = server.settled(endpoint)
    assert found["state"] == {"ready": "READY", "config_update": "UPDATE_FAILED"}
    assert [entity["name"] for entity in found["config"]["served_entities"]] == ["good"]
    assert found["config"]["config_version"] == 1
    [bad] = found["pending_config"]["served_entities"]
    assert bad["state"]["deployment"] == "DEPLOYMENT_FAILED"
    assert reason in bad["state"]["deployment_state_message"]
    told = [event for event in server.events(endpoint) if event["kind"] == "update_failed"]
    assert reason in told[-1]["message"]


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("load_raises", "RuntimeError: the weights are not what they were"),
        ("load_eats", "ran out of memory"),
    ],
)
def test_a_failed_update_leaves_the_old_config_serving_and_says_why(
    shared: ServerProcess, stock: Stock, kept: str, model: str, reason: str
) -> None:
    with load(shared, kept, BODY, threads=2, pause=0.02) as tally:
        shared.update(kept, stock.entity("bad", model))
        says_why(shared, kept, reason)
        tally.grows_by(20)

    assert not tally.failed, tally
    assert tally.by_entity.keys() == {"good"}


def test_a_good_update_follows_a_failed_one(shared: ServerProcess, stock: Stock, kept: str) -> None:
    shared.update(kept, stock.entity("bad", "load_raises"))
    assert shared.settled(kept)["state"]["config_update"] == "UPDATE_FAILED"

    shared.update(kept, stock.entity("better", "params"))
    found = shared.updated(kept)

    assert "pending_config" not in found
    assert shared.ask(kept, BODY).headers["served-model-name"] == "better"


def roll(server: ServerProcess, stock: Stock, endpoint: str, *, rounds: int, threads: int) -> str:
    """A load through updates and shifts of traffic: nothing is lost, and each split is kept to.

    Returns figures for people.
    """
    old, changes = stock.entity("v0", "params"), 0
    server.create(endpoint, old)
    with load(server, endpoint, BODY, threads=threads, pause=0.005) as tally:
        for number in range(1, rounds + 1):
            new = stock.entity(f"v{number}", "frame" if number % 2 else "params")
            for share in (0, 50, 100):
                traffic = {str(old["name"]): 100 - share, str(new["name"]): share}
                server.update(endpoint, old, new, **traffic)
                server.updated(endpoint)
                # What was on its way at the switch may be answered by the old share.
                tally.grows_by(2 * threads)
                before = len(tally.answers)
                tally.grows_by(400)
                answered = tally.answers[before:]
                part = sum(answer.entity == new["name"] for answer in answered) / len(answered)
                assert abs(part - share / 100) < 0.12, f"{share} % asked for, {part:.0%} given"
            server.update(endpoint, new)
            server.updated(endpoint)
            old, changes = new, changes + 4
    server.call("DELETE", f"serving-endpoints/{endpoint}")
    assert not tally.failed, tally.failed[:3]
    assert tally.by_entity.keys() == {f"v{number}" for number in range(rounds + 1)}
    return f"{changes} changes under {threads} connections: {tally}"


def test_no_request_is_lost_in_updates_and_shifts_of_traffic(
    shared: ServerProcess, stock: Stock
) -> None:
    print(roll(shared, stock, "rolled", rounds=1, threads=8))


def test_an_update_that_hangs_is_given_up_and_the_old_config_serves_on(
    shared: ServerProcess, hanging: str
) -> None:
    with load(shared, hanging, BODY, threads=2, pause=0.05) as tally:
        says_why(shared, hanging, "did not become ready in 30 s")
        tally.grows_by(20)

    assert not tally.failed, tally
    assert tally.by_entity.keys() == {"good"}


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_no_request_is_lost_in_many_updates(shared: ServerProcess, stock: Stock) -> None:
    print(roll(shared, stock, "rolled-long", rounds=12, threads=16))
