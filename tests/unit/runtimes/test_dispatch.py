"""Several kinds of deployment behind one runtime and one connector."""

import asyncio
from typing import Any, cast

import pytest

from lakeport.runtimes.base import (
    Connector,
    DeploymentSpec,
    Kind,
    Link,
    ModelInterface,
    Replica,
    ReplicaLost,
    StartFailed,
)
from lakeport.runtimes.dispatch import Connectors, Runtimes


class Fake:
    """A runtime, and a replica, and a connector, that note what was asked of them."""

    def __init__(self, name: str, notes: list[str], *, fails: bool = False) -> None:
        self.name = name
        self.notes = notes
        self.fails = fails

    def _note(self, what: str) -> None:
        self.notes.append(f"{self.name} {what}")

    async def open(self) -> None:
        self._note("open")
        if self.fails:
            raise OSError("no room")

    async def close(self) -> None:
        self._note("close")

    async def prepare(self, spec: DeploymentSpec) -> None:
        self._note(f"prepare {spec.id}")

    async def start(self, spec: DeploymentSpec, replica_id: str) -> Replica:
        self._note(f"start {spec.id} {replica_id}")
        return cast(Replica, self)

    def logs(self, deployment_id: str) -> str:
        return f"{self.name}'s" if deployment_id.startswith(self.name) else ""

    def build_logs(self, deployment_id: str) -> str:
        return self.logs(deployment_id)

    def forget(self, deployment_id: str) -> None:
        self._note(f"forget {deployment_id}")

    def signature(self, spec: DeploymentSpec) -> ModelInterface | None:
        return ModelInterface(None, None, None, task=self.name)

    async def connect(self, address: str) -> Link:
        self._note(f"connect {address}")
        return cast(Link, self)


def spec(kind: Kind, id: str = "d1") -> DeploymentSpec:
    given: dict[str, Any] = dict.fromkeys(
        ("endpoint", "entity", "model_name", "model_version", "model_key", "workload_type"), ""
    )
    return DeploymentSpec(id=id, path=None, concurrency=4, kind=kind, **given)


def both(*, fails: bool = False) -> tuple[Runtimes, list[str], Fake]:
    notes: list[str] = []
    one = Fake("one", notes)
    two = Fake("two", notes, fails=fails)
    kinds = {Kind.MODEL: one, Kind.EXTERNAL: two, Kind.SCRIPTED: two}
    return Runtimes(kinds), notes, two


async def test_opened_in_order_and_closed_the_other_way_round() -> None:
    runtimes, notes, _ = both()
    await runtimes.open()
    await runtimes.close()
    assert notes == ["one open", "two open", "two close", "one close"]


async def test_those_before_one_that_fails_are_closed() -> None:
    runtimes, notes, _ = both(fails=True)
    with pytest.raises(OSError, match="no room"):
        await runtimes.open()
    assert notes == ["one open", "two open", "one close"]
    await runtimes.close()
    assert notes[3:] == []


async def test_each_kind_goes_to_its_runtime() -> None:
    runtimes, notes, two = both()
    await runtimes.prepare(spec(Kind.MODEL, "a"))
    assert cast(Fake, await runtimes.start(spec(Kind.SCRIPTED, "b"), "r1")) is two
    interface = runtimes.signature(spec(Kind.EXTERNAL))
    assert interface is not None
    assert interface.task == "two"
    runtimes.forget("b")
    assert notes == ["one prepare a", "two start b r1", "two forget b"]


async def test_a_kind_that_nobody_runs() -> None:
    runtimes, _, _ = both()
    with pytest.raises(StartFailed, match="kind engine"):
        await runtimes.prepare(spec(Kind.ENGINE))
    assert runtimes.signature(spec(Kind.ENGINE)) is None


async def test_logs_of_deployments_of_an_earlier_life() -> None:
    runtimes, notes, _ = both()
    assert runtimes.logs("two-7") == "two's"
    assert runtimes.build_logs("one-7") == "one's"
    assert runtimes.logs("nobody") == ""
    runtimes.forget("nobody")
    assert notes == ["one forget nobody", "two forget nobody"]
    await runtimes.prepare(spec(Kind.MODEL, "two-8"))
    assert runtimes.logs("two-8") == "", "it is one's now"


async def test_connectors_go_by_scheme() -> None:
    notes: list[str] = []
    given: dict[str, Connector] = {"unix": Fake("a", notes), "external": Fake("b", notes)}
    connectors = Connectors(given)
    await asyncio.gather(*(connectors.connect(a) for a in ("unix:/x#s", 'external:{"a":"b:c"}')))
    assert notes == ["a connect unix:/x#s", 'b connect external:{"a":"b:c"}']
    for address in ("engine:/x", "nothing", ""):
        with pytest.raises(ReplicaLost, match="There is no way"):
            await connectors.connect(address)
