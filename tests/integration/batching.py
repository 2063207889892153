"""A server for batches, and a call that goes on meanwhile."""

import socket
import threading
from pathlib import Path
from typing import Any

from tests.integration.server import ServerProcess
from tests.models.fixtures import SavedModel

COLUMNS = [f"{part} {size} (cm)" for part in ("sepal", "petal") for size in ("length", "width")]
ANSWERS = """
rules:
  - match: "^refuse"
    status: 400
    message: "I will not."
  - match: "(\\\\d+)"
    reply: "You said \\\\1."
default: "I have no words for that."
"""
#: The second is the page's.
CHATS = ("helper", "databricks-claude-sonnet-4")
#: What one request may hold here: less than a chunk of the tests has.
MAX_BODY = 20_000


def batch_server(folder: Path, saved_model: SavedModel) -> ServerProcess:
    """With the endpoints `iris`, `mixed` and those of CHATS; it is not started."""
    (folder / "answers.yml").write_text(ANSWERS)
    return ServerProcess(
        folder / "home",
        registry="off",
        env_manager="local",
        chat=[f"{name}=scripted:{folder / 'answers.yml'}" for name in CHATS],
        max_body=MAX_BODY,
        port=free_port(),  # the same when it is started again
        models={name: saved_model(name) for name in ("iris", "mixed")},
    )


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


class Working:
    """A call in a thread."""

    def __init__(self, call: Any) -> None:
        self._found: Any = None
        self._call = call
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._found = self._call()
        except Exception as error:
            self._found = error

    def result(self) -> Any:
        self._thread.join(90)
        assert not self._thread.is_alive()
        if isinstance(self._found, Exception):
            raise self._found
        return self._found
