"""Logs, metrics, schema, tags, notifications and events of an endpoint."""

import json

import httpx
import pytest
from databricks.sdk.errors import InvalidState, NotFound, ResourceDoesNotExist
from databricks.sdk.service.serving import EndpointTag, ServingEndpointsAPI

from tests.contract.endpoints import SPLIT, Deploy

ENDPOINTS = "/api/2.0/serving-endpoints"
EVENTS = "/api/2.0/lakeport/events"


@pytest.mark.operation("logs")
def test_what_a_model_raised_is_in_its_log(
    api: ServingEndpointsAPI, http: httpx.Client, streams: str
) -> None:
    http.post(f"/serving-endpoints/{streams}/invocations", json={"inputs": {"nothing": 1}})

    logs = api.logs(streams, "streams-1").logs
    first = http.get(f"{ENDPOINTS}/{streams}/served-models/streams-1/logs?config_version=1")

    assert "KeyError" in logs
    assert "KeyError" in first.json()["logs"]


@pytest.mark.operation("build_logs")
def test_build_logs_tell_how_the_environment_came_to_be(
    api: ServingEndpointsAPI, iris: str
) -> None:
    assert api.build_logs(iris, "old").logs.strip()


@pytest.mark.operation("logs", "build_logs")
def test_logs_of_an_unknown_entity_are_not_found(
    api: ServingEndpointsAPI, http: httpx.Client, iris: str
) -> None:
    with pytest.raises(NotFound, match="unknown"):
        api.logs(iris, "unknown")
    with pytest.raises(NotFound, match="unknown"):
        api.build_logs(iris, "unknown")
    missing = http.get(f"{ENDPOINTS}/{iris}/served-models/old/logs?config_version=99")
    assert missing.status_code == 404


@pytest.mark.operation("export_metrics")
def test_metrics_are_prometheus_text_under_databricks_names(
    api: ServingEndpointsAPI, http: httpx.Client, iris: str
) -> None:
    http.post(f"/serving-endpoints/{iris}/invocations", json=SPLIT)

    contents = api.export_metrics(iris).contents
    assert contents is not None
    with contents as stream:
        text = stream.read().decode()

    kinds = dict(line.split()[2:4] for line in text.splitlines() if line.startswith("# TYPE"))
    assert kinds["request_count_total"] == "gauge"
    assert kinds["request_latency_ms"] == "histogram"
    assert {
        "request_4xx_count_total",
        "request_5xx_count_total",
        "cpu_usage_percentage",
        "mem_usage_percentage",
        "gpu_usage_percentage",
        "gpu_mem_usage_percentage",
        "provisioned_concurrent_requests_total",
        "model_queue_time_ms",
        "model_prediction_latency_ms",
    } <= kinds.keys()
    (sample,) = (
        line
        for line in text.splitlines()
        if line.startswith("request_count_total{") and '"old"' in line
    )
    labels, value, timestamp = sample.split(" ")
    assert f'endpoint_name="{iris}"' in labels
    assert float(value) >= 1
    assert int(timestamp) > 1_600_000_000_000


@pytest.mark.operation("live", "series")
@pytest.mark.lakeport
def test_live_state_and_series_name_every_served_entity(http: httpx.Client, iris: str) -> None:
    http.post(f"/serving-endpoints/{iris}/invocations", json=SPLIT)

    live = http.get("/api/2.0/lakeport/live").json()["endpoints"]
    series = http.get(
        "/api/2.0/lakeport/series", params={"endpoint": iris, "served_entity": "old"}
    ).json()
    unnamed = http.get("/api/2.0/lakeport/series", params={"endpoint": iris})

    (found,) = [endpoint for endpoint in live if endpoint["name"] == iris]
    assert found["state"] == "READY"
    assert {entity["name"] for entity in found["entities"]} == {"old", "new"}
    assert all(len(entity["replicas"]) == 1 for entity in found["entities"])
    assert len(series["time"]) == len(series["requests"]) == len(series["p99_ms"])
    assert unnamed.status_code == 400
    assert "served_entity" in unnamed.json()["message"]
    assert "old" in unnamed.json()["message"]


