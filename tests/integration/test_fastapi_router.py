"""The router in an app, in front of a real server."""

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from fastapi import Depends, FastAPI, HTTPException
from fastapi.testclient import TestClient
from openapi_spec_validator import validate

from lakeport import AsyncClient
from lakeport.integrations.fastapi import serving_router
from tests.integration.server import ServerProcess, closing, wait_for
from tests.models.fixtures import SavedModel

pytestmark = pytest.mark.timeout(120)

FLOWER = [5.1, 3.5, 1.4, 0.2]
SCRIPT = {
    "rules": [{"match": "cut", "reply": "one two three four five six", "delay_ms": 1}],
    "default": "Hello there",
}


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, saved_model: SavedModel
) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("router")
    script = folder / "script.yml"
    script.write_text(yaml.safe_dump(SCRIPT))
    models = {"flowers": saved_model("iris")}
    with closing(
        ServerProcess(
            folder / "home",
            models=models,
            faults=True,
            env_manager="local",
            chat=f"bot=scripted:{script}",
        )
    ) as server:
        server.start().updated("flowers")
        yield server


@pytest.fixture(autouse=True)
def _no_faults(server: ServerProcess) -> Iterator[None]:
    yield
    server.call("DELETE", "lakeport/faults")


def fault(server: ServerProcess, endpoint: str, kind: str, **more: object) -> None:
    body = {"endpoint": endpoint, "kind": kind, **more}
    server.call("POST", "lakeport/faults", body)


def url(server: ServerProcess) -> str:
    return str(server.client.base_url)


def make_app(server: ServerProcess, **options: Any) -> FastAPI:
    app = FastAPI()
    client = AsyncClient(url(server), options.pop("token", server.token))
    app.include_router(serving_router(client, **options), prefix="/api")
    return app


@pytest.fixture
def app(server: ServerProcess) -> Iterator[TestClient]:
    with TestClient(make_app(server)) as client:
        yield client


PREDICT = "/api/serving-endpoints/flowers/predict"


class TestReading:
    def test_endpoints_are_listed_as_the_guide_lists_them(self, app: TestClient) -> None:
        listed = app.get("/api/serving-endpoints").json()

        assert {item["name"] for item in listed} == {"flowers", "bot"}
        flowers = next(item for item in listed if item["name"] == "flowers")
        assert flowers["state"] == "READY"
        assert flowers["url"].endswith("/serving-endpoints/flowers/invocations")
        assert flowers["creation_time"] > 1_700_000_000_000

    def test_an_endpoint_is_described(self, app: TestClient) -> None:
        described = app.get("/api/serving-endpoints/flowers").json()

        (model,) = described["config"]["served_models"]
        assert (described["state"], described["config_update"]) == ("READY", "NOT_UPDATING")
        assert (model["model_version"], model["workload_size"]) == ("1", "Small")
        assert (model["scale_to_zero"], model["traffic_percentage"]) == (False, 100)
        assert described["tags"] == {}

    def test_a_foundation_endpoint_is_described_too(self, app: TestClient) -> None:
        described = app.get("/api/serving-endpoints/bot").json()

        assert (described["state"], described["task"]) == ("READY", "llm/v1/chat")

    def test_a_signature_has_an_example_that_works(self, app: TestClient) -> None:
        signature = app.get("/api/serving-endpoints/flowers/signature").json()

        assert signature["inputs"][0]["name"] == "sepal length (cm)"
        answer = app.post(PREDICT, json=signature["example"])
        assert answer.status_code == 200, answer.text

    def test_what_is_not_there_is_404(self, app: TestClient) -> None:
        for path in ("", "/signature"):
            answer = app.get(f"/api/serving-endpoints/nowhere{path}")
            assert answer.status_code == 404
            assert "nowhere" in answer.json()["detail"]


