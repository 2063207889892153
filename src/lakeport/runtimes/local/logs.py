"""What replicas and builds print, kept in rotated files that no full disk turns against anybody."""

import os
import re
import shutil
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from lakeport.runtimes.local.wording import plain
from lakeport.telemetry.rotated import Part, Position, RotatedFile, Write

#: Bytes that `text` gives at most.
NEWEST = 1024 * 1024
#: Bytes of one part that `LogReader` gives at most; more than a line.
PART = 256 * 1024
#: A line longer than this is cut into several.
LINE = 64 * 1024
#: Days that the logs of a deployment that is gone are kept.
KEEP_DAYS = 30
#: In a deployment's folder: it is gone, its logs may go too.
FORGOTTEN = "forgotten"
REPLICAS, BUILD = "replicas.log", "build.log"


class Lines:
    """Cuts a child's output into lines and passes them on, marked with time and writer."""

    def __init__(
        self,
        file: RotatedFile,
        writer: str | None = None,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        on_end: Callable[["Lines"], None] = lambda _: None,
    ) -> None:
        self._file = file
        self._writer = f" [{writer}]" if writer else ""
        self._now = now
        self._on_end = on_end
        self._begun = b""
        #: The last lines, for who wants to know why it ended.
        self.last: deque[str] = deque(maxlen=50)

    def feed(self, data: bytes) -> None:
        *whole, self._begun = (self._begun + data).split(b"\n")
        if len(self._begun) > LINE:
            whole.append(self._begun)
            self._begun = b""
        self._pass_on(whole)

    def say(self, text: str) -> None:
        """Whole lines of our own."""
        self._pass_on([line.encode() for line in text.splitlines()])

    def end(self) -> None:
        """Nothing more comes: an unfinished line counts."""
        begun, self._begun = self._begun, b""
        self._pass_on([begun] if begun else [])
        self._on_end(self)

    def begun(self) -> str:
        """The unfinished line, marked as if it were whole; "" without one."""
        return self._marked(self._text(self._begun)) if self._begun else ""

    def _pass_on(self, lines: list[bytes]) -> None:
        if lines:
            texts = [self._text(line) for line in lines]
            self.last.extend(texts)
            self._file.append("".join(map(self._marked, texts)).encode())

    def _text(self, line: bytes) -> str:
        # A progress bar overwrites itself after each \r: keep what a terminal would show.
        shown = line.rstrip(b"\r").rpartition(b"\r")[2]
        return plain(shown.decode(errors="replace"))

    def _marked(self, text: str) -> str:
        stamp = self._now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return f"{stamp}{self._writer} {text}\n"


class Logs:
    """A folder per deployment: `replicas.log` of all its replicas, `build.log` of its builds."""

    def __init__(self, folder: Path, *, write: Write = os.write) -> None:
        self._folder = folder
        self._write = write
        self._files: dict[tuple[str, str], RotatedFile] = {}
        self._writing: dict[str, set[Lines]] = {}

    def open(self) -> None:
        """Remove what was forgotten long ago."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        oldest = time.time() - KEEP_DAYS * 24 * 3600
        for marker in self._folder.glob(f"*/{FORGOTTEN}"):
            with suppress(OSError):
                if marker.stat().st_mtime < oldest:
                    shutil.rmtree(marker.parent)

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()

    def replica(self, deployment: str, replica: str) -> Lines:
        """A sink for one replica's output; `end` it when the replica is gone."""
        writing = self._writing.setdefault(deployment, set())
        lines = Lines(self._file(deployment, REPLICAS), replica, on_end=writing.discard)
        writing.add(lines)
        return lines

    def build(self, deployment: str) -> Lines:
        return Lines(self._file(deployment, BUILD))

    def text(self, deployment: str) -> str:
        begun = "".join(lines.begun() for lines in self._writing.get(deployment, ()))
        return self._tail(deployment, REPLICAS) + begun

    def build_text(self, deployment: str) -> str:
        return self._tail(deployment, BUILD)

    def forget(self, deployment: str) -> None:
        for key in [key for key in self._files if key[0] == deployment]:
            self._files.pop(key).close()
        self._writing.pop(deployment, None)
        folder = self._folder / safe_name(deployment)
        with suppress(OSError):
            if folder.is_dir():
                (folder / FORGOTTEN).touch()

    def _tail(self, deployment: str, name: str) -> str:
        return self._file(deployment, name).tail(NEWEST).decode(errors="replace")

    def _file(self, deployment: str, name: str) -> RotatedFile:
        key = (deployment, name)
        if key not in self._files:
            path = self._folder / safe_name(deployment) / name
            self._files[key] = RotatedFile(path, write=self._write)
        return self._files[key]


class LogReader:
    """Reads the same files line by line, those of deployments of earlier lives among them. It has
    no part in their writing, and keeps nothing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def newest(self, deployment: str, *, lines: int, build: bool) -> Part:
        """The newest lines of its replicas, or of its build: whole ones only."""
        return self._file(deployment, build).newest(PART, lines=lines)

    def read(self, deployment: str, after: Position | None, *, lines: int, build: bool) -> Part:
        """Those after a position, or from the oldest on that is kept."""
        return self._file(deployment, build).read(after, PART, lines=lines)

    def ended(self, deployment: str) -> bool:
        """Whether nothing more will be written."""
        folder = self._folder / safe_name(deployment)
        return not folder.is_dir() or (folder / FORGOTTEN).exists()

    def _file(self, deployment: str, build: bool) -> RotatedFile:
        return RotatedFile(self._folder / safe_name(deployment) / (BUILD if build else REPLICAS))


def safe_name(id: str) -> str:
    """`id` as the name of a folder: itself where it can be."""
    if re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,120}", id):
        return id
    return sha256(id.encode()).hexdigest()
