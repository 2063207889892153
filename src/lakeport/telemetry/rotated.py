"""Files for what children print, which cannot grow without end nor turn a full disk on anybody."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

#: Bytes of one file, and how many of them.
FILE_BYTES = 10 * 1024 * 1024
FILES = 3

Write = Callable[[int, bytes], int]


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
