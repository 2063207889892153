"""How a link gets to its server: TLS, proxies, and names that resolve to what is private."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest

from lakeport.providers.egress import EgressGuard
from lakeport.providers.transport import Outside
from lakeport.runtimes.base import ReplicaLost
from tests.provider import certificates
from tests.provider.certificates import Certificates
from tests.provider.client import (
    KEY,
    answer_of,
    call,
    linked,
    outside,
    problem,
    stream_of,
    taken,
    words,
)
from tests.provider.provider import running
from tests.provider.proxy import proxying

NAME = "model.example"


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates.make(tmp_path_factory.mktemp("certificates"), NAME)


@pytest.fixture
def trusted(certs: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certs.authority))


def resolving(
    monkeypatch: pytest.MonkeyPatch, *answers: list[str]
) -> Callable[[], list[tuple[str, int]]]:
    """Names resolve to the next of `answers`, the last of them again and again; returns what was
    looked up."""
    looked_up: list[tuple[str, int]] = []
    left = list(answers)

    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        looked_up.append((host, port))
        found = left.pop(0) if len(left) > 1 else left[0]
        return [
            (
                socket.AF_INET6 if ":" in address else socket.AF_INET,
                socket.SOCK_STREAM,
                6,
                "",
                (address, port, 0, 0) if ":" in address else (address, port),
            )
            for address in found
        ]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    return lambda: looked_up


# --- TLS ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("trusted")
async def test_tls_with_an_authority_of_ssl_cert_file(certs: Certificates) -> None:
    async with running(tls=certs.server) as provider, linked(provider.url) as link:
        assert provider.url.startswith("https://")
        assert (await answer_of(link, call())).status == 200
        stream = await stream_of(link, call({"max_tokens": 20}, stream=True))
        assert words(await taken(stream)) == "".join(f"w{n} " for n in range(20))


@pytest.mark.usefixtures("trusted")
async def test_hanging_up_over_tls_is_seen_at_once(certs: Certificates) -> None:
    async with running(tls=certs.server) as provider, linked(provider.url) as link:
        stream = await stream_of(link, call({"max_tokens": 100_000}, stream=True))
        stream.close()
        await provider.until_open(0)


async def test_a_certificate_of_nobody(certs: Certificates) -> None:
    async with running(tls=certs.server) as provider, linked(provider.url) as link:
        answer = await answer_of(link, call())
        assert "certificate that is not trusted" in problem(answer)
        assert provider.asked == []


@pytest.mark.usefixtures("trusted")
async def test_a_certificate_of_another_name(
    certs: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tls=certs.server) as provider:
        way_out = outside("other.example")
        async with linked(f"https://other.example:{provider.port}/v1", way_out=way_out) as link:
            resolving(monkeypatch, ["127.0.0.1"])
            assert "certificate that is not trusted" in problem(await answer_of(link, call()))


async def test_tls_to_a_server_without_it() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    async with server, linked(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1") as link:
        assert "by TLS" in problem(await answer_of(link, call()))


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "found",
    [["127.0.0.1"], ["::ffff:127.0.0.1"], ["93.184.216.34", "127.0.0.1"], ["169.254.169.254"]],
)
async def test_a_name_that_resolves_to_what_is_private_is_refused(
    found: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running() as provider:
        way_out = outside()
        async with linked(f"https://{NAME}:{provider.port}/v1", way_out=way_out) as link:
            resolving(monkeypatch, found)
            answer = await answer_of(link, call())
        assert answer.status == 502
        assert "at an address that is not allowed" in problem(answer)
        assert provider.connections == 0


async def test_a_name_is_looked_up_once_and_what_was_judged_is_connected_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running() as provider:
        way_out = outside("127.0.0.0/8")
        async with linked(f"http://{NAME}:{provider.port}/v1", way_out=way_out) as link:
            # Every look-up after the first leads elsewhere, as with a name that is rebound.
            looked_up = resolving(monkeypatch, ["127.0.0.1"], ["169.254.169.254"])
            assert (await answer_of(link, call())).status == 200
            assert looked_up() == [(NAME, provider.port)]


async def test_a_forbidden_address_makes_no_link() -> None:
    for url in ("https://127.0.0.1/v1", "https://[::1]/v1", "http://example.com/v1"):
        with pytest.raises(ReplicaLost, match="cannot be asked"):
            async with linked(url, way_out=outside()):
                pytest.fail("it was linked")


async def test_what_the_operator_named_is_linked() -> None:
    async with (
        running() as provider,
        linked(provider.url, way_out=outside(), operator=True) as link,
    ):
        assert (await answer_of(link, call())).status == 200


# --- proxies --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("trusted")
async def test_a_proxy_tunnels_and_sees_no_key(certs: Certificates) -> None:
    async with running(tls=certs.server) as provider, proxying(provider.port) as proxy:
        way_out = outside(environ={"HTTPS_PROXY": proxy.url})
        async with linked(f"https://{NAME}/v1", way_out=way_out) as link:
            assert (await answer_of(link, call())).status == 200
            stream = await stream_of(link, call({"max_tokens": 3}, stream=True))
            assert words(await taken(stream)) == "w0 w1 w2 "
        assert proxy.heads[0].startswith(f"CONNECT {NAME}:443 HTTP/1.1\r\n")
        assert all(KEY not in head for head in proxy.heads)
        assert provider.asked[0].headers["authorization"] == f"Bearer {KEY}"
        assert provider.asked[0].headers["host"] == NAME


async def test_a_proxy_for_plain_http() -> None:
    async with running() as provider, proxying(provider.port) as proxy:
        way_out = outside(NAME, environ={"HTTP_PROXY": proxy.url})
        async with linked(f"http://{NAME}/v1", way_out=way_out) as link:
            assert (await answer_of(link, call())).status == 200
        assert proxy.heads[0].startswith(f"POST http://{NAME}/v1/chat/completions HTTP/1.1\r\n")


@pytest.mark.usefixtures("trusted")
async def test_a_proxy_with_a_password(certs: Certificates) -> None:
    async with running(tls=certs.server) as provider, proxying(provider.port) as proxy:
        named = proxy.url.replace("//", "//me:pass%21word@")
        way_out = outside(environ={"HTTPS_PROXY": named})
        async with linked(f"https://{NAME}/v1", way_out=way_out) as link:
            assert (await answer_of(link, call())).status == 200
        assert "Proxy-Authorization: Basic bWU6cGFzcyF3b3Jk\r\n" in proxy.heads[0]
        assert "proxy-authorization" not in provider.asked[0].headers


async def test_what_no_proxy_holds_is_reached_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as provider, proxying(provider.port) as proxy:
        way_out = outside(NAME, environ={"HTTP_PROXY": proxy.url, "NO_PROXY": "example"})
        async with linked(f"http://{NAME}:{provider.port}/v1", way_out=way_out) as link:
            resolving(monkeypatch, ["127.0.0.1"])
            assert (await answer_of(link, call())).status == 200
        assert proxy.heads == []


@pytest.mark.parametrize("status", [403, 407, 502])
async def test_a_proxy_that_refuses(status: int) -> None:
    async with running() as provider, proxying(provider.port, status=status) as proxy:
        way_out = outside(environ={"HTTPS_PROXY": proxy.url})
        async with linked(f"https://{NAME}/v1", way_out=way_out) as link:
            answer = await answer_of(link, call())
    assert "the proxy refused" in problem(answer)


async def test_a_proxy_that_is_away() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        environ = {"HTTPS_PROXY": f"http://127.0.0.1:{held.getsockname()[1]}"}
        async with linked(f"https://{NAME}/v1", way_out=outside(environ=environ)) as link:
            answer = await answer_of(link, call())
    assert "the proxy does not answer" in problem(answer)


@pytest.mark.parametrize("host", ["10.0.0.1", "localhost", "intranet", "a.internal", "[::1]"])
async def test_a_proxy_is_no_way_around_the_guard(host: str) -> None:
    async with running() as provider, proxying(provider.port) as proxy:
        way_out = outside(environ={"HTTPS_PROXY": proxy.url})
        with pytest.raises(ReplicaLost, match="cannot be asked"):
            async with linked(f"https://{host}/v1", way_out=way_out):
                pytest.fail("it was linked")
        assert proxy.heads == []


def test_the_place_and_the_proxy_towards_it() -> None:
    way_out = Outside(EgressGuard(), {"HTTPS_PROXY": "http://proxy.corp:3128"}, 5)
    place, proxy = way_out.look("https://api.example.com/v1", own=False)
    assert place.netloc == "api.example.com:443"
    assert str(proxy) == "http://proxy.corp:3128"
