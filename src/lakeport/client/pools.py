"""Pools of connections: to the workspace, straight or by the proxy that the environment names."""

import os
import ssl
from collections.abc import Callable
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
    """A pool for each server: the workspace, and a model registry elsewhere."""

    def __init__(self, opens: Callable[[str, int], P], connections: int) -> None:
        """`connections`: to one server at a time, at most."""
        self._opens = opens
        self._connections = connections
        self._open: dict[str, P] = {}
        self.closed = False

    def to(self, origin: str) -> P:
        """Raises ConfigError when the certificates or the proxy cannot be used."""
        if self.closed:
            raise LakeportError("The client is closed.")
        pool = self._open.get(origin)
        # Two threads at once: the pool of one is never used, and so holds nothing open.
        return pool or self._open.setdefault(origin, self._opens(origin, self._connections))

    def take(self) -> list[P]:
        """All of them, to be closed; there will be no others."""
        self.closed = True
        pools = list(self._open.values())
        self._open.clear()
        return pools


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