class TestPredicting:
    def test_rows_are_answered_as_the_guide_answers(self, app: TestClient) -> None:
        answer = app.post(PREDICT, json={"inputs": [FLOWER, FLOWER]})

        assert answer.status_code == 200, answer.text
        assert answer.json()["predictions"] == [0, 0]
        assert answer.json()["endpoint_name"] == "flowers"

    @pytest.mark.parametrize("form", ["dataframe_split", "dataframe_records"])
    def test_named_columns_are_answered(self, app: TestClient, form: str) -> None:
        names = [
            c["name"] for c in app.get("/api/serving-endpoints/flowers/signature").json()["inputs"]
        ]
        body: dict[str, Any] = {
            "dataframe_split": {"columns": names, "data": [FLOWER]},
            "dataframe_records": [dict(zip(names, FLOWER, strict=True))],
        }

        answer = app.post(PREDICT, json={form: body[form]})

        assert answer.json()["predictions"] == [0]

    @pytest.mark.parametrize(
        "body", [{}, {"inputs": [FLOWER], "instances": [FLOWER]}, {"input": [FLOWER]}, [1]]
    )
    def test_a_body_that_is_no_input_is_422(self, app: TestClient, body: object) -> None:
        assert app.post(PREDICT, json=body).status_code == 422

    def test_an_input_that_does_not_fit_is_400_and_says_where(self, app: TestClient) -> None:
        answer = app.post(PREDICT, json={"inputs": [FLOWER, ["x", 1, 2, 3]]})

        assert answer.status_code == 400
        assert "sepal length (cm)" in answer.json()["detail"]

    def test_an_unknown_endpoint_is_404(self, app: TestClient) -> None:
        answer = app.post("/api/serving-endpoints/nowhere/predict", json={"inputs": [[1]]})

        assert answer.status_code == 404

    def test_a_busy_endpoint_is_429_at_once_with_when_to_come_back(
        self, app: TestClient, server: ServerProcess
    ) -> None:
        fault(server, "flowers", "status", status=429, retry_after=20)

        answer = app.post(PREDICT, json={"inputs": [FLOWER]})

        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "20")

    @pytest.mark.parametrize(
        ("behind", "seen"), [(403, 403), (500, 502), (401, 502), (504, 504), (413, 413)]
    )
    def test_what_went_wrong_behind_keeps_its_meaning(
        self, app: TestClient, server: ServerProcess, behind: int, seen: int
    ) -> None:
        fault(server, "flowers", "status", status=behind)

        assert app.post(PREDICT, json={"inputs": [FLOWER]}).status_code == seen

    @pytest.mark.parametrize("kind", ["cut", "bad_json"])
    def test_a_broken_answer_is_502(
        self, app: TestClient, server: ServerProcess, kind: str
    ) -> None:
        fault(server, "flowers", kind)

        answer = app.post(PREDICT, json={"inputs": [FLOWER]})

        assert answer.status_code == 502
        assert "Traceback" not in answer.text

    def test_an_endpoint_that_is_not_ready_is_503(
        self, app: TestClient, server: ServerProcess
    ) -> None:
        fault(server, "flowers", "state", ready="NOT_READY")

        assert app.post(PREDICT, json={"inputs": [FLOWER]}).status_code == 503

    def test_no_answer_in_time_is_504(self, server: ServerProcess) -> None:
        fault(server, "flowers", "slow", seconds=30)

        with TestClient(make_app(server, timeout=0.3)) as app:
            assert app.post(PREDICT, json={"inputs": [FLOWER]}).status_code == 504


