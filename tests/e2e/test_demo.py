"""`lakeport demo` is the first thing that a newcomer sees."""

import os
import re
import signal
import subprocess
import sys
import urllib.request
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from lakeport.cli import demo, demo_chat

LAKEPORT = Path(sys.executable).with_name("lakeport")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def test_the_demo_serves_updates_and_loses_nothing_and_keeps_the_server_when_asked() -> None:
    with subprocess.Popen(
        [LAKEPORT, "demo", "--keep"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "COLUMNS": "120", "PYTHONUNBUFFERED": "1"},
    ) as demo:
        assert demo.stdout is not None
        try:
            said = ""
            for line in demo.stdout:
                said += line
                if "until you press Ctrl-C" in line:
                    break
            address = re.search(r"DATABRICKS_HOST=(http://\S+)", said)
            assert address, said
            with urllib.request.urlopen(f"{address[1]}/health") as reply:
                healthy = reply.status
        finally:
            # Not SIGINT: where this runs in the background of a shell, children ignore it.
            demo.send_signal(signal.SIGTERM)
        status = demo.wait()

    assert healthy == 200
    assert status == 0
    assert re.search(r"wine-1 +│ +\d+", said)
    assert re.search(r"wine-2 +│ +\d+", said)
    assert " 0 lost" in said
    assert len(re.findall(r"\d+ tokens in, [1-9]\d* out", said)) == 2
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"{address[1]}/health")


def test_without_the_weights_the_chat_is_left_out_with_a_word(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path))
    # The last act alone: the others do not know of it.
    monkeypatch.setattr(
        demo,
        "_play",
        lambda workspace, console: demo_chat.play(
            demo._client(workspace), workspace.address, workspace.token, console
        ),
    )
    said = StringIO()

    status = demo.run(console=Console(file=said, width=300))

    assert status == 0
    assert f"No chat this time: {demo_chat.MODEL} could not be fetched" in said.getvalue()
    assert "Done in" in said.getvalue()
