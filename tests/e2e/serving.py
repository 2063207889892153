"""`lakeport serve` as its users run it: a process, an address, a token."""

import json
import os
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TOKEN = "a-token-for-the-end-to-end-tests"


def clean() -> dict[str, str]:
    """The environment without what could lend one Python the modules of another."""
    return {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "VIRTUAL_ENV"}}


@contextmanager
def served(tools: Path, home: Path, *arguments: str) -> Iterator[str]:
    """`lakeport serve` from the folder `tools` on a free port; gives its address, and ends it."""
    command = [str(tools / "lakeport"), "serve", "--port", "0", "--home", str(home), *arguments]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env=clean() | {"LAKEPORT_ADMIN_TOKEN": TOKEN, "LAKEPORT_ENGINE_THREADS": "1"},
    ) as server:
        assert server.stdout is not None
        try:
            said = ""
            for line in server.stdout:
                said += line
                if ready := re.search(r"Lakeport is ready: (http://\S+)", line):
                    yield ready[1]
                    break
            else:
                raise AssertionError(f"the server ended before it was ready:\n{said}")
        finally:
            server.terminate()
            server.communicate()
    assert server.returncode == 0


def ask(url: str, body: object = None) -> dict[str, Any]:
    request = urllib.request.Request(
        url,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        answer: dict[str, Any] = json.load(reply)
    return answer
