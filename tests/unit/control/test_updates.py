"""The moves of an endpoint's record."""

from dataclasses import replace
from typing import Any

import pytest

from lakeport.control import rollout, updates
from lakeport.control.rollout import Observed, Phase
from lakeport.errors import Conflict, InvalidState
from lakeport.serving.routes import Condition
from lakeport.stores.records import ConfigUpdate, EndpointRecord, EntityRecord, RouteRecord

NEW = EndpointRecord(id="i", name="e", creator="ann", created_at=0, updated_at=0)


def entity(name: str, version: str = "1", **fields: Any) -> EntityRecord:
    plain = EntityRecord(
        name=name,
        entity_name="m",
        entity_version=version,
        resolved_version=version,
        model_key=version,
    )
    return replace(plain, **fields)


def begin(record: EndpointRecord, *entities: EntityRecord) -> EndpointRecord:
    routes = (RouteRecord(entities[0].name, 100),)
    return updates.begin(record, entities, routes, now=5, actor="ann")


def serving(*entities: EntityRecord) -> EndpointRecord:
    return updates.promote(begin(NEW, *entities), now=6)


def test_a_new_endpoint_is_pending_until_it_is_promoted() -> None:
    record = begin(NEW, entity("a"))
    assert record.update is ConfigUpdate.IN_PROGRESS
    assert record.active is None
    assert record.pending is not None
    assert record.pending.version == 1

    record = updates.promote(record, now=6)
    assert record.update is ConfigUpdate.NOT_UPDATING
    assert record.active is not None
    assert record.active.version == 1
    assert record.pending is None


def test_an_entity_that_did_not_change_keeps_its_deployment() -> None:
    record = begin(serving(entity("a"), entity("b")), entity("a"), entity("b", "2"))

    assert record.pending is not None
    kept, changed = record.pending.entities
    assert kept.since_version == 1
    assert changed.since_version == 2
    assert rollout.deployment_id("i", kept) in rollout.wanted(serving(entity("a")))


@pytest.mark.parametrize(
    "change",
    [
        {"environment": {"A": "1"}},
        {"model_key": "other"},
        {"workload_type": "GPU_SMALL"},
        {"environment": {"A": "1"}, "workload_size": "Medium"},
    ],
)
def test_any_other_change_of_an_entity_is_a_new_deployment(change: dict[str, Any]) -> None:
    record = begin(serving(entity("a")), entity("a", **change))

    assert record.pending is not None
    assert record.pending.entities[0].since_version == 2


@pytest.mark.parametrize(
    "size",
    [
        {"workload_size": "Medium"},
        {"workload_size": None, "min_concurrency": 4, "max_concurrency": 8},
        {"scale_to_zero": True},
    ],
)
def test_a_change_of_size_keeps_the_deployment_and_is_promoted_at_once(
    size: dict[str, Any],
) -> None:
    record = begin(serving(entity("a")), entity("a", **size))

    assert record.pending is not None
    (resized,) = record.pending.entities
    assert {name: getattr(resized, name) for name in size} == size
    assert resized.since_version == 1
    # Until then it is the active one's: it may be recovering.
    assert rollout.wanted(record) == rollout.wanted(serving(entity("a")))
    step = rollout.decide(record, {"i.a.v1": Observed(Phase.RECOVERING)})
    assert step == rollout.Step(promote=True)
    assert rollout.wanted(updates.promote(record, now=9)) == {"i.a.v1": resized}


def test_a_failed_config_stays_to_be_read_and_the_next_takes_its_place() -> None:
    record = updates.fail(begin(serving(entity("a")), entity("a", "2")), {"a": "broken"}, now=7)
    assert record.update is ConfigUpdate.UPDATE_FAILED
    assert record.active is not None
    assert record.active.version == 1
    assert record.pending is not None
    assert record.failures == {"a": "broken"}
    assert set(rollout.wanted(record)) == {"i.a.v1"}

    record = begin(record, entity("a", "2"))
    assert record.failures == {}
    assert record.pending is not None
    assert (record.pending.version, record.pending.entities[0].since_version) == (3, 3)