class TestBatches:
    def test_items_are_answered_in_order_and_fail_alone(self, app: TestClient) -> None:
        bad = [["x", 1, 2, 3]]
        body = {"inputs": [[FLOWER], bad, [[6.3, 3.3, 6.0, 2.5]]]}

        answer = app.post("/api/serving-endpoints/flowers/batch-predict", json=body).json()

        assert (answer["total_requests"], answer["endpoint_name"]) == (3, "flowers")
        assert [item["index"] for item in answer["results"]] == [0, 1, 2]
        assert [item["predictions"] for item in answer["results"]] == [[0], None, [2]]
        assert "sepal length" in answer["results"][1]["error"]

    def test_an_item_may_be_a_whole_body(self, app: TestClient) -> None:
        body = {"inputs": [{"inputs": [FLOWER]}]}

        answer = app.post("/api/serving-endpoints/flowers/batch-predict", json=body)

        assert answer.json()["results"][0]["predictions"] == [0]

    def test_an_item_that_is_no_input_is_422(self, app: TestClient) -> None:
        body = {"inputs": [{"inputs": [FLOWER], "instances": [FLOWER]}]}

        assert (
            app.post("/api/serving-endpoints/flowers/batch-predict", json=body).status_code == 422
        )

    def test_an_item_says_its_status_and_what_concerns_all_fails_the_whole(
        self, app: TestClient, server: ServerProcess
    ) -> None:
        path, body = "/api/serving-endpoints/flowers/batch-predict", {"inputs": [[FLOWER]] * 3}
        fault(server, "flowers", "status", status=429, times=6)
        busy = app.post(path, json=body)
        server.call("DELETE", "lakeport/faults")
        fault(server, "flowers", "status", status=403)
        denied = app.post(path, json=body)

        assert {item["status"] for item in busy.json()["results"]} == {429}
        assert denied.status_code == 403

    def test_an_unknown_endpoint_fails_the_whole(self, app: TestClient) -> None:
        answer = app.post("/api/serving-endpoints/nowhere/batch-predict", json={"inputs": []})

        assert answer.status_code == 404


class TestChat:
    def ask(self, app: TestClient, text: str = "hello", **more: object) -> Any:
        body = {"messages": [{"role": "user", "content": text}], **more}
        return app.post("/api/serving-endpoints/bot/chat", json=body)

    def test_an_answer_comes_whole(self, app: TestClient) -> None:
        answer = self.ask(app, max_tokens=50, temperature=0.5).json()

        assert answer["answer"] == "Hello there"
        assert answer["usage"]["total_tokens"] > 0
        assert answer["endpoint_name"] == "bot"

    def test_an_answer_comes_in_pieces(self, app: TestClient) -> None:
        answer = self.ask(app, stream=True)

        assert answer.headers["content-type"].startswith("text/event-stream")
        *events, last = [line for line in answer.text.splitlines() if line]
        assert last == "data: [DONE]"
        pieces = [json.loads(event.removeprefix("data: ")) for event in events]
        text = "".join(
            p["choices"][0]["delta"].get("content") or "" for p in pieces if p["choices"]
        )
        assert text == "Hello there"

    def test_a_stream_that_breaks_off_ends_with_an_error_and_no_done(
        self, app: TestClient, server: ServerProcess
    ) -> None:
        fault(server, "bot", "cut", after=2)

        lines = [line for line in self.ask(app, "cut", stream=True).text.splitlines() if line]

        assert lines[-1].startswith('data: {"error":')
        assert "data: [DONE]" not in lines

    def test_what_fails_before_a_stream_has_an_honest_status(
        self, app: TestClient, server: ServerProcess
    ) -> None:
        fault(server, "bot", "status", status=429, retry_after=9)

        answer = self.ask(app, stream=True)

        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "9")

    @pytest.mark.parametrize(
        "extra", [{"headers": {"Authorization": "Bearer x"}}, {"timeout": 1}, {"entity": "x"}]
    )
    def test_no_caller_sets_the_clients_options(
        self, app: TestClient, extra: dict[str, Any]
    ) -> None:
        assert self.ask(app, **extra).status_code == 422

    @pytest.mark.parametrize("word", ["name", "self", "timeout"])
    def test_no_callers_field_is_an_argument_of_the_client(
        self, app: TestClient, word: str
    ) -> None:
        body = {"messages": [{"role": "user", "content": "hi"}], word: "x"}

        answer = app.post("/api/serving-endpoints/bot/chat", json=body)

        assert answer.status_code == 422
        assert f"unknown field {word}" in answer.text

    def test_what_the_model_refuses_is_400(self, app: TestClient) -> None:
        body = {"messages": [{"role": "wizard", "content": "hi"}]}

        assert app.post("/api/serving-endpoints/bot/chat", json=body).status_code == 400


