"""HTTP sessions towards a server on the OpenAI wire: over a unix socket, or guarded TCP and TLS."""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from lakeport.providers import over_socket
from lakeport.providers.egress import EgressGuard, EgressRefused, Place
from lakeport.providers.over_socket import SocketAnswer

#: Seconds that an idle connection is kept for the next call.
KEEP_ALIVE = 15.0
#: Bytes that a connection reads ahead of whoever takes its answer; it stops at twice as many.
READ_AHEAD = 64 * 1024
_HEADERS = {
    "Content-Type": "application/json",
    "Accept-Encoding": "identity",  # a compressed stream would be held back
    "User-Agent": "lakeport",
}


@dataclass(slots=True)
class Tried:
    """What one attempt learned of its connection."""

    #: It came from the pool, so that the server may have closed it meanwhile.
    reused: bool = False


#: An answer whose head is there.
ServerAnswer = aiohttp.ClientResponse | SocketAnswer


class Sessions:
    """Two sessions to one server: one keeps its connections for the next call, the other opens one
    for each call."""

    def __init__(
        self,
        pooled: aiohttp.BaseConnector,
        fresh: aiohttp.BaseConnector | str,
        *,
        connect_timeout: float,
        proxy: URL | None = None,
    ) -> None:
        """`fresh` opens a connection for each call; a string is the path of a unix socket, which
        is then spoken to without a session. `connect_timeout` is seconds."""
        self._pooled = _session(pooled, connect_timeout, proxy)
        self._fresh = fresh if isinstance(fresh, str) else _session(fresh, connect_timeout, proxy)
        self._connect_timeout = connect_timeout
        self._closing: asyncio.Task[None] | None = None

    async def post(
        self, url: URL, body: bytes, headers: Mapping[str, str], tried: Tried, *, fresh: bool
    ) -> ServerAnswer:
        """Send, and wait for the head of the answer. Redirects are not followed.

        Raises aiohttp.ClientError, TimeoutError (the connection), EgressRefused.
        """
        session = self._fresh if fresh else self._pooled
        if isinstance(session, str):
            return await over_socket.post(
                session,
                url,
                body,
                {**_HEADERS, **headers},
                connect_timeout=self._connect_timeout,
                read_ahead=READ_AHEAD,
            )
        return await session.post(
            url, data=body, headers=headers, allow_redirects=False, trace_request_ctx=tried
        )

    def close(self) -> None:
        """Every connection is cut; what still uses one fails. Idempotent."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close())

    async def closed(self) -> None:
        self.close()
        if self._closing is not None:
            await self._closing

    async def _close(self) -> None:
        await self._pooled.close()
        if not isinstance(self._fresh, str):
            await self._fresh.close()


def _session(
    connector: aiohttp.BaseConnector, connect_timeout: float, proxy: URL | None
) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=_HEADERS,
        proxy=proxy,
        trust_env=False,  # a .netrc is not ours to use; proxies are chosen by `proxy_for`
        # Everything but the connection has its time limit in the link: it depends on the call.
        timeout=aiohttp.ClientTimeout(total=None, connect=connect_timeout, sock_connect=None),
        read_bufsize=READ_AHEAD,
        trace_configs=[_tracing()],
    )


def _tracing() -> aiohttp.TraceConfig:
    """Marks an attempt whose connection was used before."""

    async def reused(session: object, context: object, params: object) -> None:
        tried = getattr(context, "trace_request_ctx", None)
        if isinstance(tried, Tried):
            tried.reused = True

    config = aiohttp.TraceConfig()
    config.on_connection_reuseconn.append(reused)
    return config


def over_unix_socket(path: str, *, connect_timeout: float) -> Sessions:
    """To an engine. An engine's stream has a connection of its own, see `engines`."""
    return Sessions(
        aiohttp.UnixConnector(path, limit=0, keepalive_timeout=KEEP_ALIVE),
        path,
        connect_timeout=connect_timeout,
    )


