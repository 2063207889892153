"""The workspace's own HTTP, as its admin: plain calls on this machine, with no proxy between."""

import json
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit

from lakeport.client.errors import ConnectionFailed, kind_of

#: Seconds for one call. The registry may have to start first.
_TIMEOUT = 120.0


class Api:
    """One server. Each call has a connection of its own: they are few, and any thread may call."""

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._port = parts.port
        self._token = token

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """JSON in, JSON out. Raises ApiError, with the server's message, and ConnectionFailed."""
        connection = HTTPConnection(self._host, self._port, timeout=_TIMEOUT)
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            reply = connection.getresponse()
            status, content = reply.status, reply.read()
        except (OSError, HTTPException) as error:
            raise ConnectionFailed(
                f"The test workspace did not answer {method} {path.partition('?')[0]}: it may have "
                f"ended ({type(error).__name__}).",
                sent=True,
            ) from error
        finally:
            connection.close()
        answer = json.loads(content) if content else {}
        if status >= 400:
            code = answer.get("error_code")
            raise kind_of(status, code)(str(answer.get("message")), status=status, error_code=code)
        return answer
