"""What a real server tells of itself: live state, series, Prometheus' text, the board for Grafana,
and traces."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.collector import Collector, collecting
from tests.integration.server import ServerProcess, closing, wait_for
from tests.models.fixtures import SavedModel

_ENTRY = "import sys; from lakeport.cli.main import main; sys.exit(main())"
COLUMNS = ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"]
BODY = {"dataframe_split": {"columns": COLUMNS, "data": [[5.1, 3.5, 1.4, 0.2]]}}
TALK = {"messages": [{"role": "user", "content": "hello"}]}
LIVE = "/api/2.0/lakeport/live"
SERIES = "/api/2.0/lakeport/series"


@dataclass(frozen=True)
class Place:
    server: ServerProcess
    collector: Collector
    #: A caller without rights.
    ann: httpx.Client


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, saved_model: SavedModel) -> Iterator[Place]:
    """A server with a model and a scripted chat, both asked, which sends its traces."""
    folder = tmp_path_factory.mktemp("monitoring")
    script = folder / "bot.yml"
    script.write_text('default: "I have no words for that."\n')
    with pytest.MonkeyPatch.context() as patch, collecting() as collector:
        for name in [name for name in os.environ if name.startswith("OTEL_")]:
            patch.delenv(name)
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        server = ServerProcess(
            folder / "home",
            models={name: saved_model(name) for name in ("iris", "traced")},
            chat=[f"bot=scripted:{script}", f"outside={collector.url}/v1#m"],
            egress_allow="127.0.0.1",
            registry="off",
        )
        with closing(server):
            server.start()
            for name in ("iris", "traced"):
                server.updated(name)
            with httpx.Client(
                base_url=server.client.base_url,
                headers={"Authorization": f"Bearer {_token(server.home, 'ann')}"},
                timeout=60,
            ) as ann:
                for _ in range(3):
                    assert server.ask("iris", BODY).status_code == 200
                assert server.ask("iris", {"inputs": {"none": 1}}).status_code == 400
                assert server.ask("bot", TALK).status_code == 200
                yield Place(server, collector, ann)


def _token(home: Path, caller: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _ENTRY, "token", "--home", str(home), "--caller", caller],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()


def error(answer: httpx.Response) -> tuple[int, str, str]:
    body = answer.json()
    return answer.status_code, body["error_code"], body["message"]


# --- live -----------------------------------------------------------------------------------------


def test_live_shows_replicas_rates_and_queues(place: Place) -> None:
    def measured() -> dict[str, Any] | None:
        place.server.ask("iris", BODY)
        found: dict[str, Any] = place.server.client.get(LIVE).json()
        (iris,) = [each for each in found["endpoints"] if each["name"] == "iris"]
        return found if iris["entities"][0]["replicas"][0]["pid"] else None

    live = wait_for(measured, what="the first look at a replica")

    assert abs(live["at"] / 1000 - time.time()) < 60
    assert [each["name"] for each in live["endpoints"]] == ["bot", "iris", "outside", "traced"]
    (iris,) = [each for each in live["endpoints"] if each["name"] == "iris"]
    assert iris["state"] == "READY"
    (served,) = iris["entities"]
    (replica,) = served["replicas"]
    assert replica["pid"] in [process.pid for process in place.server.workers()]
    assert 10_000_000 < replica["memory_bytes"] < replica["memory_limit_bytes"]
    assert replica["cpu_percent"] >= 0
    assert served["name"] == "iris"
    assert (served["model"], served["version"]) == ("iris", "1")
    assert served["scaled_to_zero"] is False
    assert served["requests_per_second"] > 0
    assert 0 < served["p50_ms"] <= served["p99_ms"]
    assert (served["queue"], served["in_flight"], served["cold_starts"]) == (0, 0, 0)
    assert served["provisioned_concurrency"] == 4


def test_live_shows_only_what_a_caller_may_see(place: Place) -> None:
    id = place.server.get("iris")["id"]
    before = place.ann.get(LIVE).json()["endpoints"]
    place.server.call(
        "PATCH",
        f"permissions/serving-endpoints/{id}",
        {"access_control_list": [{"user_name": "ann", "permission_level": "CAN_VIEW"}]},
    )

    after = place.ann.get(LIVE).json()["endpoints"]

    assert "iris" not in [each["name"] for each in before]
    assert "iris" in [each["name"] for each in after]
    place.server.call("PUT", f"permissions/serving-endpoints/{id}", {"access_control_list": []})


# --- series ---------------------------------------------------------------------------------------


def test_series_are_columns_of_one_length(place: Place) -> None:
    def shown() -> dict[str, Any] | None:
        found: dict[str, Any] = place.server.client.get(SERIES, params={"endpoint": "iris"}).json()
        return found if sum(filter(None, found["errors_4xx"])) else None

    series = wait_for(shown, what="the next second")

    columns = {name: value for name, value in series.items() if isinstance(value, list)}
    assert {len(column) for column in columns.values()} == {len(series["time"])}
    assert (series["endpoint"], series["served_entity"]) == ("iris", "iris")
    assert (series["range"], series["step"]) == ("15m", 1000)
    steps = {b - a for a, b in zip(series["time"], series["time"][1:], strict=False)}
    assert steps <= {1000}
    assert sum(filter(None, series["requests"])) >= 4
    assert max(filter(None, series["replicas"])) == 1
    latest = [ms for ms in series["p50_ms"] if ms is not None]
    assert latest
    assert all(ms > 0 for ms in latest)


def test_series_of_a_day_have_minutes(place: Place) -> None:
    series = place.server.client.get(
        SERIES, params={"endpoint": "iris", "served_entity": "iris", "range": "24h"}
    ).json()

    assert (series["range"], series["step"]) == ("24h", 60_000)
    assert all(at % 60_000 == 0 for at in series["time"])


def test_tokens_are_in_the_series(place: Place) -> None:
    def shown() -> list[float]:
        found = place.server.client.get(SERIES, params={"endpoint": "bot"}).json()
        return [count for count in found["tokens"] if count]

    assert sum(wait_for(shown, what="the next second")) > 0


@pytest.mark.parametrize(
    ("asked", "status", "said"),
    [
        ({}, 400, "endpoint"),
        ({"endpoint": "iris", "range": "1h"}, 400, "range"),
        ({"endpoint": "iris", "served_entity": "other"}, 404, "other"),
        ({"endpoint": "nowhere"}, 404, "nowhere"),
    ],
)
def test_series_that_are_not_there_are_refused_by_name(
    place: Place, asked: dict[str, str], status: int, said: str
) -> None:
    answer = place.server.client.get(SERIES, params=asked)

    assert answer.status_code == status
    assert said in answer.json()["message"]


def test_series_of_others_need_a_right(place: Place) -> None:
    assert error(place.ann.get(SERIES, params={"endpoint": "iris"}))[:2] == (
        403,
        "PERMISSION_DENIED",
    )


# --- Prometheus and Grafana -----------------------------------------------------------------------


def samples(text: str) -> dict[str, set[str]]:
    """Every sample's name, with the labels that it has."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


