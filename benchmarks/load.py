"""Load by `wrk`: many connections, each sending the same request again and again."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_SCRIPT = """
local file = io.open("%(body)s", "rb")
wrk.method = "POST"
wrk.body = file:read("*a")
file:close()
%(headers)s
done = function(summary, latency)
  local errors = summary.errors
  io.stderr:write(string.format(
    '{"requests": %%d, "us": %%d, "p50": %%.1f, "p99": %%.1f, "max": %%.1f, "errors": %%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    latency.max, errors.status + errors.connect + errors.read + errors.write + errors.timeout))
end
"""


class NoWrk(Exception):
    """`wrk` is not there; the message says how to get it."""


@dataclass(frozen=True, slots=True)
class Figures:
    """One point. Times in milliseconds; `errors` counts answers of 400 and above, connections
    that broke, and answers that took 10 s."""

    requests: int
    per_second: float
    p50: float
    p99: float
    max: float
    errors: int


class Load:
    """A load on one URL."""

    def __init__(self, url: str, headers: Mapping[str, str], body: bytes, folder: Path) -> None:
        """`folder` takes the script that wrk reads."""
        self._url = url
        self._script = folder / "load.lua"
        (folder / "body.json").write_bytes(body)
        lines = "\n".join(
            f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}"
            for name, value in headers.items()
        )
        self._script.write_text(_SCRIPT % {"body": folder / "body.json", "headers": lines})

    def run(self, connections: int, seconds: int) -> Figures:
        """Load the URL for `seconds` over `connections` connections that are kept open."""
        done = subprocess.run(
            self._command(connections, seconds),
            capture_output=True,
            text=True,
            check=True,
            timeout=seconds + 60,
        )
        return _figures(done.stderr)

    @contextlib.contextmanager
    def running(self, connections: int, limit: int) -> Iterator[list[Figures]]:
        """Load the URL during the block, at most `limit` seconds of it.

        The figures are in the list that this gives, after the block.
        """
        found: list[Figures] = []
        process = subprocess.Popen(
            self._command(connections, limit),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield found
            process.send_signal(signal.SIGINT)  # it ends as if its time were up
            _, said = process.communicate(timeout=60)
            found.append(_figures(said))
        finally:
            process.kill()
            process.wait()

    def _command(self, connections: int, seconds: int) -> list[str]:
        command = ["wrk", "--threads", "1", "--connections", str(connections)]
        command += ["--duration", f"{seconds}s", "--timeout", "10s"]
        return [*command, "--script", str(self._script), self._url]


def _figures(said: str) -> Figures:
    """What the script of `wrk` printed at its end."""
    found = json.loads(said.splitlines()[-1])
    return Figures(
        requests=found["requests"],
        per_second=round(found["requests"] / found["us"] * 1e6, 1),
        p50=round(found["p50"] / 1000, 2),
        p99=round(found["p99"] / 1000, 2),
        max=round(found["max"] / 1000, 2),
        errors=found["errors"],
    )


def ensure_wrk() -> None:
    """Install wrk where that can be done without asking. Raises NoWrk."""
    if shutil.which("wrk"):
        return
    if shutil.which("apt-get") and os.geteuid() == 0:
        print("installing wrk", file=sys.stderr)
        subprocess.run(["apt-get", "update", "-qq"], check=False)
        subprocess.run(["apt-get", "install", "-y", "-qq", "wrk"], check=False)
    if not shutil.which("wrk"):
        raise NoWrk("wrk is needed: `apt-get install wrk`, or `brew install wrk`.")
