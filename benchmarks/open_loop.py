"""Requests at a fixed rate, whether or not earlier ones are answered: an open loop.

A load that waits for answers before it asks again never overloads anything, and hides every wait
but its own. Here each request has a time at which it is due, and its latency counts from then. When
all connections are busy a new one is made. The load says by how much it was late itself: where it
could not keep up, its figures are worth nothing. Meant for less than 3,000 requests a second.

Requests are sent by a process of its own, so that nothing else delays them:

    with flow(target, rate=300, limit=60) as found:
        ...                       # whatever is to be done meanwhile
    found.result.statuses         # once the block has ended

    LAKEPORT_TOKEN=... python benchmarks/open_loop.py URL BODY.json --rate 300 --seconds 10
"""

import argparse
import contextlib
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

#: Seconds by which a request may be sent late, and the share of those that may be later.
LATE = 0.005
LATE_SHARE = 0.01
#: Seconds after which a request without an answer counts as failed.
TIMEOUT = 60.0
_JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Target:
    """One request, sent again and again."""

    host: str
    port: int
    path: str
    body: str
    headers: Mapping[str, str] = field(default_factory=lambda: _JSON)


@dataclass(frozen=True, slots=True)
class Shot:
    """One request. Times are seconds of `time.monotonic()`, which all processes share."""

    due: float
    sent: float
    ended: float
    #: 0: the connection broke, or there was no answer within TIMEOUT.
    status: int
    #: The header `served-model-name`; for status 0 what went wrong.
    entity: str

    @property
    def latency(self) -> float:
        """Seconds from when it was due."""
        return self.ended - self.due


@dataclass(frozen=True, slots=True)
class Result:
    """All requests of a load, in the order in which they were due."""

    shots: Sequence[Shot]

    @property
    def statuses(self) -> Counter[int]:
        return Counter(shot.status for shot in self.shots)

    @property
    def entities(self) -> Counter[str]:
        return Counter(shot.entity for shot in self.shots if shot.status == 200)

    @property
    def failed(self) -> list[Shot]:
        return [shot for shot in self.shots if shot.status != 200]

    def between(self, begin: float, end: float) -> "Result":
        """Those that were due from `begin` until before `end`."""
        return Result([shot for shot in self.shots if begin <= shot.due < end])

    def with_status(self, *statuses: int) -> "Result":
        return Result([shot for shot in self.shots if shot.status in statuses])

    def per_second(self) -> float:
        """Answers of 200 a second, from the first due time to the last answer."""
        good = self.with_status(200).shots
        if not good:
            return 0.0
        taken = max(shot.ended for shot in good) - min(shot.due for shot in self.shots)
        return len(good) / max(taken, 1e-9)

    def latency(self, share: float) -> float:
        """The quantile in milliseconds; NaN without a request."""
        return 1000 * quantile([shot.latency for shot in self.shots], share)

    def lag(self, share: float) -> float:
        """The quantile, in milliseconds, of how late the load itself was."""
        return 1000 * quantile([shot.sent - shot.due for shot in self.shots], share)

    @property
    def kept_up(self) -> bool:
        late = sum(shot.sent - shot.due > LATE for shot in self.shots)
        return late <= LATE_SHARE * len(self.shots)

    def summary(self) -> dict[str, Any]:
        """Of all requests: how many, the statuses, and latencies of answers of 200 in ms."""
        good = self.with_status(200)
        broken = Counter(shot.entity for shot in self.with_status(0).shots)
        return {
            "requests": len(self.shots),
            "statuses": {str(key): count for key, count in sorted(self.statuses.items())},
            **({"broken": dict(broken)} if broken else {}),
            "per_second": round(self.per_second(), 1),
            **{f"p{share * 100:g}": round(good.latency(share), 2) for share in (0.5, 0.9, 0.99)},
            "max": round(good.latency(1.0), 2),
            "lag_p99": round(self.lag(0.99), 2),
            "lag_max": round(self.lag(1.0), 2),
            "kept_up": self.kept_up,
        }


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of them don't exceed; NaN of none."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


# --- the process that asks ------------------------------------------------------------------------


class Found:
    """What `flow` gives: its `result` is there after the block."""

    result: Result


@contextlib.contextmanager
def flow(target: Target, *, rate: float, limit: float) -> Iterator[Found]:
    """A load of `rate` requests a second while the block runs, at most `limit` seconds.

    When the block ends no more are sent, and those under way are waited for.
    """
    with _asking(target, limit, rate=rate) as (_, found):
        yield found


def steady(target: Target, *, rate: float, seconds: float) -> Result:
    """A load of `rate` requests a second for so long."""
    with _asking(target, seconds, rate=rate) as (process, found):
        process.wait(seconds + TIMEOUT + 30)
    return found.result


def closed(target: Target, *, connections: int, seconds: float) -> Result:
    """As many requests as are answered over so many connections: what the target can do."""
    with _asking(target, seconds, connections=connections) as (process, found):
        process.wait(seconds + TIMEOUT + 30)
    return found.result


@contextlib.contextmanager
def _asking(
    target: Target, seconds: float, *, rate: float = 0.0, connections: int = 0
) -> Iterator[tuple["subprocess.Popen[bytes]", Found]]:
    """The process, from its first request; it ends its load when the block ends."""
    found = Found()
    order = {"seconds": seconds, "timeout": TIMEOUT, "rate": rate, "connections": connections}
    with tempfile.TemporaryFile() as out:
        command = [sys.executable, str(Path(__file__).with_name("asking.py"))]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out)
        assert process.stdin is not None
        try:
            # So that no list of processes shows the token.
            process.stdin.write(json.dumps({**asdict(target), **order}).encode() + b"\n")
            process.stdin.flush()
            _wait_until_begun(process, out.fileno())
            yield process, found
            process.stdin.close()
            if process.wait(TIMEOUT + 30):
                raise RuntimeError(f"the load ended with {process.returncode}")
        finally:
            process.kill()
            process.wait()
        out.seek(0)
        out.readline()
        found.result = Result([Shot(*json.loads(line)) for line in out])


def _wait_until_begun(process: "subprocess.Popen[bytes]", out: int) -> None:
    """It says so in its first line."""
    while os.fstat(out).st_size == 0:
        if process.poll() is not None:
            raise RuntimeError(f"the load ended with {process.returncode}")
        time.sleep(0.01)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("url")
    parser.add_argument("body", type=Path, help="file of the request's body")
    parser.add_argument("--rate", type=float, required=True, help="requests a second")
    parser.add_argument("--seconds", type=float, default=10.0)
    args = parser.parse_args()
    url = urlsplit(args.url)
    token = os.environ.get("LAKEPORT_TOKEN")
    headers = {**_JSON, **({"Authorization": f"Bearer {token}"} if token else {})}
    target = Target(
        url.hostname or "127.0.0.1", url.port or 80, url.path, args.body.read_text(), headers
    )
    result = steady(target, rate=args.rate, seconds=args.seconds)
    print(json.dumps(result.summary(), indent=2))
    if not result.kept_up:
        print("The load could not keep up with its rate: don't use these figures.")


if __name__ == "__main__":
    main()
