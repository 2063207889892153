"""Pools of connections: to the workspace, straight or by the proxy that the environment names."""

import os
import ssl
import sys
from collections.abc import Callable, Hashable
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, Generic, TypeVar
from urllib.parse import unquote, urlsplit

import httpcore2

from lakeport.client.errors import ConfigError, LakeportError
from lakeport.client.network import AsyncBackend, Backend

#: Seconds that an idle connection is kept. Whether the server closed it meanwhile is looked at
#: before it is used, so only a server that closes it in that very moment is noticed too late.
IDLE = 30.0
#: Idle connections that are kept.
KEPT = 20


P = TypeVar("P")


class Pools(Generic[P]):
    """A pool for each server (the workspace, and a model registry elsewhere) and each place: two
    processes on one connection would read each other's answers, and two event loops cannot."""

    def __init__(
        self, opens: Callable[[str, int], P], connections: int, place: Callable[[], Hashable]
    ) -> None:
        """`connections`: to one server at a time, at most. `place`: where its caller is, `process`
        or `running_loop`."""
        self._opens = opens
        self._connections = connections
        self._place = place
        self._open: dict[Hashable, dict[str, P]] = {}
        self.closed = False

    def to(self, origin: str) -> P:
        """Raises ConfigError when the certificates or the proxy cannot be used."""
        if self.closed:
            raise LakeportError("The client is closed.")
        place = self._place()
        here = self._open.get(place)
        if here is None:
            here = self._settle(place)
        pool = here.get(origin)
        # Two threads at once: the pool of one is never used, and so holds nothing open.
        return pool or here.setdefault(origin, self._opens(origin, self._connections))

    def take(self) -> list[P]:
        """All that can be closed from here; there will be no others."""
        self.closed = True
        pools = list(self._open.get(self._place(), {}).values())
        self._open.clear()
        return pools

    def _settle(self, place: Hashable) -> dict[str, P]:
        """The pools of a new place. Those that were opened before any loop ran become its own."""
        for other in list(self._open):
            if _gone(other):
                self._open.pop(other, {})
        return self._open.setdefault(place, self._open.pop(None, {}))


def process() -> int:
    """The place of callers that block. A child that was forked is another one."""
    return os.getpid()


def running_loop() -> Any:
    """The place of tasks: asyncio's running loop; None before one runs, and on trio's."""
    if "asyncio" not in sys.modules:
        return None
    import asyncio  # noqa: PLC0415 -- 40 ms, which only those pay who run it

    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _gone(place: Any) -> bool:
    """Nobody will be there again."""
    return place != process() if isinstance(place, int) else place is not None and place.is_closed()


def open_pool(origin: str, connections: int) -> httpcore2.ConnectionPool:
    """Raises ConfigError when the certificates or the proxy cannot be used."""
    proxy = _proxy(origin)
    options = _options(origin, connections, proxy)
    return httpcore2.ConnectionPool(network_backend=Backend(), proxy=proxy, **options)


def open_async_pool(origin: str, connections: int) -> httpcore2.AsyncConnectionPool:
    """Raises ConfigError when the certificates or the proxy cannot be used."""
    proxy = _proxy(origin)
    options = _options(origin, connections, proxy)
    return httpcore2.AsyncConnectionPool(network_backend=AsyncBackend(), proxy=proxy, **options)


def _options(origin: str, connections: int, proxy: httpcore2.Proxy | None) -> dict[str, Any]:
    tls = origin.startswith("https:")
    return {
        # A context takes 20 ms to make, and plain HTTP has no use for it.
        "ssl_context": _context() if tls else None,
        "max_connections": connections,
        "max_keepalive_connections": min(connections, KEPT),
        "keepalive_expiry": IDLE,
    }


def _context() -> ssl.SSLContext:
    return _made(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@lru_cache(maxsize=8)
def _made(file: str | None, folder: str | None) -> ssl.SSLContext:
    try:
        return httpcore2.default_ssl_context()  # which reads the two variables
    except (OSError, ssl.SSLError) as error:
        named = file or folder or "the system's certificates"
        raise ConfigError(
            f"SSL_CERT_FILE, SSL_CERT_DIR: {named} cannot be read as certificates "
            f"({type(error).__name__})."
        ) from None


def _proxy(origin: str) -> httpcore2.Proxy | None:
    """By HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, in either case."""
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    from urllib import request  # noqa: PLC0415 -- 20 ms, for the few that have a proxy

    parts = urlsplit(origin)
    proxies = request.getproxies_environment()
    address = proxies.get(parts.scheme) or proxies.get("all")
    if not address or request.proxy_bypass_environment(parts.netloc, proxies):  # type: ignore[attr-defined]
        return None
    where = urlsplit(address if "://" in address else f"http://{address}")
    name = f"{parts.scheme.upper()}_PROXY"
    if where.scheme not in ("http", "https", "socks5", "socks5h") or not where.hostname:
        # The address itself may hold a password.
        raise ConfigError(f"{name}: expected an address like http://proxy.example.com:3128.")
    try:
        port = where.port
    except ValueError:
        raise ConfigError(f"{name}: its port is no number.") from None
    if where.scheme.startswith("socks") and find_spec("socksio") is None:
        raise ConfigError(f"{name}: a SOCKS proxy needs pip install socksio.")
    return httpcore2.Proxy(
        httpcore2.URL(
            scheme=where.scheme.encode(),
            host=where.hostname.encode(),
            port=port,
            target=b"/",
        ),
        auth=(unquote(where.username), unquote(where.password or "")) if where.username else None,
        ssl_context=_context() if where.scheme == "https" else None,
    )
