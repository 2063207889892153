"""One HTTP exchange without its I/O: the message that goes out, and what its failure means."""

import ssl
import zlib
from collections.abc import Callable, Mapping
from urllib.parse import urlencode, urlsplit

import httpcore2

from lakeport import __version__
from lakeport.client.errors import (
    BadAnswer,
    ConnectionFailed,
    LakeportError,
    TimedOut,
)
from lakeport.client.flow import Request
from lakeport.client.network import Watch

_AGENT = f"lakeport/{__version__}".encode()


class Target:
    """A server that is asked."""

    def __init__(self, origin: str) -> None:
        parts = urlsplit(origin)
        self.origin = origin
        self._scheme = parts.scheme.encode()
        self._host = (parts.hostname or "").encode("ascii", "replace")
        self._port = parts.port
        self._base = [
            (b"host", parts.netloc.encode("ascii", "replace")),
            (b"user-agent", _AGENT),
            (b"accept", b"*/*"),
        ]

    def message(
        self, request: Request, signs: Mapping[str, str], watch: Watch
    ) -> httpcore2.Request:
        """`signs`: headers that tell who asks."""
        target = request.path
        if request.query:
            target += "?" + urlencode(request.query)
        # An event must be seen when it comes, not when a block of gzip is full.
        headers = [*self._base, (b"accept-encoding", b"identity" if request.stream else b"gzip")]
        if request.body is not None:
            headers.append((b"content-type", request.content_type.encode("latin-1", "replace")))
            headers.append((b"content-length", str(len(request.body)).encode()))
        elif request.method not in ("GET", "HEAD"):
            headers.append((b"content-length", b"0"))
        for name, value in signs.items():
            headers.append((name.encode(), value.encode("latin-1", "replace")))
        for name, value in request.headers.items():
            headers.append((name.encode(), value.encode("latin-1", "replace")))
        return httpcore2.Request(
            request.method,
            httpcore2.URL(
                scheme=self._scheme, host=self._host, port=self._port, target=target.encode("ascii")
            ),
            headers=headers,
            content=request.body or b"",
            extensions={"timeout": watch.timeouts},
        )


def headers_of(answer: httpcore2.Response) -> dict[str, str]:
    """With lower-case names."""
    return {
        name.lower().decode("latin-1"): value.decode("latin-1") for name, value in answer.headers
    }


def inflater(headers: Mapping[str, str]) -> Callable[[bytes], bytes]:
    """What undoes the answer's Content-Encoding, piece by piece; raises zlib.error."""
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding in ("gzip", "x-gzip", "deflate"):
        return zlib.decompressobj(47).decompress
    return _as_it_is


def _as_it_is(piece: bytes) -> bytes:
    return piece


def failure(error: Exception, request: Request, watch: Watch, origin: str) -> LakeportError:
    """What an exception of httpcore's means. Others are given back by raising them."""
    name = request.endpoint
    if isinstance(error, httpcore2.TimeoutException):
        if isinstance(error, httpcore2.ConnectTimeout) and watch.left > 0:
            return ConnectionFailed(
                f"{origin} was not reached within {watch.connect:g} s.", sent=False, endpoint=name
            )
        busy = " All connections are busy: max_connections is their number."
        waited = isinstance(error, httpcore2.PoolTimeout)
        return TimedOut(
            f"No answer from {origin} in time.{busy if waited else ''}",
            sent=watch.sent,
            endpoint=name,
        )
    if isinstance(error, httpcore2.ProxyError):
        return ConnectionFailed(
            f"The proxy did not connect to {origin}: {error}.", sent=False, endpoint=name
        )
    if isinstance(error, httpcore2.ConnectError):
        reason = _certificate(error) or str(error) or "it does not answer"
        return ConnectionFailed(f"{origin} was not reached: {reason}.", sent=False, endpoint=name)
    if isinstance(error, httpcore2.LocalProtocolError):
        # Its message would quote the header, which may be the token.
        return ConnectionFailed("The request could not be written.", sent=False, endpoint=name)
    if isinstance(error, httpcore2.NetworkError | httpcore2.RemoteProtocolError):
        return ConnectionFailed(
            f"The connection to {origin} broke: {str(error).rstrip('.') or 'it was reset'}.",
            sent=watch.sent,
            endpoint=name,
        )
    if isinstance(error, zlib.error):
        return BadAnswer("The answer's compression is broken.", endpoint=name)
    raise error


def _certificate(error: BaseException) -> str | None:
    """What is wrong with the server's certificate, and what helps."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return None
    return (
        f"its certificate is not trusted ({cause.verify_message}); SSL_CERT_FILE names a file of "
        "authorities to trust"
    )
