"""Endpoints as Databricks and Lakeport show them."""

from typing import Any

import pytest

from lakeport.client import calls_inspect
from lakeport.client.endpoint import Endpoint, path_of, read_endpoint
from lakeport.client.errors import BadAnswer, ConnectionFailed, NotFound, NotReady, TimedOut
from lakeport.client.retry import Retry
from tests.unit.client.flows import HOST, World, by_path, reply

READY = {"ready": "READY", "config_update": "NOT_UPDATING"}
IRIS: dict[str, Any] = {
    "name": "iris",
    "id": "a" * 32,
    "creator": "ada@example.com",
    "creation_timestamp": 1700000000000,
    "last_updated_timestamp": 1700000001000,
    "state": READY,
    "permission_level": "CAN_MANAGE",
    "tags": [{"key": "team", "value": "fraud"}, {"key": "flag"}],
    "config": {
        "config_version": 3,
        "served_entities": [
            {
                "name": "iris-2",
                "entity_name": "main.default.iris",
                "entity_version": "2",
                "workload_size": "Small",
                "workload_type": "CPU",
                "scale_to_zero_enabled": True,
                "state": {"deployment": "DEPLOYMENT_READY", "deployment_state_message": "ok"},
            }
        ],
        "served_models": [{"name": "iris-2", "model_name": "main.default.iris"}],
        "traffic_config": {"routes": [{"served_model_name": "iris-2", "traffic_percentage": 100}]},
    },
}


def test_a_custom_model() -> None:
    endpoint = read_endpoint(IRIS, HOST)

    assert endpoint.ready
    assert endpoint.url == f"{HOST}/serving-endpoints/iris/invocations"
    assert (endpoint.tags, endpoint.traffic) == ({"team": "fraud", "flag": ""}, {"iris-2": 100})
    assert endpoint.versions == {"iris-2": "2"}
    (entity,) = endpoint.entities
    assert (entity.kind, entity.model, entity.state) == (
        "custom", "main.default.iris", "DEPLOYMENT_READY",
    )  # fmt: skip
    assert entity.scale_to_zero
    assert endpoint.raw["config"]["config_version"] == endpoint.config_version == 3


def test_a_foundation_endpoint_has_no_id_and_no_traffic() -> None:
    foundation = {"name": "system.ai.some-model", "display_name": "Some model"}
    shown = {
        "name": "databricks-some-model",
        "state": READY,
        "task": "llm/v1/chat",
        "config": {
            "served_entities": [{"name": "databricks-some-model", "foundation_model": foundation}]
        },
    }

    endpoint = read_endpoint(shown, HOST)

    assert (endpoint.id, endpoint.task) == (None, "llm/v1/chat")
    assert endpoint.traffic == {"databricks-some-model": 100}
    assert endpoint.entities[0].kind == "foundation"
    assert endpoint.entities[0].model == "system.ai.some-model"


def test_an_external_model_tells_the_task() -> None:
    external = {"name": "gpt-x", "provider": "openai", "task": "llm/v1/embeddings"}
    shown = {
        "name": "ext",
        "state": READY,
        "config": {"served_entities": [{"name": "gpt-x", "external_model": external}]},
    }

    endpoint = read_endpoint(shown, HOST)

    assert endpoint.task == "llm/v1/embeddings"
    assert (endpoint.entities[0].kind, endpoint.entities[0].model) == ("external", "gpt-x")


def test_only_served_models() -> None:
    model = {"name": "m-1", "model_name": "m", "model_version": "1", "workload_size": "Small"}

    endpoint = read_endpoint({"name": "old", "config": {"served_models": [model]}}, HOST)

    assert endpoint.versions == {"m-1": "1"}
    assert endpoint.entities[0].model == "m"
    assert (endpoint.state, endpoint.config_update) == ("NOT_READY", "NOT_UPDATING")


def test_a_feature_spec_has_no_version() -> None:
    served = {"name": "spec", "entity_name": "main.default.features"}

    endpoint = read_endpoint({"name": "f", "config": {"served_entities": [served]}}, HOST)

    assert endpoint.entities[0].kind == "feature"


def test_a_first_config_on_its_way() -> None:
    shown = {**IRIS, "pending_config": IRIS["config"], "config": None}

    assert read_endpoint(shown, HOST).versions == {"iris-2": "2"}


@pytest.mark.parametrize("shown", [None, [], {}, {"name": 3}])
def test_what_is_no_endpoint(shown: object) -> None:
    with pytest.raises(BadAnswer):
        read_endpoint(shown, HOST)


@pytest.mark.parametrize(
    "shown",
    [
        {"name": "x", "state": "READY", "config": [], "tags": {"a": 1}},
        {"name": "x", "config": {"served_entities": [None, "a"], "traffic_config": {"routes": 1}}},
        {"name": "x", "tags": [{"value": "no key"}, None]},
    ],
)
def test_odd_fields_are_as_good_as_none(shown: object) -> None:
    endpoint = read_endpoint(shown, HOST)

    assert (endpoint.entities, endpoint.tags, endpoint.traffic) == ((), {}, {})


