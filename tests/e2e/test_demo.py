"""`lakeport demo` is the first thing that a newcomer sees."""

import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

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
        said = ""
        for line in demo.stdout:
            said += line
            if "until you press Ctrl-C" in line:
                break
        address = re.search(r"DATABRICKS_HOST=(http://\S+)", said)
        assert address, said
        with urllib.request.urlopen(f"{address[1]}/health") as reply:
            healthy = reply.status

        demo.send_signal(signal.SIGINT)
        status = demo.wait()

    assert healthy == 200
    assert status == 0
    assert re.search(r"wine-1 +│ +\d+", said)
    assert re.search(r"wine-2 +│ +\d+", said)
    assert " 0 lost" in said
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"{address[1]}/health")
