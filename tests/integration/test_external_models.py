"""External models in a running server: asked through the API, their keys nowhere in clear.

A provider server of the tests runs beside it; everything that the server said, wrote and answered
is searched for the keys.
"""

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.server import ServerProcess, closing, wait_for
from tests.provider.provider import Asked, Out, Provider, chunk, completion, proper, running

SECRET = "canary-secret-5d1c7ae0b94f"
PLAIN = "canary-plain-83be60d2a17c"
REFERENCE = "{{secrets/llm/provider}}"
CHAT = {"messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    """Runs in a thread of its own."""
    started: list[Provider] = []
    ready, stop = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with running() as one:
            started.append(one)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert ready.wait(10)
    try:
        yield started[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


@dataclass
class World:
    server: ServerProcess
    provider: Provider
    #: Bodies and headers of what it answered.
    answers: list[str] = field(default_factory=list)

    def ask(self, endpoint: str, body: object = CHAT) -> httpx.Response:
        answer = self.server.ask(endpoint, body)
        self.answers.append(f"{answer.headers} {answer.text}")
        return answer

    def described(self, endpoint: str) -> str:
        text = json.dumps(self.server.get(endpoint))
        self.answers.append(text)
        return text


@pytest.fixture(scope="module")
def world(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home = tmp_path_factory.mktemp("external") / "home"
    server = ServerProcess(
        home,
        registry="off",
        log_level="debug",
        egress_allow="127.0.0.1",
        chat=f"databricks-claude-sonnet-4={provider.url}#llama3.2",
    )
    with closing(server):
        server.start()
        server.call("POST", "secrets/scopes/create", {"scope": "llm"})
        secret = {"scope": "llm", "key": "provider", "string_value": SECRET}
        server.call("POST", "secrets/put", secret)
        server.create("by-secret", external(provider.url, {"token": REFERENCE}))
        server.create("by-key", external(provider.url, {"token_plaintext": PLAIN}))
        yield World(server, provider)


@pytest.fixture(autouse=True)
def _proper(provider: Provider) -> None:
    provider.behaviour = proper
    provider.asked.clear()


def external(url: str, auth: dict[str, str]) -> dict[str, Any]:
    model = {
        "provider": "custom",
        "name": "m-7",
        "task": "llm/v1/chat",
        "custom_provider_config": {"custom_provider_url": url, "bearer_token_auth": auth},
    }
    return {"name": "outside", "external_model": model}


def test_an_answer_comes_as_the_provider_gave_it(world: World) -> None:
    answer = world.ask("by-secret", CHAT | {"temperature": 0.5, "made_up": [1]})

    assert answer.status_code == 200
    assert answer.json() == completion()
    asked = world.provider.asked[0]
    assert asked.document == CHAT | {"temperature": 0.5, "made_up": [1], "model": "m-7"}
    assert asked.headers["authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize(
    ("endpoint", "model", "sent"),
    [
        ("by-key", "m-7", f"Bearer {PLAIN}"),
        ("databricks-claude-sonnet-4", "llama3.2", None),
    ],
)
def test_other_keys_and_names(world: World, endpoint: str, model: str, sent: str | None) -> None:
    assert world.ask(endpoint).status_code == 200
    asked = world.provider.asked[0]
    assert asked.document["model"] == model
    assert asked.headers.get("authorization") == sent


def test_a_stream(world: World) -> None:
    answer = world.ask("by-secret", CHAT | {"stream": True, "max_tokens": 50})

    assert answer.headers["content-type"].startswith("text/event-stream")
    *events, end, last = answer.text.split("\n\n")
    assert (end, last) == ("data: [DONE]", "")
    documents = [json.loads(event.removeprefix("data: ")) for event in events]
    said = [d["choices"][0]["delta"].get("content", "") for d in documents]
    assert "".join(said) == "".join(f"w{n} " for n in range(50))
    assert world.provider.asked[0].document["stream_options"] == {"include_usage": True}


def test_a_stream_that_breaks_ends_with_an_error_and_no_done(world: World) -> None:
    async def breaks(asked: Asked, out: Out) -> None:
        await out.begin()
        await out.event(chunk("Hi"))
        await asyncio.sleep(0.05)
        out.reset()

    world.provider.behaviour = breaks
    answer = world.ask("by-secret", CHAT | {"stream": True})

    *_, last, _ = answer.text.split("\n\n")
    error = json.loads(last.removeprefix("data: "))["error"]
    assert error["code"] == "BAD_GATEWAY"
    assert "broke off" in error["message"]
    assert "[DONE]" not in answer.text


def test_a_refused_key_is_not_our_callers(world: World) -> None:
    async def refuses(asked: Asked, out: Out) -> None:
        text = f"bad key {asked.headers['authorization']}"
        await out.whole({"error": {"message": text}}, 401)

    world.provider.behaviour = refuses
    for body in (CHAT, CHAT | {"stream": True}):
        answer = world.ask("by-secret", body)
        assert answer.status_code == 502
        assert answer.json()["error_code"] == "BAD_GATEWAY"
        assert "refused the key that this endpoint has" in answer.json()["message"]


def test_a_provider_that_is_busy(world: World) -> None:
    async def busy(asked: Asked, out: Out) -> None:
        await out.whole({"error": {"message": "slow down"}}, 429, {"Retry-After": "7"})

    world.provider.behaviour = busy
    answer = world.ask("by-secret")

    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    assert "slow down" in answer.text


def test_a_caller_who_hangs_up_is_seen_by_the_provider(world: World) -> None:
    async def silent(asked: Asked, out: Out) -> None:
        await out.begin()
        await out.event(chunk("Hi"))
        await asyncio.sleep(60)

    world.provider.behaviour = silent
    path = "/serving-endpoints/by-secret/invocations"
    with world.server.client.stream("POST", path, json=CHAT | {"stream": True}) as answer:
        pieces = answer.iter_raw()  # kept, since httpx closes the answer with its iterator
        assert next(pieces)
        busy = world.provider.open
    wait_for(lambda: world.provider.open < busy, what="the connection's end")


def test_a_url_that_the_guard_refuses(world: World) -> None:
    url = "https://169.254.169.254/v1"
    wish = {
        "name": "forbidden",
        "config": {"served_entities": [external(url, {"token": REFERENCE})]},
    }
    answer = world.server.client.post("/api/2.0/serving-endpoints", json=wish)

    assert answer.status_code == 400
    assert "custom_provider_url: the URL is not allowed: it is at a private" in answer.text


def test_keys_are_nowhere_in_clear(world: World) -> None:
    for endpoint in ("by-secret", "by-key"):
        assert world.ask(endpoint).status_code == 200
    described = world.described("by-secret") + world.described("by-key")
    assert REFERENCE in described
    logs = world.server.client.get("/api/2.0/serving-endpoints/by-key/served-models/outside/logs")
    events = json.dumps(world.server.events("by-key"))
    metrics = world.server.client.get("/metrics").text
    told = "".join([*world.answers, described, logs.text, events, metrics, world.server.said()])
    written = b"".join(f.read_bytes() for f in Path(world.server.home).rglob("*") if f.is_file())
    for key in (SECRET, PLAIN):
        assert key not in told
        assert key.encode() not in written


def test_endpoints_serve_again_after_a_restart(world: World) -> None:
    world.server.terminate()
    world.server.start()
    for endpoint in ("by-secret", "by-key", "databricks-claude-sonnet-4"):
        world.server.updated(endpoint)
        assert world.ask(endpoint).status_code == 200
    sent = [asked.headers.get("authorization") for asked in world.provider.asked]
    assert sent == [f"Bearer {SECRET}", f"Bearer {PLAIN}", None]
