"""A server started for tests: endpoints of a test's own, faults on demand, records of calls."""

import gzip
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from databricks.sdk import WorkspaceClient
from databricks.sdk.core import Config
from databricks.sdk.errors import InternalError
from openai import APIConnectionError, OpenAI

from lakeport.cli.main import lakeport
from tests.integration.joined import JoinedProcess, Stream, joined, waits
from tests.integration.server import ServerProcess, closing, wait_for
from tests.models.fixtures import SavedModel

LAKEPORT = "/api/2.0/lakeport"
CHAT = "writer"
HI = {"messages": [{"role": "user", "content": "hi ann"}]}
SCRIPT = {"rules": [{"match": "hi (\\w+)", "reply": "Hello \\1, how are you?"}]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Its requests time out after a second; its registry was never asked for."""
    home = tmp_path_factory.mktemp("faulty") / "home"
    settings: dict[str, Any] = {"faults": True, "request_timeout": 1, "stop_grace": 1}
    with closing(ServerProcess(home, env_manager="local", **settings)) as running:
        running.start()
        yield running
        assert not running.registry()


@pytest.fixture
def chat(server: ServerProcess) -> Iterator[str]:
    """A scripted endpoint without faults or calls; gone at the end."""
    server.call("POST", "lakeport/endpoints", {"name": CHAT, "scripted": SCRIPT})
    server.call("DELETE", "lakeport/calls")
    yield CHAT
    server.call("DELETE", f"lakeport/endpoints/{CHAT}")


@pytest.fixture
def sockets(server: ServerProcess) -> Path:
    return Path(server.call("GET", "lakeport/workspace")["sockets"])


@pytest.fixture
def ann(server: ServerProcess) -> httpx.Client:
    """A caller who is no admin."""
    return httpx.Client(
        base_url=server.client.base_url, headers={"Authorization": f"Bearer {token_of(server)}"}
    )


def token_of(server: ServerProcess, caller: str = "ann") -> str:
    code = "import sys; from lakeport.cli.main import main; main()"
    made = subprocess.run(
        [sys.executable, "-c", code, "token", "--home", str(server.home), "--caller", caller],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return made.stdout.strip()


def add(server: ServerProcess, kind: str, **fields: Any) -> dict[str, Any]:
    return server.call("POST", "lakeport/faults", {"endpoint": CHAT, "kind": kind, **fields})


def calls(server: ServerProcess, endpoint: str = CHAT) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.call("GET", f"lakeport/calls?endpoint={endpoint}")["calls"]
    return found


def sdk(server: ServerProcess) -> WorkspaceClient:
    """The unmodified SDK, which does not try for five minutes."""
    host = str(server.client.base_url)
    config = Config(host=host, token=server.token, auth_type="pat", retry_timeout_seconds=10)
    return WorkspaceClient(config=config)


def taken(pieces: Iterator[bytes]) -> tuple[bytes, str]:
    """What came of an answer, and why no more did."""
    got = b""
    try:
        for piece in pieces:
            got += piece
    except httpx.RemoteProtocolError as broken:
        return got, str(broken)
    return got, ""


# --- faults -------------------------------------------------------------------------------------


def test_an_endpoint_answers_as_usual_without_a_fault_and_the_calls_are_known(
    server: ServerProcess, chat: str
) -> None:
    packed = gzip.compress(json.dumps(HI).encode())
    server.ask(chat, HI)
    server.ask(chat, HI | {"stream": True})
    server.client.post(
        f"/serving-endpoints/{chat}/invocations",
        content=packed,
        headers={"Content-Type": "application/json", "Content-Encoding": "gzip"},
    )
    server.client.post(f"/serving-endpoints/{chat}/invocations", content=b"no json")

    found = calls(server)

    assert [call["request"] for call in found] == [HI, HI | {"stream": True}, HI, None]
    assert [call["body"] for call in found] == [None, None, None, "no json"]
    assert [call["stream"] for call in found] == [False, True, False, False]
    assert [call["status"] for call in found] == [200, 200, 200, 400]
    assert {call["caller"] for call in found} == {"admin"}
    assert [call["served_entity"] for call in found] == [CHAT] * 4
    assert all(0 <= call["seconds"] < 60 and call["fault"] is None for call in found)
    assert server.token not in json.dumps(found)


def test_the_next_calls_get_the_status_that_was_asked_for(server: ServerProcess, chat: str) -> None:
    fault = add(server, "status", status=429, retry_after=7, times=2)

    answers = [server.ask(chat, HI) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [429, 429, 200]
    assert answers[0].headers["retry-after"] == "7"
    assert answers[0].json()["error_code"] == "REQUEST_LIMIT_EXCEEDED"
    assert [call["fault"] for call in calls(server)] == [fault["id"], fault["id"], None]
    (listed,) = server.call("GET", f"lakeport/faults?endpoint={chat}")["faults"]
    assert (listed["left"], listed["hits"]) == (0, 2)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 413, 429, 500, 502, 503, 504])
def test_each_status_reaches_the_sdk_with_its_code(
    server: ServerProcess, chat: str, status: int
) -> None:
    add(server, "status", status=status, times=1, error_code="MY_CODE", message="Mine.")

    answer = server.ask(chat, HI)

    assert answer.status_code == status
    assert (answer.json()["error_code"], answer.json()["message"]) == ("MY_CODE", "Mine.")
    assert answer.json()["details"][0]["request_id"] == answer.headers["x-request-id"]


def test_the_sdk_sends_what_may_be_sent_again_and_raises_what_may_not(
    server: ServerProcess, chat: str
) -> None:
    client = sdk(server)
    add(server, "status", status=503, times=1)
    messages: Any = [{"role": "user", "content": "hi bob"}]

    answer = client.api_client.do(
        "POST", f"/serving-endpoints/{chat}/invocations", body={"messages": messages}
    )

    assert "Hello bob" in json.dumps(answer)
    assert [call["status"] for call in calls(server)] == [503, 200]
    add(server, "status", status=500)
    with pytest.raises(InternalError, match="failed to answer"):
        client.api_client.do("POST", f"/serving-endpoints/{chat}/invocations", body=HI)


def test_it_answers_late_or_wakes(server: ServerProcess, chat: str) -> None:
    for kind in ("slow", "wake"):
        add(server, kind, seconds=0.3, times=1)
        began = time.monotonic()

        assert server.ask(chat, HI).status_code == 200
        assert time.monotonic() - began >= 0.3


def test_it_times_out_with_504_after_the_servers_own_time_or_another(
    server: ServerProcess, chat: str
) -> None:
    for given, least in (({}, 1.0), ({"seconds": 0.2}, 0.2)):
        add(server, "timeout", times=1, **given)
        began = time.monotonic()

        answer = server.ask(chat, HI)

        assert (answer.status_code, answer.json()["error_code"]) == (504, "DEADLINE_EXCEEDED")
        assert time.monotonic() - began >= least


def test_a_caller_who_leaves_is_noted(server: ServerProcess, chat: str) -> None:
    add(server, "slow", seconds=60, times=1)

    with pytest.raises(httpx.ReadTimeout):
        server.ask(chat, HI, timeout=0.2)

    wait_for(lambda: calls(server)[0]["status"] == 499, what="the end of the call")


def test_a_cut_comes_before_the_answer_or_in_the_midst_of_it(
    server: ServerProcess, chat: str
) -> None:
    add(server, "cut", times=1)
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        server.ask(chat, HI)
    for after in (0, 10, 10_000_000):
        add(server, "cut", after=after, times=1)
        path = f"/serving-endpoints/{chat}/invocations"
        with server.client.stream("POST", path, json=HI) as half:
            got, why = taken(half.iter_raw())

        assert "complete message body" in why
        assert len(got) == min(after, int(half.headers["content-length"]) - 1)
    assert server.ask(chat, HI).status_code == 200
    assert [call["status"] for call in calls(server)] == [None, 200, 200, 200, 200]


@pytest.mark.parametrize("after", [0, 2, 1000])
def test_a_cut_stream_has_no_end_and_no_error(server: ServerProcess, chat: str, after: int) -> None:
    add(server, "cut", after=after)
    path = f"/serving-endpoints/{chat}/invocations"

    with server.client.stream("POST", path, json=HI | {"stream": True}) as answer:
        got, why = taken(answer.iter_raw())

    seen = [line for line in got.decode().splitlines() if line]
    assert "incomplete chunked read" in why
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert not any("[DONE]" in line or '"error"' in line for line in seen)
    assert len(seen) == after if after < 1000 else len(seen) > 3


def test_a_cut_stream_breaks_an_openai_client_too(server: ServerProcess, chat: str) -> None:
    add(server, "cut", after=2)
    base = f"{server.client.base_url}/serving-endpoints"
    with OpenAI(base_url=base, api_key=server.token, max_retries=0) as client:
        messages: Any = HI["messages"]
        stream = client.chat.completions.create(model=chat, messages=messages, stream=True)
        seen: list[Any] = []

        with pytest.raises((APIConnectionError, httpx.RemoteProtocolError)):
            seen += iter(stream)
        assert len(seen) == 2

        server.call("DELETE", "lakeport/faults")
        add(server, "cut")
        with pytest.raises(APIConnectionError):
            client.chat.completions.create(model=chat, messages=messages)


def test_nothing_follows_a_cut_on_its_connection(server: ServerProcess, chat: str) -> None:
    add(server, "cut")
    body = json.dumps(HI).encode()
    head = (
        f"POST /serving-endpoints/{chat}/invocations HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {server.token}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(server.address, timeout=10) as connection:
        connection.sendall(head.encode() + body)

        assert connection.recv(1000) == b""


def test_a_body_that_is_no_json(server: ServerProcess, chat: str) -> None:
    add(server, "bad_json", times=1)

    answer = server.ask(chat, HI)

    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    with pytest.raises(json.JSONDecodeError):
        answer.json()


def test_reads_of_the_endpoint_meet_their_own_faults(server: ServerProcess, chat: str) -> None:
    path = f"/api/2.0/serving-endpoints/{chat}"
    for kind, fields in (
        ("status", {"status": 404}),
        ("slow", {"seconds": 0.2}),
        ("timeout", {"seconds": 0.2}),
    ):
        add(server, kind, **fields, on="get", times=1)
    seen = [server.client.get(path).status_code for _ in range(4)]
    add(server, "cut", on="get", times=1)

    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        server.client.get(f"{path}/openapi")

    assert seen == [404, 200, 504, 200]
    assert server.ask(chat, HI).status_code == 200
    assert server.client.get(path).status_code == 200


@pytest.mark.parametrize(
    ("update", "status"), [(None, 503), ("IN_PROGRESS", 503), ("UPDATE_FAILED", 400)]
)
def test_an_endpoint_shows_a_state_and_answers_as_one_in_it(
    server: ServerProcess, chat: str, update: str | None, status: int
) -> None:
    add(
        server, "state", ready="NOT_READY", times=2, **({"config_update": update} if update else {})
    )
    shown = {"ready": "NOT_READY", "config_update": update or "NOT_UPDATING"}

    assert server.ask(chat, HI).status_code == status
    listed = server.call("GET", "serving-endpoints")["endpoints"]
    assert [e["state"] for e in listed if e["name"] == chat] == [shown]
    assert server.get(chat)["state"] == shown
    assert server.get(chat)["state"] == {"ready": "READY", "config_update": "NOT_UPDATING"}
    assert server.ask(chat, HI).status_code == 200


def test_the_sdk_waits_while_an_endpoint_shows_that_it_is_updated(
    server: ServerProcess, chat: str
) -> None:
    add(server, "state", config_update="IN_PROGRESS", times=1)

    endpoint = sdk(server).serving_endpoints.wait_get_serving_endpoint_not_updating(chat)

    assert endpoint.name == chat
    assert server.call("GET", "lakeport/faults")["faults"][0]["left"] == 0


def test_a_fault_is_taken_away_alone_or_with_all_others(server: ServerProcess, chat: str) -> None:
    first, second = add(server, "bad_json"), add(server, "status", status=500)

    server.call("DELETE", f"lakeport/faults/{first['id']}")
    assert [f["id"] for f in server.call("GET", "lakeport/faults")["faults"]] == [second["id"]]
    server.call("DELETE", f"lakeport/faults?endpoint={chat}")
    assert server.ask(chat, HI).status_code == 200
    gone = server.client.delete(f"{LAKEPORT}/faults/{first['id']}")
    assert (gone.status_code, gone.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"kind": "nope"}, "kind"),
        ({}, "kind"),
        ({"kind": "slow", "seconds": 0}, "seconds"),
        ({"kind": "slow", "seconds": True}, "seconds"),
        ({"kind": "slow", "seconds": 1e9}, "seconds"),
        ({"kind": "slow"}, "seconds"),
        ({"kind": "status", "status": 200}, "status"),
        ({"kind": "status", "status": 429, "retry_after": 0}, "retry_after"),
        ({"kind": "status", "status": 500, "error_code": "no code"}, "error_code"),
        ({"kind": "cut", "after": -1}, "after"),
        ({"kind": "state", "ready": "MAYBE"}, "ready"),
        ({"kind": "state", "config_update": "SOON"}, "config_update"),
        ({"kind": "bad_json", "times": 0}, "times"),
        ({"kind": "bad_json", "probability": 1.5}, "probability"),
        ({"kind": "bad_json", "on": "delete"}, "on"),
        ({"kind": "bad_json", "probabilty": 0.5}, "probabilty"),
    ],
)
def test_a_fault_that_cannot_be_is_refused_by_its_field(
    server: ServerProcess, chat: str, fields: dict[str, Any], named: str
) -> None:
    answer = server.client.post(f"{LAKEPORT}/faults", json={"endpoint": chat, **fields})

    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert answer.json()["message"].startswith(f"{named}: ")


def test_a_fault_needs_an_endpoint_that_is_there(server: ServerProcess) -> None:
    answer = server.client.post(f"{LAKEPORT}/faults", json={"endpoint": "no", "kind": "cut"})

    assert (answer.status_code, answer.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


def test_the_command_line_adds_lists_and_clears(server: ServerProcess, chat: str) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        environ = {
            "DATABRICKS_HOST": str(server.client.base_url), "DATABRICKS_TOKEN": server.token,
        }  # fmt: skip
        done = CliRunner(env=environ).invoke(lakeport, ["faults", *arguments])
        return done.exit_code, done.output

    code, id = run("add", chat, "503", "--retry-after", "2", "--times", "1")
    assert (code, server.ask(chat, HI).status_code) == (0, 503)
    assert run("list", chat) == (0, f"{id.strip()}\t{chat}\t503 retry_after=2\t0\t1\n")
    run("add", chat, "slow", "--seconds", "1500ms", "--on", "get", "--probability", "0")
    assert f"{chat}\tslow seconds=1.5 probability=0.0 on=get\tno end\t0" in run("list")[1]
    assert run("clear", "--id", id.strip()) == (0, "")
    assert len(server.call("GET", "lakeport/faults")["faults"]) == 1
    assert run("clear", chat) == (0, "")
    assert run("list") == (0, "")

    code, told = run("add", chat, "slow")
    assert (code, "seconds" in told) == (1, True)
    assert run("add", chat, "tired")[0] == 2
    assert run("add", "nobody", "cut")[0] == 3
    assert run("clear", chat, "--id", "f1")[0] == 2


# --- who may ------------------------------------------------------------------------------------


def test_others_need_can_manage_to_see_to_faults_and_calls(
    server: ServerProcess, chat: str, ann: httpx.Client
) -> None:
    fault = {"endpoint": chat, "kind": "status", "status": 500}
    mine = server.call("POST", "lakeport/faults", {"endpoint": chat, "kind": "cut", "times": 1})
    path = f"/serving-endpoints/{chat}/invocations"
    with pytest.raises(httpx.RemoteProtocolError):
        ann.post(path, json=HI)  # may query it, so it meets the fault

    refused = [
        ann.post(f"{LAKEPORT}/faults", json=fault),
        ann.delete(f"{LAKEPORT}/faults?endpoint={chat}"),
        ann.get(f"{LAKEPORT}/calls?endpoint={chat}"),
        ann.delete(f"{LAKEPORT}/calls?endpoint={chat}"),
        ann.delete(f"{LAKEPORT}/endpoints/{chat}"),
        ann.post(f"{LAKEPORT}/endpoints", json={"name": "x", "scripted": SCRIPT}),
        ann.get(f"{LAKEPORT}/workspace"),
    ]

    assert [answer.json()["error_code"] for answer in refused] == ["PERMISSION_DENIED"] * 7
    assert ann.delete(f"{LAKEPORT}/faults/{mine['id']}").status_code == 404
    assert ann.get(f"{LAKEPORT}/faults").json() == {"faults": []}
    assert ann.get(f"{LAKEPORT}/calls").json() == {"calls": []}
    assert ann.delete(f"{LAKEPORT}/faults").status_code == 200
    assert ann.delete(f"{LAKEPORT}/calls").status_code == 200
    assert [call["caller"] for call in calls(server)] == ["ann"]
    assert len(server.call("GET", "lakeport/faults")["faults"]) == 1

    id = server.get(chat)["id"]
    grant = {"user_name": "ann", "permission_level": "CAN_MANAGE"}
    server.call("PATCH", f"permissions/serving-endpoints/{id}", {"access_control_list": [grant]})
    assert ann.post(f"{LAKEPORT}/faults", json=fault).status_code == 200
    assert ann.get(f"{LAKEPORT}/calls").json()["calls"]


def test_a_caller_without_the_right_to_query_meets_no_fault(
    server: ServerProcess, chat: str, ann: httpx.Client
) -> None:
    id = server.get(chat)["id"]
    server.call("PUT", f"permissions/serving-endpoints/{id}", {"access_control_list": []})
    fault = add(server, "status", status=500, times=1)

    answer = ann.post(f"/serving-endpoints/{chat}/invocations", json=HI)

    assert (answer.status_code, answer.json()["error_code"]) == (403, "PERMISSION_DENIED")
    (listed,) = server.call("GET", "lakeport/faults")["faults"]
    assert (listed["id"], listed["hits"]) == (fault["id"], 0)


# --- endpoints of a test's own ------------------------------------------------------------------


def test_a_process_that_joins_answers_at_once(server: ServerProcess, sockets: Path) -> None:
    def answer(note: dict[str, Any], body: Any) -> Any:
        return Stream([{"n": 1}, {"n": 2}]) if body.get("stream") else {"predictions": [note, body]}

    with joined(sockets / "a.sock", answer) as process:
        made = server.call(
            "POST",
            "lakeport/endpoints",
            {"name": "fn", "joined": {"address": process.address, "task": "llm/v1/chat"}},
        )
        plain = server.ask("fn", {"inputs": [1, 2]})
        by_route = server.client.post("/serving-endpoints/chat/completions", json={"model": "fn"})
        streamed = server.ask("fn", {"stream": True})
        server.call("DELETE", "serving-endpoints/fn")

    assert made["state"] == {"ready": "READY", "config_update": "NOT_UPDATING"}
    assert (made["task"], made["id"] != "", made["permission_level"]) == (
        "llm/v1/chat", True, "CAN_MANAGE",
    )  # fmt: skip
    (shown,) = made["config"]["served_entities"]
    assert (shown["entity_name"], shown["entity_version"]) == ("fn", "1")
    assert plain.json()["predictions"][1] == {"inputs": [1, 2]}
    assert by_route.json()["predictions"][0]["operation"] == "chat/completions"
    assert by_route.json()["predictions"][1] == {"model": "fn"}
    assert streamed.text == 'data: {"n":1}\n\ndata: {"n":2}\n\ndata: [DONE]\n\n'
    assert server.ask("fn", {}).status_code == 404


def test_a_breakpoint_may_take_longer_than_a_request_may(
    server: ServerProcess, sockets: Path
) -> None:
    with joined(sockets / "b.sock", waits(1.7)) as process:  # a request has one second here
        server.call(
            "POST", "lakeport/endpoints", {"name": "slow", "joined": {"address": process.address}}
        )
        answer = server.ask("slow", {"inputs": [1]})
        state = server.get("slow")["state"]
        kinds = [event["kind"] for event in server.events("slow")]
        server.call("DELETE", "lakeport/endpoints/slow")

    assert (answer.status_code, answer.json()["predictions"]) == (200, {"inputs": [1]})
    assert answer.json()["note"]["seconds_left"] > 80_000
    assert state["ready"] == "READY"
    assert "replica_hung" not in kinds


def test_an_endpoint_whose_process_is_gone_is_not_ready_until_it_is_back(
    server: ServerProcess, sockets: Path
) -> None:
    process = JoinedProcess(sockets / "c.sock", waits(0))
    wish = {"name": "gone", "joined": {"address": process.address}}
    server.call("POST", "lakeport/endpoints", wish)
    process.close()
    wait_for(lambda: server.get("gone")["state"]["ready"] == "NOT_READY", what="its loss")

    refused = server.ask("gone", {"inputs": [1]})

    assert (refused.status_code, refused.json()["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE")
    with joined(sockets / "c.sock", waits(0)):
        wait_for(lambda: server.get("gone")["state"]["ready"] == "READY", what="its return")
        assert server.ask("gone", {"inputs": [1]}).status_code == 200
        server.call("DELETE", "lakeport/endpoints/gone")


def test_an_endpoint_made_here_replaces_its_own_kind_and_no_other(
    server: ServerProcess, sockets: Path, chat: str
) -> None:
    server.call("POST", "serving-endpoints", {"name": "stored"})

    with joined(sockets / "d.sock", lambda note, body: {"predictions": "new"}) as process:
        wish = {"joined": {"address": process.address}}
        server.call("POST", "lakeport/endpoints", {"name": chat, **wish})
        replaced = server.ask(chat, {}).json()
        refused = server.client.post(f"{LAKEPORT}/endpoints", json={"name": "stored", **wish})
        kept = server.client.delete(f"{LAKEPORT}/endpoints/stored")

    server.call("DELETE", "serving-endpoints/stored")
    assert replaced == {"predictions": "new"}
    assert (refused.status_code, refused.json()["error_code"]) == (409, "RESOURCE_ALREADY_EXISTS")
    assert (kept.status_code, kept.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")


def test_a_folder_with_a_model_is_served_from_memory(
    server: ServerProcess, saved_model: SavedModel
) -> None:
    folder = str(saved_model("params"))

    server.call("POST", "lakeport/endpoints", {"name": "folder", "model": {"path": folder}})
    server.updated("folder")

    assert server.ask("folder", {"inputs": [{"x": 1.0}]}).status_code == 200
    server.call("DELETE", "lakeport/endpoints/folder")


@pytest.mark.parametrize(
    ("wish", "named"),
    [
        ({"name": "x"}, "joined"),
        ({"name": "x", "scripted": {}, "model": {"path": "/"}}, "joined"),
        ({"name": "x y", "scripted": {}}, "name"),
        ({"name": "x", "scripted": {"rulez": []}}, "scripted"),
        ({"name": "x", "scripted": {"rules": [{"match": "("}]}}, "scripted"),
        ({"name": "x", "scripted": {}, "task": "llm/v2/chat"}, "task"),
        ({"name": "x", "joined": {"address": "unix:/etc/passwd#x"}}, "joined.address"),
        ({"name": "x", "joined": {"address": "tcp:127.0.0.1:80#x"}}, "joined.address"),
        ({"name": "x", "joined": {"address": ""}}, "joined.address"),
        ({"name": "x", "joined": {"address": "unix:/a#b"}, "task": "llm/v1/chat"}, "task"),
        ({"name": "x", "joined": {"address": "unix:/a#b", "task": "chat"}}, "joined.task"),
        ({"name": "x", "model": {"path": "relative"}}, "model.path"),
        ({"name": "x", "model": {"path": "/nowhere"}}, "model.path"),
        ({"name": "x", "modell": {"path": "/"}}, "modell"),
    ],
)
def test_an_endpoint_that_cannot_be_is_refused_by_its_field(
    server: ServerProcess, wish: dict[str, Any], named: str
) -> None:
    answer = server.client.post(f"{LAKEPORT}/endpoints", json=wish)

    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert answer.json()["message"].startswith(f"{named}: ")
    assert "x" not in {e["name"] for e in server.call("GET", "serving-endpoints")["endpoints"]}


def test_a_refused_address_tells_no_secret(server: ServerProcess, sockets: Path) -> None:
    secret = "s3cr3t" * 5
    for path in (sockets / "none.sock", Path("/etc/passwd")):
        answer = server.client.post(
            f"{LAKEPORT}/endpoints",
            json={"name": "x", "joined": {"address": f"unix:{path}#{secret}"}},
        )
        assert answer.status_code == 400
        assert secret not in answer.text

    assert secret not in server.said()


def test_what_a_test_made_is_gone_with_the_server(tmp_path: Path) -> None:
    with closing(ServerProcess(tmp_path / "home", faults=True, registry="off")) as server:
        server.start()
        server.call("POST", "lakeport/endpoints", {"name": CHAT, "scripted": SCRIPT})
        server.terminate()

        server.start()

        assert server.call("GET", "serving-endpoints").get("endpoints", []) == []


def test_without_the_setting_there_are_no_such_routes(tmp_path: Path) -> None:
    with closing(ServerProcess(tmp_path / "home", registry="off")) as server:
        server.start()

        answers = [
            server.client.request(method, f"{LAKEPORT}/{path}", json={})
            for method, path in (
                ("GET", "faults"), ("POST", "faults"), ("DELETE", "faults"),
                ("DELETE", "faults/f1"), ("POST", "endpoints"), ("DELETE", "endpoints/x"),
                ("GET", "calls"), ("DELETE", "calls"), ("GET", "workspace"),
            )
        ]  # fmt: skip
        shown = server.client.get("/openapi.json").json()["paths"]

    assert {(a.status_code, a.json()["error_code"]) for a in answers} == {
        (404, "ENDPOINT_NOT_FOUND")
    }
    assert not [path for path in shown if path.startswith(f"{LAKEPORT}/faults")]
