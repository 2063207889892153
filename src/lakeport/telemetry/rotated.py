"""Files for what children print, which cannot grow without end nor turn a full disk on anybody."""

import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

#: Bytes of one file, and how many of them.
FILE_BYTES = 10 * 1024 * 1024
FILES = 3

#: Bytes at the start of a file in which its first line is looked for.
HEAD = 4096

_TIMED = re.compile(rb"^\d.*\n", re.MULTILINE)

Write = Callable[[int, bytes], int]


@dataclass(frozen=True, slots=True)
class Position:
    """A place between two lines. It names its file by that file's first line, which begins with the
    time: so it stays true when the file is renamed, and when the server starts again."""

    file: str
    #: Bytes from the start of the file.
    offset: int


@dataclass(frozen=True, slots=True)
class Part:
    """Some lines, oldest first, and where the next one will be."""

    lines: tuple[bytes, ...]
    #: None: nothing was ever written.
    next: Position | None
    #: Lines before these were removed before they were read.
    lost: bool = False
    #: A bound was reached: there may be more already.
    more: bool = False


class RotatedFile:
    """Appends to FILE, which becomes FILE.1 and so on once it is full.

    `append` never raises: what cannot be written (a full disk) is dropped and counted, and the
    count is written once there is room again.
    """

    def __init__(
        self, path: Path, *, limit: int = FILE_BYTES, keep: int = FILES, write: Write = os.write
    ) -> None:
        self._path = path
        self._limit = limit
        self._keep = keep
        self._write = write
        self._descriptor: int | None = None
        self._size = 0
        self._torn = False
        self._closed = False
        #: Bytes dropped since the last that were written.
        self.lost = 0

    def append(self, lines: bytes) -> None:
        if self._closed:
            return
        note = b""
        if self.lost:
            note = b"\n" * self._torn
            note += b"[lakeport] %d bytes of output were lost: no room on the disk\n" % self.lost
        try:
            self._write_all(note + lines)
        except OSError:
            self.lost += len(lines)
        else:
            self.lost = 0

    def tail(self, limit: int) -> bytes:
        """The newest whole lines, at most `limit` bytes."""
        parts: list[bytes] = []
        left = limit
        for path in [self._path, *self._older()]:
            try:
                with path.open("rb") as file:
                    size = file.seek(0, os.SEEK_END)
                    file.seek(max(size - left, 0))
                    content = file.read(left)
            except OSError:
                continue
            cut = size > len(content)
            parts.append(content.partition(b"\n")[2] if cut else content)
            left -= len(content)
            if cut or left <= 0:
                break
        return b"".join(reversed(parts))

    def newest(self, limit: int, *, lines: int) -> Part:
        """The newest lines, as many as that and within `limit` bytes."""
        found = self.tail(limit).split(b"\n")
        whole = found[:-1]  # what follows the last newline is not whole yet
        return Part(tuple(whole[max(len(whole) - lines, 0) :]), self._end())

    def read(self, after: Position | None, limit: int, *, lines: int) -> Part:
        """The lines after a position, oldest first, as many as that and within `limit` bytes; from
        the oldest that is kept on without a position, and where its file is gone."""
        files = [(path, name) for path in self._oldest_first() if (name := _name(path))]
        start = next((n for n, (_, name) in enumerate(files) if after and name == after.file), None)
        lost = after is not None and start is None and bool(files)
        at = after
        found: list[bytes] = []
        more = False
        for path, name in files[start or 0 :]:
            offset = after.offset if after is not None and name == after.file else 0
            whole, end, more = _lines(path, offset, limit, lines - len(found), cut=not found)
            found += whole
            limit -= end - offset
            at = Position(name, end)
            more = more or limit <= 0 or len(found) >= lines
            if more:
                break
        return Part(tuple(found), at, lost, more)

    def _end(self) -> Position | None:
        for path in [self._path, *self._older()]:
            if name := _name(path):
                with suppress(OSError), path.open("rb") as file:
                    return Position(name, _whole(file))
        return None

    def _oldest_first(self) -> list[Path]:
        return [*reversed(self._older()), self._path]

    def close(self) -> None:
        """For good: what is appended after it is dropped."""
        self._closed = True
        self._release()

    def _release(self) -> None:
        if self._descriptor is not None:
            with suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None

    def _write_all(self, content: bytes) -> None:
        descriptor = self._open(len(content))
        view = memoryview(content)
        while view:
            try:
                written = self._write(descriptor, bytes(view))
            except OSError:
                self._torn = len(view) < len(content) or self._torn
                raise
            self._size += written
            view = view[written:]
        self._torn = False

    def _open(self, coming: int) -> int:
        if self._descriptor is not None and self._size + coming > self._limit and self._size:
            self._release()
            for older, newer in zip(reversed(self._older()), self._newer(), strict=True):
                with suppress(FileNotFoundError):
                    newer.replace(older)
        if self._descriptor is None:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags, 0o600)
            self._size = os.fstat(self._descriptor).st_size
        return self._descriptor

    def _older(self) -> list[Path]:
        """FILE.1, FILE.2: newest first."""
        return [self._path.with_name(f"{self._path.name}.{n}") for n in range(1, self._keep)]

    def _newer(self) -> list[Path]:
        """What becomes each of `_older` reversed: FILE.1, FILE."""
        return list(reversed([self._path, *self._older()][:-1]))


def _name(path: Path) -> str:
    """What a file is called, by its first line with a time; "" while it has none."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError:
        return ""
    # A word on a full disk has no time, and may begin two files.
    line = _TIMED.search(head)
    known = line[0] if line else head if len(head) == HEAD else b""
    return sha256(known).hexdigest()[:16] if known else ""


def _lines(
    path: Path, offset: int, limit: int, lines: int, *, cut: bool
) -> tuple[list[bytes], int, bool]:
    """Whole lines from `offset` on, without their ends; the offset after the last of them; whether
    the file has more. `cut`: a line that fills all the room is given as if it ended there."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            content = file.read(limit)
    except OSError:
        return [], offset, False
    full = len(content) == limit
    whole, end, _ = content.rpartition(b"\n")
    if not end:
        return ([content], offset + limit, True) if full and cut else ([], offset, full)
    every = whole.split(b"\n")
    found = every[:lines]
    more = full or len(found) < len(every)
    return found, offset + sum(len(line) + 1 for line in found), more


def _whole(file: BinaryIO) -> int:
    """The offset after the last whole line."""
    size = end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(end - HEAD, 0)
        file.seek(start)
        cut = file.read(end - start).rfind(b"\n")
        if cut >= 0:
            return start + cut + 1
        end = start
    return 0 if size == 0 else end