def test_names_are_quoted() -> None:
    path = "/serving-endpoints/a%2Fb%20%3F/served-models/c%2Fd/invocations"

    assert path_of("a/b ?", "c/d") == path


# --- the flows ----------------------------------------------------------------------------------


def test_the_list() -> None:
    world = World([reply({"endpoints": [IRIS, {"name": "b"}]}), reply({}), reply([])])

    listed = world.run(calls_inspect.list_endpoints(world.context()))

    assert [endpoint.name for endpoint in listed] == ["iris", "b"]
    world = World([reply({}), reply([])])
    assert world.run(calls_inspect.list_endpoints(world.context())) == []


def test_details_are_kept_and_refreshed() -> None:
    world = World([reply(IRIS)] * 3)
    context = world.context(ttl=60)

    def get(*, refresh: bool) -> Endpoint:
        return world.run(calls_inspect.get(context, "iris", refresh=refresh))

    get(refresh=False)
    get(refresh=False)
    assert len(world.requests) == 1
    get(refresh=True)
    assert len(world.requests) == 2
    world.time += 61
    get(refresh=False)
    assert len(world.requests) == 3


def shown(ready: str, update: str, entity: str = "", message: str = "") -> dict[str, Any]:
    state = {"deployment": entity, "deployment_state_message": message}
    config = {"served_entities": [{"name": "e", "state": state}]} if entity else None
    return {"name": "x", "state": {"ready": ready, "config_update": update}, "config": config}


def test_waiting_ends_when_it_serves_and_no_update_runs() -> None:
    world = World(
        [
            reply(shown("NOT_READY", "IN_PROGRESS")),
            reply(shown("READY", "IN_PROGRESS")),
            reply(shown("NOT_READY", "NOT_UPDATING", "DEPLOYMENT_RECOVERING")),
            reply(shown("READY", "NOT_UPDATING")),
        ]
    )

    endpoint = world.run(calls_inspect.wait_until_ready(world.context(), "x"))

    assert endpoint.ready
    assert world.slept == [0.5, 0.75, 1.125]


@pytest.mark.parametrize(
    "state",
    [
        shown("READY", "UPDATE_FAILED", "DEPLOYMENT_FAILED", "no such package"),
        shown("NOT_READY", "UPDATE_CANCELED", "DEPLOYMENT_ABORTED", "no such package"),
        shown("NOT_READY", "NOT_UPDATING", "DEPLOYMENT_ABORTED", "no such package"),
    ],
)
def test_waiting_ends_with_the_reason(state: dict[str, Any]) -> None:
    world = World([reply(state)])

    with pytest.raises(NotReady, match="no such package"):
        world.run(calls_inspect.wait_until_ready(world.context(), "x"))


def test_a_failed_update_tells_the_reason_of_the_config_that_failed() -> None:
    state = shown("READY", "UPDATE_FAILED", "DEPLOYMENT_READY")
    failed = shown("", "", "DEPLOYMENT_FAILED", "out of memory")["config"]
    world = World([reply({**state, "pending_config": failed})])

    with pytest.raises(NotReady, match="out of memory"):
        world.run(calls_inspect.wait_until_ready(world.context(), "x"))


def test_waiting_has_an_end() -> None:
    world = World(lambda _: reply(shown("NOT_READY", "IN_PROGRESS")))

    with pytest.raises(TimedOut, match="30 s"):
        world.run(calls_inspect.wait_until_ready(world.context(), "x", timeout=30))

    assert world.time == 1030
    assert max(world.slept) <= 10


def test_a_server_that_is_away_for_a_while_is_waited_for() -> None:
    away = [ConnectionFailed("refused", sent=False)] * 9
    world = World(
        [reply(shown("NOT_READY", "IN_PROGRESS")), *away, reply(shown("READY", "NOT_UPDATING"))]
    )

    assert world.run(calls_inspect.wait_until_ready(world.context(Retry()), "x")).ready


def test_but_not_one_that_never_was_there() -> None:
    world = World([ConnectionFailed("refused", sent=False)] * 9)

    with pytest.raises(ConnectionFailed):
        world.run(calls_inspect.wait_until_ready(world.context(Retry(attempts=2)), "x"))


def test_waiting_for_what_is_not_there() -> None:
    world = World(by_path({}))

    with pytest.raises(NotFound):
        world.run(calls_inspect.wait_until_ready(world.context(), "x"))


def test_a_state_of_old_is_looked_up_before_it_refuses() -> None:
    world = World([reply(shown("NOT_READY", "IN_PROGRESS")), reply(shown("READY", "NOT_UPDATING"))])
    context = world.context()
    world.run(calls_inspect.get(context, "x"))

    world.run(calls_inspect.check_state(context, "x"))

    assert len(world.requests) == 2
