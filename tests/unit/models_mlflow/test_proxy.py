"""The proxy between uvicorn and a server that shows what reached it."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from multidict import CIMultiDictProxy
from starlette.types import Message, Receive, Scope, Send
from yarl import URL

from lakeport.api.mlflow import LARGEST_CALL, PAUSE, is_mlflow_path, mlflow_proxy
from lakeport.models.base import RegistryUnavailable
from tests.unit.models_mlflow.support import Handler, serving, upstream_serving

SEARCH = "/api/2.0/mlflow/experiments/search"
ARTIFACT = "/api/2.0/mlflow-artifacts/artifacts/0/file"


class At:
    """An upstream at a URL."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session: aiohttp.ClientSession | None = None

    async def session(self) -> tuple[aiohttp.ClientSession, str]:
        if self._session is None:
            self._session = aiohttp.ClientSession(auto_decompress=False)
        return self._session, self.url

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


class Gone:
    async def session(self) -> tuple[aiohttp.ClientSession, str]:
        raise RegistryUnavailable("The model registry did not come up.")


class Setting:
    """A client, the proxy's URL, and what the server behind it saw."""

    def __init__(self, client: aiohttp.ClientSession, url: str) -> None:
        self.client = client
        self.url = url
        self.written: list[str] = []

    def at(self, path: str) -> URL:
        return URL(self.url + path, encoded=True)


@contextlib.asynccontextmanager
async def proxied(handler: Handler, *, idle: float = 30) -> AsyncIterator[Setting]:
    written: list[str] = []
    async with upstream_serving(handler) as upstream_url, aiohttp.ClientSession() as client:
        upstream = At(upstream_url)
        app = mlflow_proxy(upstream, on_write=written.append, idle=idle)
        async with serving(app) as url:
            setting = Setting(client, url)
            setting.written = written
            yield setting
        await upstream.close()


async def echo(request: web.BaseRequest) -> web.Response:
    return web.json_response(
        {
            "method": request.method,
            "path": request.raw_path,
            "headers": {name.lower(): value for name, value in request.headers.items()},
            "body": (await request.read()).decode(),
        }
    )


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
async def test_a_request_reaches_mlflow_as_it_was_sent(method: str) -> None:
    async with proxied(echo) as at:
        path = SEARCH + "/a%2Fb%20c%25?filter=name%20%3D%20%27x%27&a=1&a=%2B+"
        async with at.client.request(method, at.at(path), data=b"body") as answer:
            seen = await answer.json()

    assert seen["method"] == method
    assert seen["path"] == path
    assert seen["body"] == "body"
    assert seen["headers"]["content-length"] == "4"


async def test_a_body_of_unknown_length_is_passed_on_in_chunks() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"

    async with (
        proxied(echo) as at,
        at.client.put(at.at(ARTIFACT), data=pieces()) as answer,
    ):
        seen = await answer.json()

    assert seen["body"] == "onetwo"
    assert seen["headers"]["transfer-encoding"] == "chunked"


async def test_pieces_of_a_large_body_leave_the_loop_to_others() -> None:
    asked: list[float] = []
    sent: list[Message] = []

    async def receive() -> Message:
        asked.append(asyncio.get_running_loop().time())
        if len(asked) > 5:
            await asyncio.Event().wait()  # the client stays
        return {"type": "http.request", "body": b"x" * 1000, "more_body": len(asked) < 5}

    async def send(message: Message) -> None:
        sent.append(message)

    async with upstream_serving(echo) as url:
        upstream = At(url)
        headers = [(b"transfer-encoding", b"chunked")]
        scope = {"type": "http", "method": "PUT", "path": ARTIFACT, "headers": headers}
        await asyncio.wait_for(mlflow_proxy(upstream)(scope, receive, send), 30)
        await upstream.close()

    assert sent[0]["status"] == 200
    pauses = [later - earlier for earlier, later in itertools.pairwise(asked[:5])]
    assert len(pauses) == 4
    # A bound below: more is up to the machine. Clocks tick in nanoseconds, loops in their own way.
    assert min(pauses) > PAUSE / 2


