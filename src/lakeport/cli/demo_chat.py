"""The demo's last act: a chat and a stream, from a model that runs on this machine.

The server is told of the model at its start, so that its weights are fetched while the other acts
are played. Where it cannot be had the act is left out, with the reason: chat is an extra.
databricks-sdk is imported inside functions, for the reason that `demo` gives.
"""

import http.client
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

MODEL = "system.ai.smollm2-135m-instruct"
ENDPOINT = "tiny-chat"
#: For `lakeport serve`.
FLAGS = ("--chat", f"{ENDPOINT}={MODEL}")
#: The first demo fetches 98 MB; later ones find them in uv's cache.
WAIT_SECONDS, POLL_SECONDS = 120, 0.2
MAX_TOKENS = 64
QUESTIONS = ("Name three fruits.", "Why do ducks like water?")


class NoAnswer(Exception):
    """The model is there and did not answer; the message is for people."""


@dataclass(frozen=True, slots=True)
class Used:
    """Tokens of one answer."""

    prompt: int
    completion: int


def play(client: "WorkspaceClient", address: str, token: str, console: Console) -> None:
    """Wait for the model, chat with it, stream from it. Raises NoAnswer."""
    with console.status(f"Waiting for {MODEL} (98 MB, fetched once) ..."):
        reason = why_not(client)
    if reason is not None:
        console.print(f"[yellow]-[/] No chat this time: {escape(reason)}")
        return
    began = time.monotonic()
    text, used = chat(client, QUESTIONS[0])
    console.print(
        f"[green]✓[/] Chatting with [bold]{ENDPOINT}[/], by databricks-sdk "
        f"[dim]{time.monotonic() - began:.1f} s[/]"
    )
    console.print(f"  [dim]you[/] {QUESTIONS[0]}\n  [dim] it[/] {escape(text)}")
    _show(used, console)

    console.print(f"[green]✓[/] A stream, by plain HTTP\n  [dim]you[/] {QUESTIONS[1]}")
    console.print("  [dim] it[/] ", end="")
    used = stream(
        address,
        token,
        QUESTIONS[1],
        lambda piece: console.out(piece.replace("\n", " "), end="", highlight=False),
    )
    console.print()
    _show(used, console)
    console.print(
        f"  Both ran in a process on this machine: {MODEL},\n"
        "  135 million parameters. No key, nothing sent out. Do not believe a word."
    )


def why_not(client: "WorkspaceClient", *, wait: float = WAIT_SECONDS) -> str | None:
    """Wait until the model answers, for `wait` seconds at most; None, or why it does not."""
    from databricks.sdk.service.serving import EndpointStateConfigUpdate, EndpointStateReady

    deadline = time.monotonic() + wait
    while True:
        endpoint = client.serving_endpoints.get(ENDPOINT)
        state = endpoint.state
        if state is not None and state.ready is EndpointStateReady.READY:
            return None
        if state is not None and state.config_update is EndpointStateConfigUpdate.UPDATE_FAILED:
            return _reason(endpoint.as_dict())
        if time.monotonic() > deadline:
            return (
                f"{MODEL} is still being fetched. `lakeport models pull {MODEL}` shows how it goes."
            )
        time.sleep(POLL_SECONDS)


def _reason(endpoint: dict[str, Any]) -> str:
    """Why the endpoint's config failed: the first line of it."""
    entities = endpoint.get("pending_config", {}).get("served_entities", [])
    said = [entity.get("state", {}).get("deployment_state_message") for entity in entities]
    reason = next((text for text in said if text), f"{MODEL} could not be started")
    return str(reason).splitlines()[0]


def chat(client: "WorkspaceClient", question: str) -> tuple[str, Used]:
    """What the model says, whole. Raises NoAnswer."""
    from databricks.sdk.errors.base import DatabricksError
    from databricks.sdk.service.serving import ChatMessage, ChatMessageRole

    try:
        answer = client.serving_endpoints.query(
            name=ENDPOINT,
            messages=[ChatMessage(role=ChatMessageRole.USER, content=question)],
            max_tokens=MAX_TOKENS,
            temperature=0.2,
        )
    except DatabricksError as error:
        raise NoAnswer(str(error)) from error
    message, usage = (answer.choices or [])[0].message, answer.usage
    if message is None or usage is None:
        raise NoAnswer(f"{ENDPOINT} answered without a message or usage: {answer.as_dict()}")
    used = Used(usage.prompt_tokens or 0, usage.completion_tokens or 0)
    return " ".join((message.content or "").split()), used


def stream(address: str, token: str, question: str, heard: Callable[[str], None]) -> Used:
    """Ask for a stream and tell `heard` each piece as it arrives. Raises NoAnswer."""
    body = {
        "model": ENDPOINT,
        "messages": [{"role": "user", "content": question}],
        "max_tokens": MAX_TOKENS,
        "temperature": 0.2,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
    used = None
    try:
        connection.request("POST", "/serving-endpoints/chat/completions", json.dumps(body), headers)
        reply = connection.getresponse()
        if reply.status != http.HTTPStatus.OK:
            raise NoAnswer(f"HTTP {reply.status}: {reply.read(500).decode(errors='replace')}")
        for line in reply:
            data = line.removeprefix(b"data: ").strip()
            if data == b"[DONE]":
                break
            if data:
                used = _heard(json.loads(data), heard) or used
        else:
            raise NoAnswer("the stream ended before its [DONE]")
    except (OSError, http.client.HTTPException) as error:
        raise NoAnswer(f"no answer: {error!r}") from error
    finally:
        connection.close()
    if used is None:
        raise NoAnswer("the stream came without usage")
    return used


def _heard(event: dict[str, Any], heard: Callable[[str], None]) -> Used | None:
    """Pass on what an event says; its usage, if it has one."""
    if "error" in event:
        raise NoAnswer(str(event["error"].get("message")))
    for choice in event["choices"]:
        if piece := choice["delta"].get("content"):
            heard(piece)
    usage = event.get("usage")
    return Used(usage["prompt_tokens"], usage["completion_tokens"]) if usage else None


def _show(used: Used, console: Console) -> None:
    console.print(f"  [dim]{used.prompt} tokens in, {used.completion} out[/]")
