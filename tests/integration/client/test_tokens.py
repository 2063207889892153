"""Both clients: tokens and proxies."""

import asyncio
import logging

import pytest

from lakeport import AsyncClient, Client
from lakeport.client.errors import (
    ConfigError,
    ConnectionFailed,
    LakeportError,
)
from tests.integration.client.calls import ANSWER, ONCE, QUICK, TOKEN, Call, ask
from tests.integration.raw_server import (
    RawServer,
    reply,
    stream_head,
)


def test_a_token_is_asked_for_before_each_request(server: RawServer, call: Call) -> None:
    tokens = iter(["t1", "t2"])
    server.answers(reply(503), ANSWER)

    ask(call, token=lambda: next(tokens), retry=QUICK)

    assert [asked.headers["authorization"] for asked in server.asked] == ["Bearer t1", "Bearer t2"]


def test_an_async_token(server: RawServer) -> None:
    async def token() -> str:
        await asyncio.sleep(0)
        return "t3"

    async def main() -> None:
        async with AsyncClient(server.url, token) as client:
            await client.query("iris", body={"inputs": [1]})

    server.answers(ANSWER)
    asyncio.run(main())

    assert server.asked[0].headers["authorization"] == "Bearer t3"
    with pytest.raises(ConfigError, match="AsyncClient"):
        Client(server.url, token).list()


def test_another_caller_over_the_same_connections(server: RawServer) -> None:
    server.answers(reply(200, {"name": "iris"}))

    with Client(server.url, TOKEN) as client:
        client.get("iris")
        other = client.with_token("theirs")
        other.get("iris", refresh=False)
        other.close()
        client.get("iris")

    assert [asked.headers["authorization"][7:] for asked in server.asked] == [
        TOKEN, "theirs", TOKEN,
    ]  # fmt: skip
    assert {asked.connection for asked in server.asked} == {0}


def test_no_token_in_logs_and_errors(
    server: RawServer, call: Call, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.answers(reply(500, {"message": "no"}), ["reset"], [stream_head(), "close"], ANSWER)
    said = []

    for _ in range(2):
        with pytest.raises(LakeportError) as caught:
            ask(call)
        said.append(f"{caught.value!r} {caught.getrepr(style='long', funcargs=False)}")
    with pytest.raises(LakeportError):
        call("stream_chat", "bot", "Hi")
    ask(call)

    assert TOKEN not in caplog.text
    assert not [text for text in said if TOKEN in text.replace(f"TOKEN = {TOKEN!r}", "")]


def test_a_closed_client_says_so(server: RawServer) -> None:
    client = Client(server.url, TOKEN)
    client.close()

    with pytest.raises(LakeportError, match="closed"):
        client.list()
    assert not server.asked


def test_a_proxy_is_asked_for_what_no_proxy_does_not_name(
    server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers(ANSWER)
    monkeypatch.setenv("HTTP_PROXY", server.url.replace("//", "//user:p%20w@"))

    with Client("http://lakeport.invalid:9", TOKEN, retry=ONCE) as client:
        client.query("iris", body={"inputs": [1]})
    monkeypatch.setenv("NO_PROXY", "lakeport.invalid")
    with (
        Client("http://lakeport.invalid:9", TOKEN, retry=ONCE) as client,
        pytest.raises(ConnectionFailed),
    ):
        client.query("iris", body={"inputs": [1]})

    (asked,) = server.asked
    assert asked.path == "http://lakeport.invalid:9/serving-endpoints/iris/invocations"
    assert asked.headers["proxy-authorization"] == "Basic dXNlcjpwIHc="


def test_https_goes_through_a_tunnel_and_the_token_does_not_go_to_the_proxy(
    server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers(reply(407, {"message": "who are you"}))
    monkeypatch.setenv("HTTPS_PROXY", server.url)

    with (
        Client("https://lakeport.invalid", TOKEN, retry=ONCE) as client,
        pytest.raises(ConnectionFailed, match="proxy") as caught,
    ):
        client.query("iris", body={"inputs": [1]})

    (asked,) = server.asked
    assert (asked.method, asked.path) == ("CONNECT", "lakeport.invalid:443")
    assert "authorization" not in asked.headers
    assert not caught.value.sent


@pytest.mark.parametrize(
    ("name", "value"),
    [("HTTPS_PROXY", "ftp://me:secret-9@x"), ("SSL_CERT_FILE", "/no/such/file.pem")],
)
def test_what_cannot_be_used_is_told_when_the_client_is_made(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigError, match=name) as caught:
        Client("https://lakeport.invalid", TOKEN)

    assert "secret-9" not in str(caught.value)