async def test_who_the_caller_is_stays_with_us() -> None:
    secret = {
        "Authorization": "Bearer t",
        "Cookie": "session=1",
        "Origin": "http://evil.invalid",
        "X-Forwarded-For": "127.0.0.1",
        "X-Forwarded-Host": "evil.invalid",
        "Forwarded": "for=127.0.0.1",
        "Proxy-Authorization": "Basic x",
        "TE": "trailers",
        "X-Of-The-Connection": "1",
        "Connection": "keep-alive, X-Of-The-Connection",
    }
    passed = {"X-Mlflow-Workspace": "w", "User-Agent": "mlflow-python-client"}
    async with (
        proxied(echo) as at,
        at.client.get(at.at(SEARCH), headers=secret | passed) as answer,
    ):
        seen = (await answer.json())["headers"]

    assert not {name.lower() for name in secret} & set(seen) - {"connection"}
    assert {name: seen[name.lower()] for name in passed} == passed
    assert seen["host"] != URL(at.url).authority


async def test_an_answer_reaches_the_client_as_it_was_given() -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        headers = {"ETag": "e", "Set-Cookie": "a=b", "Location": f"http://{request.host}/api/x"}
        response = web.Response(status=307, body=b"{}" * 1000, headers=headers)
        response.enable_compression(web.ContentCoding.gzip)
        return response

    async with (
        proxied(handler) as at,
        at.client.get(at.at(SEARCH), allow_redirects=False) as answer,
    ):
        headers: CIMultiDictProxy[str] = answer.headers
        body = await answer.read()

    assert answer.status == 307
    assert body == b"{}" * 1000
    assert headers["Content-Encoding"] == "gzip"
    assert headers["ETag"] == "e"
    assert headers["Location"] == "/api/x"
    assert "Set-Cookie" not in headers


async def test_head_has_a_length_and_no_body() -> None:
    async def handler(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=b"12345")

    async with proxied(handler) as at, at.client.head(at.at(ARTIFACT)) as answer:
        assert answer.headers["Content-Length"] == "5"
        assert await answer.read() == b""


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (SEARCH + "/../x", 400),
        (SEARCH + "/%2e%2E/x", 400),
        (SEARCH + "/%252e%252e/x", 400),
        (SEARCH + "/..%2fx", 400),
        (SEARCH + "/..%5cx", 400),
        ("/ajax-api/3.0/mlflow/assistant", 403),
        ("/ajax-api/3.0/mlflow/assistant/message", 403),
        ("/ajax-api/3.0/mlflow/%61ssistant/config", 403),
        ("/health", 404),
        ("/get-artifact", 404),
        ("/api/2.1/mlflow/x", 404),
    ],
)
async def test_what_is_not_to_be_had_never_reaches_mlflow(path: str, status: int) -> None:
    async def handler(_: web.BaseRequest) -> web.StreamResponse:
        raise AssertionError

    async with proxied(handler) as at, at.client.get(at.at(path)) as answer:
        assert answer.status == status
        assert (await answer.json())["error_code"]


async def test_other_methods_are_refused() -> None:
    async with proxied(echo) as at, at.client.options(at.at(SEARCH)) as answer:
        assert answer.status == 405


@pytest.mark.parametrize(
    ("path", "is_mlflow"),
    [
        ("/api/2.0/mlflow/runs/get", True),
        ("/api/3.0/mlflow/traces", True),
        ("/api/4.0/mlflow/x", True),
        ("/api/2.0/mlflow-artifacts/artifacts", True),
        ("/ajax-api/2.0/mlflow/runs/get", True),
        ("/version", True),
        ("/v1/traces", True),
        ("/v1/traces/x", False),
        ("/version/x", False),
        ("/api/2.0/serving-endpoints", False),
        ("/api/5.0/mlflow/x", False),
        ("/x/api/2.0/mlflow/x", False),
        ("/graphql", False),
    ],
)
def test_only_mlflows_paths_are_its_own(path: str, is_mlflow: bool) -> None:
    assert is_mlflow_path(path) == is_mlflow