class TestCallers:
    def test_the_callers_own_token_is_passed_on(self, server: ServerProcess) -> None:
        with TestClient(make_app(server, token="nobody's", pass_token=True)) as app:
            mine = {"X-Forwarded-Access-Token": server.token}
            bearer = {"Authorization": f"Bearer {server.token}"}
            wrong = {"Authorization": "Bearer nobody's"}

            assert app.post(PREDICT, json={"inputs": [FLOWER]}, headers=mine).status_code == 200
            assert app.post(PREDICT, json={"inputs": [FLOWER]}, headers=bearer).status_code == 200
            assert app.post(PREDICT, json={"inputs": [FLOWER]}, headers=wrong).status_code == 401
            assert app.post(PREDICT, json={"inputs": [FLOWER]}).status_code == 401
            broken = {"X-Forwarded-Access-Token": "no token"}
            assert app.post(PREDICT, json={"inputs": [FLOWER]}, headers=broken).status_code == 401
            assert "securitySchemes" in app.get("/openapi.json").json()["components"]

    def test_the_routers_own_client_is_as_patient_as_it_is_told(
        self, server: ServerProcess, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DATABRICKS_HOST", url(server))
        monkeypatch.setenv("DATABRICKS_TOKEN", server.token)
        fault(server, "flowers", "timeout", seconds=30, on="get")
        app = FastAPI()
        app.include_router(serving_router(timeout=0.3), prefix="/api")

        with TestClient(app) as client:
            assert client.get("/api/serving-endpoints/flowers").status_code == 504

    def test_an_app_whose_callers_bring_tokens_needs_none(
        self, server: ServerProcess, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # As in a Databricks App: its own way to sign in would be databricks-sdk's.
        monkeypatch.setenv("DATABRICKS_HOST", url(server))
        monkeypatch.setenv("DATABRICKS_CLIENT_ID", "app")
        monkeypatch.delenv("DATABRICKS_TOKEN", raising=False)
        app = FastAPI()
        app.include_router(serving_router(pass_token=True), prefix="/api")

        with TestClient(app) as client:
            mine = {"X-Forwarded-Access-Token": server.token}
            assert client.post(PREDICT, json={"inputs": [FLOWER]}, headers=mine).status_code == 200

    def test_the_apps_own_token_is_not_its_callers_matter(self, server: ServerProcess) -> None:
        with TestClient(make_app(server, token="xyzzy-plugh")) as app:
            answer = app.get("/api/serving-endpoints")

        assert answer.status_code == 502
        assert "xyzzy" not in answer.text

    def test_the_apps_own_authentication_comes_first(self, server: ServerProcess) -> None:
        def nobody() -> None:
            raise HTTPException(401, "Not you.")

        with TestClient(make_app(server, dependencies=[Depends(nobody)])) as app:
            assert app.get("/api/serving-endpoints").json() == {"detail": "Not you."}

    def test_a_client_of_its_own_is_made_and_closed_with_the_app(
        self, server: ServerProcess, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DATABRICKS_HOST", url(server))
        monkeypatch.setenv("DATABRICKS_TOKEN", server.token)
        app = FastAPI()
        app.include_router(serving_router(), prefix="/api")

        for _ in range(2):  # an app may be started again
            with TestClient(app) as client:
                assert client.post(PREDICT, json={"inputs": [FLOWER]}).status_code == 200

    @pytest.mark.parametrize("given", [True, False])
    def test_an_app_without_a_lifespan_may_have_many_loops(
        self, server: ServerProcess, given: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DATABRICKS_HOST", url(server))
        monkeypatch.setenv("DATABRICKS_TOKEN", server.token)
        below = FastAPI()
        below.include_router(serving_router(AsyncClient() if given else None), prefix="/api")
        app = FastAPI()
        app.mount("/below", below)  # it is told of no start and no end
        client = TestClient(app)  # without `with`: a loop for each request

        for _ in range(3):
            answer = client.post(f"/below{PREDICT}", json={"inputs": [FLOWER]})
            assert answer.status_code == 200


async def leave(app: FastAPI, path: str, body: object, when: Callable[[], object]) -> None:
    """Ask, and hang up when something is so."""
    messages = [{"type": "http.request", "body": json.dumps(body).encode()}]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await asyncio.to_thread(wait_for, when, what="when to hang up")
        return {"type": "http.disconnect"}

    async def send(message: object) -> None: ...

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }
    await asyncio.wait_for(app(scope, receive, send), 80)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (PREDICT, {"inputs": [FLOWER]}),
        ("/api/serving-endpoints/flowers/batch-predict", {"inputs": [[FLOWER]] * 5}),
        (
            "/api/serving-endpoints/bot/chat",
            {"messages": [{"role": "user", "content": "hi"}], "stream": True},
        ),
    ],
)
async def test_nothing_runs_on_for_a_caller_who_left(
    server: ServerProcess, path: str, body: object
) -> None:
    server.call("DELETE", "lakeport/calls")
    name = path.split("/")[3]
    fault(server, name, "slow", seconds=60)

    def calls() -> list[Any]:
        found: list[Any] = server.call("GET", f"lakeport/calls?endpoint={name}")["calls"]
        return found

    await leave(make_app(server, concurrency=1), path, body, when=calls)

    await asyncio.to_thread(wait_for, lambda: calls()[-1]["status"], what="the call's end")
    assert [call["status"] for call in calls()] == [499]


@asynccontextmanager
async def in_process(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://app", timeout=60) as client:
        yield client


async def test_requests_run_at_once_and_no_more_than_allowed(server: ServerProcess) -> None:
    server.call("DELETE", "lakeport/calls")
    fault(server, "flowers", "slow", seconds=0.3)
    async with in_process(make_app(server, concurrency=4)) as app:
        asked = [app.post(PREDICT, json={"inputs": [FLOWER]}) for _ in range(8)]
        answers = await asyncio.gather(*asked)

    assert [answer.status_code for answer in answers] == [200] * 8
    calls = server.call("GET", "lakeport/calls?endpoint=flowers")["calls"]
    spans = [(call["time"] / 1000, call["time"] / 1000 + call["seconds"]) for call in calls]
    at_once = [sum(a <= begin < b for a, b in spans) for begin, _ in spans]
    assert 2 <= max(at_once) <= 4


async def test_the_loop_is_free_while_an_endpoint_thinks(server: ServerProcess) -> None:
    fault(server, "flowers", "slow", seconds=1.0)
    async with in_process(make_app(server)) as app:
        slow = asyncio.create_task(app.post(PREDICT, json={"inputs": [FLOWER]}))
        await asyncio.sleep(0.1)
        await app.get("/api/serving-endpoints/flowers")

        assert not slow.done()
        assert (await slow).status_code == 200


def test_the_page_is_valid_and_says_what_goes_in_and_out(app: TestClient) -> None:
    page = app.get("/openapi.json").json()

    validate(page)
    predict = page["paths"]["/api/serving-endpoints/{endpoint_name}/predict"]["post"]
    assert {"200", "400", "404", "429", "503", "504"} <= set(predict["responses"])
    assert page["components"]["schemas"]["ModelInput"]["examples"]


def test_the_examples_own_tests_pass(tmp_path: Path) -> None:
    shutil.copytree(Path(__file__).parents[2] / "examples/fastapi_app", tmp_path / "app")

    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path / "app",
        capture_output=True,
        check=False,
        text=True,
        timeout=100,
    )

    assert run.returncode == 0, run.stdout + run.stderr
    assert "4 passed" in run.stdout
