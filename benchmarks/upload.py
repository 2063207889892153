"""Do invocations feel a large artifact? `python benchmarks/upload.py`.

A small model is asked over one connection, again as soon as it answers: alone, while a file of 5 GB
is uploaded through Lakeport's port and while it is downloaded again. The same bytes then go to a
plain `mlflow server` beside it: what that costs the invocations is the machine's cores being
shared, and only the rest is Lakeport's doing. docs/benchmarks.md says more.
"""

import argparse
import http.client
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import servers
from load import Load, NoWrk, ensure_wrk
from models import save
from report import markdown
from run import Records, Wrong, machine, predictions

PATH = "/api/2.0/mlflow-artifacts/artifacts/big.bin"
PIECE = bytes(1024 * 1024)
GB = 1000**3
#: Bytes of disk that must be left beside the upload.
SPARE = 2 * GB
#: Seconds for one transfer, and between two looks at the memory.
LIMIT = 3600
LOOK = 0.25


class Artifact:
    """A file of zeros at a server that takes MLflow's artifacts. It never lies in memory here."""

    def __init__(self, server: servers.Running, size: int) -> None:
        self._peer = server.peer
        self._size = size

    def upload(self) -> None:
        with self._connection() as connection:
            connection.putrequest("PUT", PATH)
            for name, value in self._headers({"Content-Length": str(self._size)}).items():
                connection.putheader(name, value)
            connection.endheaders()
            for begin in range(0, self._size, len(PIECE)):
                connection.send(PIECE[: self._size - begin])
            _read(connection, "upload")

    def download(self) -> None:
        with self._connection() as connection:
            connection.request("GET", PATH, headers=self._headers())
            if (received := _read(connection, "download")) != self._size:
                raise Wrong(f"download: {received} bytes came of {self._size}")

    def remove(self) -> None:
        with self._connection() as connection:
            connection.request("DELETE", PATH, headers=self._headers())
            _read(connection, "removal")

    @contextmanager
    def _connection(self) -> Iterator[http.client.HTTPConnection]:
        connection = http.client.HTTPConnection("127.0.0.1", self._peer.port, timeout=120)
        try:
            yield connection
        finally:
            connection.close()

    def _headers(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        token = self._peer.headers.get("Authorization")
        return ({"Authorization": token} if token else {}) | dict(more or {})


def _read(connection: http.client.HTTPConnection, what: str) -> int:
    """The number of bytes of the answer. Raises Wrong."""
    answer = connection.getresponse()
    if answer.status != 200:
        raise Wrong(f"{what}: {answer.status} {answer.read(500)!r}")
    room, received = bytearray(len(PIECE)), 0
    while count := answer.readinto(room):
        received += count
    return received


class Memory:
    """How far the memory of a server's processes rises above what it is at first."""

    def __init__(self, server: servers.Running) -> None:
        self._server = server
        self._ended = threading.Event()
        self._first = self._peak = server.weigh().rss

    @contextmanager
    def watched(self) -> Iterator[None]:
        watcher = threading.Thread(target=self._watch)
        watcher.start()
        try:
            yield
        finally:
            self._ended.set()
            watcher.join()

    @property
    def grew(self) -> int:
        """MiB."""
        return self._peak - self._first

    def _watch(self) -> None:
        while not self._ended.wait(LOOK):
            self._peak = max(self._peak, self._server.weigh().rss)


def main() -> int:
    args = parse_arguments()
    # A `timeout` around it must leave neither servers nor gigabytes behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    size = round(args.gigabytes * GB)
    try:
        ensure_wrk()
        with tempfile.TemporaryDirectory(prefix="lakeport-bench-") as temporary:
            folder = Path(temporary)
            free = shutil.disk_usage(folder).free
            if free < size + SPARE:
                print(
                    f"{folder.parent} has {free / GB:.1f} GB left, and {(size + SPARE) / GB:.1f} "
                    "are needed. TMPDIR names another folder, --gigabytes a smaller file.",
                    file=sys.stderr,
                )
                return 2
            emit = Records(args.out)
            emit(machine())
            measure(size, args.seconds, args.rounds, folder, emit)
    except NoWrk as problem:
        print(problem, file=sys.stderr)
        return 2
    except (Wrong, servers.NotStarted, OSError) as problem:
        print(problem, file=sys.stderr)
        return 1
    print(markdown(emit.records))
    print(f"written to {emit.file}", file=sys.stderr)
    return 0


def measure(size: int, seconds: int, rounds: int, folder: Path, emit: Records) -> None:
    model = save("iris", folder)
    lakeport = servers.lakeport(model.folder, folder / "home")
    plain = servers.mlflow_server(folder)
    with servers.running(lakeport, folder) as server, servers.running(plain, folder) as other:
        server.wait_for_answer(model.body(1))
        other.wait_for_answer(None)
        before = predictions(server, model)
        load = Load(lakeport.url, lakeport.headers, model.body(1), folder)
        load.run(1, seconds)  # nothing is compared with a cold server
        Artifact(server, 1).upload()  # nor with a registry that has yet to start

        def during(what: str, work: Callable[[], None] | None, grows: servers.Running) -> None:
            """One point: invocations while `work` runs, or for `seconds` without any."""
            memory = Memory(grows)
            with load.running(1, LIMIT) as figures, memory.watched():
                began = time.perf_counter()
                work() if work else time.sleep(seconds)
                took = time.perf_counter() - began
            if figures[0].errors:
                raise Wrong(f"{what}: {figures[0].errors} requests were not answered with 200")
            emit(
                {
                    "kind": "transfer",
                    "what": what,
                    "gigabytes": round(size / GB, 3) if work else None,
                    "rate": round(size / took / 1e6) if work else None,
                    "seconds": round(took, 1),
                    **asdict(figures[0]),
                    "grew": memory.grew if work else None,
                }
            )

        during("nothing", None, server)
        for name, target in (("Lakeport", server), ("a plain MLflow server", other)) * rounds:
            artifact = Artifact(target, size)
            try:
                during(f"upload to {name}", artifact.upload, target)
                during(f"download from {name}", artifact.download, target)
            finally:
                artifact.remove()
        during("nothing, again", None, server)
        if predictions(server, model) != before:
            raise Wrong("the predictions changed meanwhile")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add: Any = parser.add_argument
    add("--gigabytes", type=float, default=5, help="size of the file, in 10^9 bytes")
    add("--rounds", type=int, default=1, help="several take turns: for a machine that is not quiet")
    add("--seconds", type=int, default=10, help="of the points without a transfer")
    add("--out", type=Path, help="file of JSON lines; otherwise a new one in benchmarks/results")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