@pytest.mark.operation("get_open_api")
def test_the_schema_names_columns_and_entities(api: ServingEndpointsAPI, iris: str) -> None:
    contents = api.get_open_api(iris).contents
    assert contents is not None
    with contents as stream:
        document = json.loads(stream.read())

    assert document["openapi"] == "3.1.0"
    assert document["info"] == {"title": iris, "version": "1"}
    assert set(document["paths"]) == {
        "/served-models/new/invocations",
        "/served-models/old/invocations",
    }
    operation = document["paths"]["/served-models/old/invocations"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    forms = {key for form in schema["oneOf"] for key in form["properties"]}
    assert {"dataframe_split", "dataframe_records"} <= forms
    assert "sepal length (cm)" in json.dumps(schema)
    assert document["servers"][0]["url"].endswith(f"/serving-endpoints/{iris}")


@pytest.mark.operation("get_open_api")
def test_an_endpoint_that_is_not_ready_has_no_schema(
    api: ServingEndpointsAPI, deploy: Deploy
) -> None:
    with pytest.raises((InvalidState, ResourceDoesNotExist)):
        api.get_open_api(deploy("empty"))


@pytest.mark.operation("patch")
def test_tags_are_added_replaced_deleted_and_sorted(
    api: ServingEndpointsAPI, deploy: Deploy
) -> None:
    name = deploy("tags")
    api.patch(name, add_tags=[EndpointTag("team", "plants"), EndpointTag("beta")])

    after = api.patch(
        name, add_tags=[EndpointTag("team", "animals"), EndpointTag("a", "1")], delete_tags=["beta"]
    )

    assert [(tag.key, tag.value) for tag in after.tags or []] == [("a", "1"), ("team", "animals")]
    assert [tag.key for tag in api.get(name).tags or []] == ["a", "team"]
    with pytest.raises(ResourceDoesNotExist):
        api.patch(f"{name}-unknown", add_tags=[EndpointTag("a")])


@pytest.mark.operation("update_notifications")
def test_notifications_are_stored_and_shown(
    api: ServingEndpointsAPI, http: httpx.Client, deploy: Deploy
) -> None:
    name = deploy("notifications")
    wanted = {"on_update_success": ["a@example.com"], "on_update_failure": ["b@example.com"]}

    plain = http.patch(
        f"{ENDPOINTS}/{name}/notifications", json={"email_notifications": wanted}
    ).json()
    if hasattr(api, "update_notifications"):
        from databricks.sdk.service.serving import EmailNotifications

        updated = api.update_notifications(
            name, email_notifications=EmailNotifications.from_dict(wanted)
        )
        assert updated.name == name
        assert updated.email_notifications is not None
        assert updated.email_notifications.as_dict() == wanted

    assert (plain["name"], plain["email_notifications"]) == (name, wanted)
    assert http.get(f"{ENDPOINTS}/{name}").json()["email_notifications"] == wanted


@pytest.mark.operation("events")
@pytest.mark.lakeport
def test_events_say_what_happened_and_who_asked(http: httpx.Client, iris: str) -> None:
    events = http.get("/api/2.0/lakeport/events", params={"endpoint": iris}).json()["events"]

    assert events[0]["kind"] == "created"
    assert events[0]["actor"] == "admin"
    ids = [event["id"] for event in events]
    assert ids == sorted(ids)
    rest = http.get("/api/2.0/lakeport/events", params={"endpoint": iris, "after": ids[0]})
    assert [event["id"] for event in rest.json()["events"]][: len(ids) - 1] == ids[1:]


@pytest.mark.operation("events")
@pytest.mark.lakeport
def test_events_are_chosen_by_kind_and_time(http: httpx.Client, iris: str) -> None:
    def chosen(**wanted: object) -> list[dict[str, object]]:
        params = {"endpoint": iris, **wanted}
        found: list[dict[str, object]] = http.get(EVENTS, params=params).json()["events"]  # type: ignore[arg-type]
        return found

    created, *_ = everything = chosen()
    unknown = http.get(EVENTS, params={"kind": "exploded"})

    assert chosen(kind="created") == [created]
    assert chosen(kind=["created", "deleted"]) == [created]
    assert chosen(since=2**40 * 8) == []
    assert chosen(since=created["at"], limit=1) == [created]
    assert chosen(newest="true", limit=1) == everything[-1:]
    assert unknown.status_code == 400
    assert unknown.json()["message"].startswith("kind: 'exploded' is unknown; expected one of ")


@pytest.mark.operation("log pages")
@pytest.mark.lakeport
def test_logs_are_had_line_by_line_from_a_cursor_on(http: httpx.Client, streams: str) -> None:
    path = f"/api/2.0/lakeport/logs/{streams}/streams-1"
    newest = http.get(path, params={"limit": 2}).json()
    http.post(f"/serving-endpoints/{streams}/invocations", json={"inputs": {"nothing": 1}})

    more = http.get(path, params={"after": newest["next"]}).json()
    first = http.get(path, params={"after": "", "limit": 1}).json()
    build = http.get(path, params={"build": "true"}).json()

    assert len(newest["lines"]) == 2
    assert any("KeyError" in line["text"] for line in more["lines"])
    assert {line["config_version"] for line in more["lines"]} == {1}
    assert "worker started" in first["lines"][0]["text"]
    assert build["lines"]
    assert http.get(path, params={"after": "here"}).status_code == 400
    assert http.get(f"{path}-unknown").json()["error_code"] == "RESOURCE_DOES_NOT_EXIST"