def test_one_update_at_a_time() -> None:
    with pytest.raises(Conflict):
        begin(begin(NEW, entity("a")), entity("a"))
    with pytest.raises(Conflict):
        updates.stop(begin(NEW, entity("a")), now=0)


def test_stop_and_start() -> None:
    stopped = updates.stop(serving(entity("a")), now=8)
    assert rollout.wanted(stopped) == {}
    assert rollout.route(stopped).condition is Condition.STOPPED
    with pytest.raises(InvalidState):
        updates.stop(stopped, now=8)
    with pytest.raises(InvalidState):
        begin(stopped, entity("a"))

    started = updates.start(stopped, now=9, actor="ann")
    assert rollout.route(started).condition is Condition.STARTING
    failed = updates.fail(started, {"a": "no memory"}, now=10)
    assert rollout.route(failed).condition is Condition.FAILED
    assert "no memory" in rollout.route(failed).reason
    assert started.update is ConfigUpdate.IN_PROGRESS
    assert set(rollout.wanted(started)) == {"i.a.v2"}
    again = updates.promote(started, now=10)
    assert again.stopped is False
    assert again.active is not None
    assert again.active.version == 2
    with pytest.raises(InvalidState):
        updates.start(again, now=11, actor="ann")


def test_what_was_never_served_cannot_be_stopped() -> None:
    with pytest.raises(InvalidState):
        updates.stop(NEW, now=0)


READY, STARTING = Observed(Phase.READY), Observed(Phase.STARTING)
FAILED, RECOVERING = Observed(Phase.FAILED, "why"), Observed(Phase.RECOVERING)


@pytest.mark.parametrize(
    ("observed", "start", "promote", "failures", "retire"),
    [
        ({"i.a.v1": READY}, ["b"], False, {}, []),
        ({"i.a.v1": READY, "i.b.v2": STARTING}, [], False, {}, []),
        ({"i.a.v1": READY, "i.b.v2": READY}, [], True, {}, []),
        ({"i.a.v1": READY, "i.b.v2": FAILED}, [], False, {"b": "why"}, []),
        ({"i.a.v1": RECOVERING, "i.b.v2": READY}, [], True, {}, []),
        ({"i.a.v1": FAILED, "i.b.v2": READY}, [], True, {}, []),
        ({"i.a.v1": READY, "i.b.v2": READY, "i.x.v1": READY}, [], True, {}, ["i.x.v1"]),
        ({}, ["a", "b"], False, {}, []),
    ],
)
def test_what_to_do_next_while_updating(
    observed: dict[str, Observed],
    start: list[str],
    promote: bool,
    failures: dict[str, str],
    retire: list[str],
) -> None:
    record = begin(serving(entity("a")), entity("a"), entity("b", "2"))

    step = rollout.decide(record, observed)

    assert [e.name for e in step.start] == start
    assert step.promote is promote
    assert dict(step.failures) == failures
    assert list(step.retire) == retire


def test_routes_lead_only_to_the_active_config() -> None:
    route = rollout.route(begin(serving(entity("a")), entity("a", "2")))

    assert route.condition is Condition.SERVING
    assert [(s.entity, s.deployment, s.percentage) for s in route.shares] == [("a", "i.a.v1", 100)]


@pytest.mark.parametrize(
    ("record", "condition"),
    [
        (NEW, Condition.EMPTY),
        (begin(NEW, entity("a")), Condition.STARTING),
        (updates.fail(begin(NEW, entity("a")), {"a": "x"}, now=0), Condition.FAILED),
        (serving(entity("a")), Condition.SERVING),
    ],
)
def test_an_endpoint_says_why_it_does_not_serve(
    record: EndpointRecord, condition: Condition
) -> None:
    assert rollout.route(record).condition is condition
