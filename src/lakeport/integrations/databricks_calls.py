"""How the drop-in asks an endpoint: no request that may have been run is sent again unasked.

The SDK itself gives an answer 60 seconds and then sends the request once more, for five minutes,
while the first one still runs: a slow model gets the same work several times.
"""

import io
import json
import random
import time
from collections.abc import Callable, Iterator
from datetime import date
from enum import Enum
from typing import Any

import requests
from databricks.sdk.core import ApiClient, Config, DatabricksError
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from lakeport.client.encode_json import to_json
from lakeport.client.retry import Retry

#: Seconds to connect, and for an answer where the SDK's `http_timeout_seconds` says nothing.
CONNECT, ANSWER = 10.0, 600.0


class Calls(ApiClient):
    """The SDK's calls; those that ask a model follow `retry`, all others the SDK's own rule."""

    def __init__(self, config: Config, *, sleep: Callable[[float], None] = time.sleep) -> None:
        super().__init__(config)
        self._sleep = sleep
        #: `retry_timeout_seconds` of the SDK's config bounds it.
        self.retry = Retry(deadline=float(config.retry_timeout_seconds or Retry().deadline))
        answer = float(config.http_timeout_seconds or ANSWER)
        self._patient = ApiClient(config)
        # One figure for both would wait ten minutes for a host that is not there.
        self._patient._api_client._http_timeout_seconds = (CONNECT, answer)  # type: ignore[assignment]
        self._answer = answer

    def do(self, method: str, path: str | None = None, *rest: Any, **options: Any) -> Any:
        if method == "POST" and path is not None and path.endswith("/invocations"):
            return self._ask(path, options.pop("body", None), options)
        return super().do(method, path, *rest, **options)

    def _ask(self, path: str, body: Any, options: dict[str, Any]) -> Any:
        content = to_bytes(body)
        began, tries = time.monotonic(), 0
        while True:
            tries += 1
            try:
                return self._patient.do("POST", path, data=_Once(content), **options)
            except (DatabricksError, requests.RequestException) as error:
                elapsed, chance = time.monotonic() - began, random.random()  # noqa: S311
                wait = pause(self.retry, error, tries, elapsed, chance)
                if wait is None:
                    if isinstance(error, requests.ReadTimeout):
                        raise TimeoutError(
                            f"No answer within {self._answer:g} seconds. The request may have "
                            "been run, so it was not sent again."
                        ) from error
                    raise
            self._sleep(wait)


def to_bytes(body: Any) -> bytes:
    """JSON. NaN becomes null, and infinity 1e999, as `lakeport.Client` has them."""
    try:
        return json.dumps(body, default=_plain, allow_nan=False).encode()
    except ValueError:
        return to_json(json.loads(json.dumps(body, default=_plain)))


def pause(
    retry: Retry, error: Exception, tries: int, elapsed: float, chance: float
) -> float | None:
    """Seconds to wait before the next try; None: there is none.

    `tries` were made, in `elapsed` seconds; `chance` is a random number from 0 to 1.
    """
    if tries >= retry.attempts or not (surely_not_run(error) or (retry.unsafe and _broken(error))):
        return None
    wait = retry.wait(tries, getattr(error, "retry_after_secs", None), chance)
    return wait if elapsed + wait <= retry.deadline else None


def surely_not_run(error: Exception) -> bool:
    """Whether nothing of the request can have reached a model: 429, 503, no connection."""
    if isinstance(error, DatabricksError):
        return getattr(error, "retry_after_secs", None) is not None
    if isinstance(error, requests.ConnectTimeout):
        return True
    if isinstance(error, requests.ConnectionError):
        reason = getattr(error.args[0], "reason", None) if error.args else None
        # A proxy that could not be reached, or could not reach the host.
        reason = getattr(reason, "original_error", reason)
        return isinstance(reason, NewConnectionError | ConnectTimeoutError)
    return False


def _broken(error: Exception) -> bool:
    """Whether another try may help although the request may have been run."""
    if isinstance(error, DatabricksError):
        return type(error).__name__ in {"InternalError", "DeadlineExceeded", "DatabricksError"}
    return isinstance(error, requests.ConnectionError | requests.Timeout)


class _Once:
    """A body that cannot be rewound: the SDK sends a request with such a one a single time."""

    def __init__(self, content: bytes) -> None:
        self._size = len(content)
        self._left = io.BytesIO(content)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._left)

    def read(self, size: int = -1) -> bytes:
        return self._left.read(size)


def _plain(value: Any) -> Any:
    """What JSON has no word for, as the wire wants it. Raises TypeError."""
    for name in ("as_dict", "tolist"):  # objects of the SDK; numpy's arrays and numbers
        if callable(method := getattr(value, name, None)):
            return method()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    raise TypeError(f"A {type(value).__name__} is no JSON; give lists, dicts, numbers and strings.")