@pytest.fixture(scope="module")
def board() -> dict[str, Any]:
    text = files("lakeport").joinpath("dashboards", "grafana.json").read_text("utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def test_what_the_board_asks_for_is_there(place: Place, board: dict[str, Any]) -> None:
    there = samples(place.server.client.get("/metrics").text)
    asked = 0

    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            expression, legend = target["expr"], target["legendFormat"]
            for name, selector in re.findall(r"([a-z][a-z0-9_]+)\{([^}]*)\}", expression):
                asked += 1
                assert name in there, panel["title"]
                labels = set(re.findall(r"(\w+) ?=", selector)) | set(
                    re.findall(r"\{\{(\w+)\}\}", legend)
                )
                for grouped in re.findall(r"by \(([^)]*)\)", expression):
                    labels |= set(re.split(r", ?", grouped))
                # What Prometheus itself adds.
                assert labels - {"job", "instance"} <= there[name], panel["title"]
    assert asked > 40
    shown = set(re.findall(r"[a-z][a-z0-9_]+(?=\{)", json.dumps(board)))
    ours = {name for name in there if name.startswith("lakeport_")}
    assert {_stem(name) for name in ours} <= {_stem(name) for name in shown}


def _stem(name: str) -> str:
    return re.sub(r"_(bucket|sum|count|created)$", "", name)


def test_the_server_tells_of_its_own_process(place: Place) -> None:
    metrics = {
        sample.name: sample.value
        for family in text_string_to_metric_families(place.server.client.get("/metrics").text)
        for sample in family.samples
        if not sample.labels
    }

    process = psutil.Process(place.server.process.pid)
    assert metrics["process_resident_memory_bytes"] == pytest.approx(
        process.memory_info().rss, rel=0.3
    )
    assert 0 < metrics["process_cpu_seconds_total"] <= sum(process.cpu_times()[:2])
    assert metrics["process_start_time_seconds"] == pytest.approx(process.create_time(), abs=1)
    assert metrics["lakeport_event_loop_lag_seconds"] >= 0


# --- traces ---------------------------------------------------------------------------------------


def test_a_request_is_one_trace_from_its_caller_to_the_predict(place: Place) -> None:
    trace, caller = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    header = {"traceparent": f"00-{trace}-{caller}-01"}
    answer = place.server.ask("traced", {"inputs": [{"x": 1.0}]}, headers=header)

    spans = place.collector.wait(trace, "invocations", "queue", "predict")

    server, queue, predict = (spans[name] for name in ("invocations", "queue", "predict"))
    assert answer.json() == {"predictions": [f"{trace} {predict.id}"]}
    assert server.parent == caller
    assert queue.parent == predict.parent == server.id
    assert server.began <= queue.began <= queue.ended <= predict.began
    assert predict.began < predict.ended <= server.ended
    assert server.attributes["http.response.status_code"] == 200
    assert server.attributes["lakeport.endpoint"] == "traced"
    assert server.attributes["lakeport.request_id"] == answer.headers["x-request-id"]
    assert 0 < predict.attributes["lakeport.compute_seconds"] < 60
    assert server.service == "lakeport"


def test_a_merged_request_and_a_refused_one_are_traced(place: Place) -> None:
    traces = {"iris": "1af7651916cd43dd8448eb211c80319c", "no": "2af7651916cd43dd8448eb211c80319c"}
    for name, body in (("iris", BODY), ("no", {"inputs": {"none": 1}})):
        place.server.ask("iris", body, headers={"traceparent": f"00-{traces[name]}-{'ab' * 8}-01"})

    good = place.collector.wait(traces["iris"], "invocations", "queue", "predict")
    bad = place.collector.wait(traces["no"], "invocations", "queue", "predict")

    assert good["invocations"].attributes["http.response.status_code"] == 200
    assert bad["invocations"].attributes["http.response.status_code"] == 400
    assert not bad["invocations"].failed


def test_a_caller_that_samples_nothing_is_asked_for_nothing(place: Place) -> None:
    trace, last = "3af7651916cd43dd8448eb211c80319c", "4af7651916cd43dd8448eb211c80319c"
    unsampled = place.server.ask(
        "traced",
        {"inputs": [{"x": 1.0}]},
        headers={"traceparent": f"00-{trace}-{'ab' * 8}-00"},
    )
    place.server.ask("iris", BODY, headers={"traceparent": f"00-{last}-{'ab' * 8}-01"})
    place.collector.wait(last, "invocations")

    assert unsampled.json()["predictions"][0].startswith(trace)
    assert place.collector.of(trace) == {}


def test_an_outside_server_is_told_of_the_trace(place: Place) -> None:
    trace = "5af7651916cd43dd8448eb211c80319c"
    header = {"traceparent": f"00-{trace}-{'ab' * 8}-01"}
    assert place.server.ask("outside", TALK, headers=header).status_code == 200

    predict = place.collector.wait(trace, "predict")["predict"]

    told = [
        headers["traceparent"] for headers in place.collector.headers if "traceparent" in headers
    ]
    assert told == [f"00-{trace}-{predict.id}-01"]
