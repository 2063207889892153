"""The front's part in tests of links: calls, and links to a provider server of a test."""

import contextlib
import json
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from lakeport.providers.base import KeyUnavailable
from lakeport.providers.egress import EgressGuard
from lakeport.providers.openai import OpenAILink
from lakeport.providers.runtime import ExternalConnector, address_of
from lakeport.providers.transport import Outside
from lakeport.runtimes.base import Answer, Call, Stream
from lakeport.wire.chat import Operation
from tests.sending import Sent

KEY = "canary-7f3e9b21d5c84a60"
REFERENCE = "{{secrets/llm/key}}"


class FakeVault:
    """One secret in a dictionary."""

    def __init__(self, secrets: Mapping[str, str] | None = None) -> None:
        self.secrets = {REFERENCE: KEY} if secrets is None else dict(secrets)

    async def reveal(self, reference: str) -> str:
        try:
            return self.secrets[reference]
        except KeyError:
            raise KeyUnavailable(f"there is no secret {reference}") from None

    def seal(self, value: str) -> str:
        sealed = f"sealed:{len(self.secrets)}"
        self.secrets[sealed] = value
        return sealed


def external(url: str, **more: Any) -> dict[str, Any]:
    return {
        "provider": "custom",
        "name": "m-7",
        "task": "llm/v1/chat",
        "custom_provider_config": {
            "custom_provider_url": url,
            "bearer_token_auth": {"token": REFERENCE},
        },
        **more,
    }


def outside(*allow: str, environ: Mapping[str, str] | None = None, connect: float = 5) -> Outside:
    return Outside(EgressGuard(allow), environ or {}, connect)


@contextlib.asynccontextmanager
async def linked(
    url: str,
    *,
    idle_timeout: float = 5,
    way_out: Outside | None = None,
    vault: FakeVault | None = None,
    **more: Any,
) -> AsyncIterator[OpenAILink]:
    connector = ExternalConnector(
        vault or FakeVault(), way_out or outside("127.0.0.0/8"), idle_timeout=idle_timeout
    )
    link = await connector.connect(address_of(external(url, **more)))
    assert isinstance(link, OpenAILink)
    try:
        yield link
    finally:
        await link.closed()


def call(
    document: dict[str, Any] | None = None,
    *,
    stream: bool = False,
    seconds: float = 10,
    operation: Operation = Operation.CHAT,
) -> Call:
    body = {"model": "m-7", "messages": [{"role": "user", "content": "Hi"}]} | (document or {})
    if stream:
        body["stream"] = True
    return Call(
        json.dumps(body).encode(),
        "application/json",
        None,
        time.monotonic() + seconds,
        operation,
        stream,
    )


async def answer_of(link: OpenAILink, call: Call) -> Answer:
    result = await Sent(link, call)
    assert isinstance(result, Answer)
    return result


async def stream_of(link: OpenAILink, call: Call) -> Stream:
    result = await Sent(link, call)
    assert not isinstance(result, Answer), result
    return result


async def taken(stream: Stream) -> list[dict[str, Any]]:
    return [json.loads(event) async for event in stream]


def words(events: list[dict[str, Any]]) -> str:
    return "".join(c["delta"].get("content", "") for e in events for c in e["choices"])


def problem(answer: Answer) -> str:
    """The message of our own finding, checked for what it must not hold."""
    assert answer.error is not None, answer
    code, message = answer.error
    assert {502: "BAD_GATEWAY", 503: "TEMPORARILY_UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}[
        answer.status
    ] == code
    assert KEY not in message
    assert "127.0.0.1" not in message
    return message