class Outside:
    """How this machine reaches outside servers."""

    def __init__(
        self, guard: EgressGuard, environ: Mapping[str, str], connect_timeout: float
    ) -> None:
        """`environ`: the variables that name proxies. `connect_timeout` is seconds."""
        self.guard = guard
        self.environ = environ
        self.connect_timeout = connect_timeout

    @cached_property
    def tls(self) -> ssl.SSLContext:
        """Trusts what this machine trusts, or SSL_CERT_FILE and SSL_CERT_DIR. Reading that takes a
        tenth of a second, which a server without outside models does without."""
        return ssl.create_default_context()

    def look(self, url: str, *, own: bool) -> tuple[Place, URL | None]:
        """Where `url` leads, and the proxy towards it. Raises EgressRefused.

        `own`: the operator gave the URL himself, which the guard lets pass.
        """
        proxy = proxy_for(self.guard.check(url, own=True), self.environ)
        return self.guard.check(url, own=own, proxied=proxy is not None), proxy

    def refuses(self, url: str) -> str | None:
        """Why a URL that came over the wire is not to be asked; None: it may be. Names are not
        looked up here, but whenever they are connected to."""
        try:
            self.look(url, own=False)
        except EgressRefused as problem:
            return str(problem)
        return None

    def sessions(self, url: str, *, own: bool) -> Sessions:
        """Sessions that reach the host of `url` and no other. Raises EgressRefused."""
        place, proxy = self.look(url, own=own)
        resolver = _Resolver(self.guard, place, own=own, proxy=proxy)
        tls = self.tls if place.scheme == "https" else True
        return Sessions(
            aiohttp.TCPConnector(limit=0, resolver=resolver, ssl=tls, keepalive_timeout=KEEP_ALIVE),
            aiohttp.TCPConnector(limit=0, resolver=resolver, ssl=tls, force_close=True),
            connect_timeout=self.connect_timeout,
            proxy=proxy,
        )


class _Resolver(AbstractResolver):
    """Looks up one host, and gives out its addresses only if the guard lets all of them pass: the
    connection goes to what was judged. Literal addresses never come here; `Outside.look` judges
    them."""

    def __init__(self, guard: EgressGuard, place: Place, *, own: bool, proxy: URL | None) -> None:
        self._guard = guard
        self._place = place
        self._own = own
        #: The operator's own choice; with it, no other host is looked up here.
        self._proxy = proxy.host.lower() if proxy is not None and proxy.host else None

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        wanted = self._place.host if self._proxy is None else self._proxy
        if host.lower().removesuffix(".") != wanted.removesuffix("."):
            raise EgressRefused("it is another host than the model's")
        found = await _look_up(host, port, family)
        if self._proxy is None:
            self._guard.addresses(self._place, [one["host"] for one in found], own=self._own)
        return found

    async def close(self) -> None:
        pass


async def _look_up(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    """Every address of `host`. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family)
    return [
        ResolveResult(
            hostname=host,
            host=str(address[0]),
            port=port,
            family=kind,
            proto=proto,
            flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
        )
        for kind, _, proto, _, address in found
    ]


# --- proxies --------------------------------------------------------------------------------------


def proxy_for(place: Place, environ: Mapping[str, str]) -> URL | None:
    """The proxy that HTTPS_PROXY, HTTP_PROXY or ALL_PROXY name for `place`, unless NO_PROXY holds
    it. This machine itself is never reached by a proxy. Raises EgressRefused for a proxy that is
    none."""

    def variable(name: str) -> str:
        return (environ.get(name) or environ.get(name.upper()) or "").strip()

    named = variable(f"{place.scheme}_proxy") or variable("all_proxy")
    if not named or _is_this_machine(place) or _is_direct(place, variable("no_proxy")):
        return None
    try:
        proxy = URL(named if "://" in named else f"http://{named}")
    except ValueError:
        raise EgressRefused("the proxy that the environment names is not a URL") from None
    if proxy.scheme not in ("http", "https") or not proxy.host:
        raise EgressRefused("the proxy that the environment names is not an HTTP proxy")
    return proxy


def _is_this_machine(place: Place) -> bool:
    if place.address is not None:
        return place.address.is_loopback
    return place.host == "localhost" or place.host.endswith(".localhost")


def _is_direct(place: Place, no_proxy: str) -> bool:
    """Whether NO_PROXY holds it: `*`, names with all below them, addresses, networks; each may
    have a port."""
    for entry in no_proxy.replace(",", " ").lower().split():
        if entry == "*":
            return True
        if place.address is not None:
            try:
                if place.address in ipaddress.ip_network(entry.strip("[]"), strict=False):
                    return True
            except ValueError:
                pass
        host, mark, port = entry.rpartition(":")
        if mark and port.isdigit():
            if int(port) != place.port:
                continue
            entry = host  # noqa: PLW2901
        suffix = entry.removeprefix("*").strip("[]").lstrip(".")
        if suffix and (place.host == suffix or place.host.endswith(f".{suffix}")):
            return True
    return False