async def answer_of(app_for: object) -> tuple[int, dict[str, object], str | None]:
    """Status, body and Retry-After of a POST to a proxy on this upstream."""
    upstream = app_for
    async with (
        aiohttp.ClientSession() as client,
        serving(mlflow_proxy(upstream)) as url,  # type: ignore[arg-type]
        client.post(url + SEARCH, json={}) as answer,
    ):
        return answer.status, await answer.json(), answer.headers.get("Retry-After")


async def test_a_registry_that_does_not_come_up_is_unavailable() -> None:
    status, body, retry_after = await answer_of(Gone())

    assert status == 503
    assert body["error_code"] == "TEMPORARILY_UNAVAILABLE"
    assert body["message"] == "The model registry did not come up."
    assert retry_after == "1"


async def test_a_registry_that_is_off_is_not_implemented() -> None:
    status, body, _ = await answer_of(None)

    assert status == 501
    assert "LAKEPORT_REGISTRY" in str(body["message"])


async def test_a_server_that_breaks_the_connection_is_unavailable() -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with proxied(handler) as at, at.client.post(at.at(SEARCH), json={}) as answer:
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "1"


async def test_lakeports_own_credentials_are_not_the_callers_business() -> None:
    async def handler(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=401, headers={"WWW-Authenticate": "Basic"}, text="no token")

    async with proxied(handler) as at, at.client.get(at.at(SEARCH)) as answer:
        body = await answer.json()

    assert answer.status == 503
    assert "WWW-Authenticate" not in answer.headers
    assert body["message"] == "The MLflow server refuses Lakeport's credentials (HTTP 401)."


async def test_a_read_is_asked_again_when_the_connection_broke() -> None:
    asked = 0

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        if asked == 1:
            assert request.transport is not None
            request.transport.abort()
        return web.Response(text="there")

    async with proxied(handler) as at, at.client.get(at.at(SEARCH)) as answer:
        assert await answer.text() == "there"


async def test_a_request_waits_for_a_server_that_is_not_listening_yet() -> None:
    class Restarting(At):
        """Refuses the first connections, as between a death and its notice."""

        asked = 0

        async def session(self) -> tuple[aiohttp.ClientSession, str]:
            session, url = await super().session()
            self.asked += 1
            return session, url if self.asked > 3 else "http://127.0.0.1:9"

    async with upstream_serving(echo) as url, aiohttp.ClientSession() as client:
        upstream = Restarting(url)
        async with (
            serving(mlflow_proxy(upstream)) as proxy_url,
            client.post(proxy_url + SEARCH, data=b"once") as answer,
        ):
            seen = await answer.json()
        await upstream.close()

    assert seen["body"] == "once"


async def test_a_server_that_does_not_answer_is_given_up() -> None:
    never = asyncio.Event()

    async def handler(_: web.BaseRequest) -> web.StreamResponse:
        await never.wait()
        return web.Response()

    async with proxied(handler, idle=0.2) as at, at.client.get(at.at(SEARCH)) as answer:
        assert answer.status == 504
        assert (await answer.json())["error_code"] == "DEADLINE_EXCEEDED"


async def test_a_server_that_takes_no_body_is_given_up() -> None:
    never = asyncio.Event()

    async def handler(_: web.BaseRequest) -> web.StreamResponse:
        await never.wait()
        return web.Response()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(1024 * 1024)

    async with proxied(handler, idle=0.5) as at:
        # The proxy answers and closes while the client still sends.
        with contextlib.suppress(aiohttp.ClientOSError):
            async with at.client.put(at.at(ARTIFACT), data=endless()) as answer:
                assert answer.status == 504


