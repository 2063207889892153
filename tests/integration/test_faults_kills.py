"""`kill -9` of the server at random moments, with tags, creates, updates and invocations in flight.

After each kill nothing of the server is left, and after each start what was acknowledged is there,
what served before serves, and every update comes to its end.
"""

import random
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
import pytest

from tests.integration.conftest import MakeServer, Stock
from tests.integration.server import ServerProcess, wait_for

BODY = {"inputs": [{"x": 1.0}]}
SEED = 20260131
#: What served before must serve again so many seconds after a start.
BACK_WITHIN = 30.0
SERVING = ("steady", "rolled")


@dataclass
class Wishes:
    """What clients asked for: acknowledged, or on its way when the server was killed."""

    #: Of the tag `n` of `steady`.
    tag: int = 0
    tag_asked: int = 0
    #: Endpoints that were created, and those whose creation or deletion was not acknowledged.
    made: set[str] = field(default_factory=set)
    doubtful: set[str] = field(default_factory=set)
    serial: int = 0
    #: Served entities of `rolled`: of the last update that was acknowledged, and of the last asked
    #: for; and whether those can be deployed.
    update: frozenset[str] = frozenset({"first"})
    update_asked: frozenset[str] = frozenset({"first"})
    #: Every entity that `rolled` may answer with.
    may_answer: set[str] = field(default_factory=lambda: {"first"})
    version: int = 1


