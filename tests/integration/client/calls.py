"""What the tests of the clients share."""

from collections.abc import Callable
from typing import Any

from lakeport import Retry
from tests.integration.raw_server import reply

TOKEN = "dapi-very-secret"
ONCE = Retry(attempts=1)
QUICK = Retry(base=0.01)
ANSWER = reply(200, {"predictions": [1]})

#: Calls one method of a new client and closes it.
Call = Callable[..., Any]


def ask(call: Call, **options: Any) -> Any:
    return call("query", "iris", body={"inputs": [1]}, options=options)


def chat(call: Call, **options: Any) -> list[str]:
    return [chunk.text for chunk in call("stream_chat", "bot", "Hi", options=options)]