async def test_an_answer_that_breaks_off_is_not_taken_for_a_whole_one() -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.abort()
        return response

    async with proxied(handler) as at, at.client.get(at.at(ARTIFACT)) as answer:
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()


async def test_a_caller_that_hangs_up_cancels_what_was_asked() -> None:
    asked, cancelled, never = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def handler(_: web.BaseRequest) -> web.StreamResponse:
        asked.set()
        try:
            await never.wait()
        finally:
            cancelled.set()
        return web.Response()

    async with proxied(handler) as at:
        for method in ("GET", "POST"):
            asked.clear()
            cancelled.clear()
            body = b"x" if method == "POST" else None
            request = asyncio.create_task(at.client.request(method, at.at(SEARCH), data=body))
            await asked.wait()
            request.cancel()
            await asyncio.wait_for(cancelled.wait(), 10)


async def test_an_upload_that_breaks_off_is_not_taken_for_a_whole_one() -> None:
    outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        try:
            await request.read()
        except (web.RequestPayloadError, ConnectionError, asyncio.CancelledError) as error:
            outcome.set_result(type(error).__name__)
            raise
        outcome.set_result("whole")
        return web.Response()

    async def broken() -> AsyncIterator[bytes]:
        yield bytes(100_000)
        raise RuntimeError("the client's disk failed")

    async with proxied(handler) as at:
        with pytest.raises(aiohttp.ClientError):
            await at.client.put(at.at(ARTIFACT), data=broken())

        assert await asyncio.wait_for(outcome, 10) != "whole"


async def test_mlflow_is_never_given_a_call_that_it_would_hold_in_memory() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(4 * 1024 * 1024)

    async with proxied(echo) as at:
        told = {"Content-Length": str(LARGEST_CALL + 1)}
        async with at.client.post(at.at(SEARCH), data=endless(), headers=told) as answer:
            assert answer.status == 413
            answer.close()
        with contextlib.suppress(aiohttp.ClientOSError):
            async with at.client.post(at.at(SEARCH), data=endless()) as answer:
                assert answer.status == 413


async def test_an_early_answer_ends_the_upload() -> None:
    async def handler(_: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({"error_code": "INVALID_PARAMETER_VALUE"}, status=400)

    async with proxied(handler) as at:
        async with at.client.put(at.at(ARTIFACT), data=bytes(8 * 1024 * 1024)) as answer:
            assert answer.status == 400
        async with at.client.get(at.at(SEARCH)) as answer:
            assert answer.status == 400


async def test_writes_to_the_registry_are_told() -> None:
    alias = "/api/2.0/mlflow/registered-models/alias"

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=404 if "fails" in request.raw_path else 200)

    async with proxied(handler) as at:
        for method, path in [
            ("POST", alias),
            ("DELETE", alias),
            ("GET", alias),
            ("POST", alias + "?fails"),
            ("POST", SEARCH),
            ("PUT", ARTIFACT),
            ("POST", "/ajax-api/2.0/mlflow/model-versions/create"),
        ]:
            async with at.client.request(method, at.at(path)):
                pass

    assert at.written == [alias, alias, "/ajax-api/2.0/mlflow/model-versions/create"]


async def test_the_door_may_leave_out_the_raw_path() -> None:
    sent: list[str] = []

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        sent.append(request.raw_path)
        return web.Response()

    async with upstream_serving(handler) as url, aiohttp.ClientSession() as client:
        upstream = At(url)
        proxy = mlflow_proxy(upstream)

        async def without_raw_path(scope: Scope, receive: Receive, send: Send) -> None:
            await proxy({**scope, "raw_path": None}, receive, send)

        async with serving(without_raw_path) as proxy_url:
            target = URL(f"{proxy_url}{ARTIFACT}/a%20b", encoded=True)
            async with client.get(target) as answer:
                assert answer.status == 200
        await upstream.close()

    assert sent == [f"{ARTIFACT}/a%20b"]