class Clients:
    """Threads that change and ask things until the server is gone."""

    def __init__(self, server: ServerProcess, stock: Stock, wishes: Wishes, seed: int) -> None:
        self._server = server
        self._stock = stock
        self._wishes = wishes
        self._draw = random.Random(seed)
        #: Answers that no client may get, server killed or not.
        self.wrong: list[str] = []
        self.counts = dict.fromkeys(("tags", "creates", "updates", "invocations"), 0)
        self._threads = [
            threading.Thread(target=self._until_gone, args=(work,), daemon=True)
            for work in (self._tag, self._create, self._update, self._ask)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _until_gone(self, work: Callable[[httpx.Client], None]) -> None:
        server = self._server.client
        with httpx.Client(
            base_url=server.base_url, headers=server.headers, timeout=httpx.Timeout(90)
        ) as client:
            try:
                while not self.wrong:
                    work(client)
            except httpx.TransportError:
                return

    def _expect(self, answer: httpx.Response, *statuses: int) -> bool:
        """Whether it is a success; what is neither that nor expected is wrong."""
        if answer.is_success or answer.status_code in statuses:
            return answer.is_success
        self.wrong.append(f"{answer.request.method} {answer.url.path}: {answer.text}")
        return False

    def _tag(self, client: httpx.Client) -> None:
        wishes = self._wishes
        wishes.tag_asked = wishes.tag + 1
        tag = {"key": "n", "value": str(wishes.tag_asked)}
        answer = client.patch("/api/2.0/serving-endpoints/steady/tags", json={"add_tags": [tag]})
        if self._expect(answer):
            wishes.tag = wishes.tag_asked
            self.counts["tags"] += 1

    def _create(self, client: httpx.Client) -> None:
        wishes = self._wishes
        wishes.serial += 1
        name = f"made-{wishes.serial}"
        wish: dict[str, object] = {"name": name}
        if wishes.serial % 8 == 0:
            wish["config"] = {"served_entities": [self._stock.entity("one", "params")]}
        wishes.doubtful.add(name)
        if self._expect(client.post("/api/2.0/serving-endpoints", json=wish)):
            wishes.doubtful.discard(name)
            wishes.made.add(name)
            self.counts["creates"] += 1
        if len(wishes.made) > 9:
            oldest = min(wishes.made, key=lambda name: int(name.partition("-")[2]))
            wishes.made.discard(oldest)
            wishes.doubtful.add(oldest)
            if self._expect(client.delete(f"/api/2.0/serving-endpoints/{oldest}")):
                wishes.doubtful.discard(oldest)
        time.sleep(self._draw.uniform(0, 0.1))  # else nothing but creates would happen

    def _update(self, client: httpx.Client) -> None:
        """Another entity, both with a split, or one that cannot be loaded."""
        wishes, stock, draw = self._wishes, self._stock, self._draw
        name = f"e{draw.randrange(10**9)}"
        kind = draw.choice(["replace", "split", "fail"])
        entities = [stock.entity(name, "load_raises" if kind == "fail" else "frame")]
        config: dict[str, object] = {"served_entities": entities}
        if kind == "split":
            entities.append(stock.entity("first", "params"))
            routes = [{"served_model_name": n, "traffic_percentage": 50} for n in (name, "first")]
            config["traffic_config"] = {"routes": routes}
        wishes.update_asked = frozenset(str(entity["name"]) for entity in entities)
        if kind != "fail":
            wishes.may_answer |= wishes.update_asked
        path = "/api/2.0/serving-endpoints/rolled"
        answer = client.put(f"{path}/config", json=config)
        if not self._expect(answer, 409):
            return  # 409: the one before, which the killed server had begun, is still under way
        wishes.update = wishes.update_asked
        wishes.version = answer.json()["pending_config"]["config_version"]
        self.counts["updates"] += 1
        while client.get(path).json()["state"]["config_update"] == "IN_PROGRESS":
            time.sleep(0.05)

    def _ask(self, client: httpx.Client) -> None:
        for endpoint in SERVING:
            answer = client.post(f"/serving-endpoints/{endpoint}/invocations", json=BODY)
            if self._expect(answer):
                self.counts["invocations"] += 1
        time.sleep(0.01)


def serving_again(server: ServerProcess, began: float) -> float:
    """Seconds from `began` until all that served serves."""
    for endpoint in SERVING:
        wait_for(
            lambda: server.ask(endpoint, BODY).status_code == 200,  # noqa: B023 - waited for
            within=BACK_WITHIN - (time.monotonic() - began),
            what=f"an answer of {endpoint}",
        )
    return time.monotonic() - began


def hold(server: ServerProcess, wishes: Wishes) -> None:
    """Everything acknowledged is there, and nothing that nobody asked for."""
    # Tags.
    [tag] = server.get("steady")["tags"] or [{"key": "n", "value": "0"}]
    assert int(tag["value"]) in {wishes.tag, wishes.tag_asked}
    wishes.tag = wishes.tag_asked = int(tag["value"])

    # Creates and deletes.
    names = {found["name"] for found in server.call("GET", "serving-endpoints")["endpoints"]}
    made = names - set(SERVING)
    assert wishes.made <= made, f"lost: {wishes.made - made}"
    assert made <= wishes.made | wishes.doubtful, f"unknown: {made - wishes.made}"
    wishes.made, wishes.doubtful = made, set()
    for name in made:
        found = server.settled(name)
        assert found["state"]["config_update"] == "NOT_UPDATING", found
        if "config" in found:
            assert server.ask(name, BODY).status_code == 200

    # Updates.
    found = server.settled("rolled")
    latest = found.get("pending_config") or found["config"]
    entities = frozenset(entity["name"] for entity in latest["served_entities"])
    assert latest["config_version"] in {wishes.version, wishes.version + 1}
    assert entities in {wishes.update, wishes.update_asked}
    assert (found["state"]["config_update"] == "UPDATE_FAILED") == ("pending_config" in found)
    serving = {entity["name"] for entity in found["config"]["served_entities"]}
    assert serving <= wishes.may_answer
    answer = server.ask("rolled", BODY)
    assert answer.status_code == 200
    assert answer.headers["served-model-name"] in serving
    wishes.version, wishes.update = latest["config_version"], entities
    wishes.update_asked, wishes.may_answer = entities, serving


def kill_again_and_again(server: ServerProcess, stock: Stock, kills: int) -> str:
    """Returns figures for people."""
    draw = random.Random(SEED)
    wishes = Wishes()
    server.start()
    server.create("steady", stock.entity("steady", "params"))
    server.create("rolled", stock.entity("first", "params"))
    back, ended, totals = [], [], dict.fromkeys(("tags", "creates", "updates", "invocations"), 0)
    starts_cut = rollouts_cut = 0
    for number in range(1, kills + 1):
        try:
            clients = Clients(server, stock, wishes, draw.randrange(10**9))
            clients.start()
            # In every second life what needs the registry is under way, too.
            if number % 2:
                wait_for(lambda: clients.counts["updates"], what="an update")  # noqa: B023
            time.sleep(draw.uniform(0, 3))
            ended.append(server.kill())
            clients.join()
            assert not clients.wrong, clients.wrong[:3]
            for kind, count in clients.counts.items():
                totals[kind] += count
            if number % 4 == 0:  # and again while it comes up
                server.begin()
                time.sleep(draw.uniform(0, 3))
                ended.append(server.kill())
                starts_cut += 1
            began = time.monotonic()
            server.start()
            rolling = server.get("rolled")["state"]["config_update"] == "IN_PROGRESS"
            rollouts_cut += rolling
            back.append(serving_again(server, began))
            hold(server, wishes)
        except AssertionError as broken:
            raise AssertionError(
                f"kill {number} with seed {SEED}: {broken}\n{server.said()[-3000:]}"
            ) from broken
    assert server.terminate() == 0
    return (
        f"{len(ended)} kills ({starts_cut} during a start, {rollouts_cut} during a rollout), all "
        f"processes gone after {max(ended):.2f} s at most; serving again after min "
        f"{min(back):.1f} / median {statistics.median(back):.1f} / max {max(back):.1f} s; "
        "acknowledged: " + ", ".join(f"{count} {kind}" for kind, count in totals.items())
    )


@pytest.mark.timeout(240)
def test_a_server_killed_at_random_moments_loses_nothing(
    make_server: MakeServer, stock: Stock
) -> None:
    print(kill_again_and_again(make_server(registry="eager"), stock, kills=2))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_server_killed_many_times_loses_nothing(make_server: MakeServer, stock: Stock) -> None:
    print(kill_again_and_again(make_server(registry="eager"), stock, kills=25))
