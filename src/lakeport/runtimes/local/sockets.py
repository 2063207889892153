"""A folder for sockets whose paths are short enough to listen on."""

import os
import shutil
import stat
import tempfile
from pathlib import Path

#: `sun_path` holds 104 bytes on macOS, 108 on Linux; the protocol says under 100.
LONGEST = 99
PREFIX = "lakeport-"


class SocketFolder:
    """0700; in `run` where the path is short, otherwise a temporary folder, noted in `run`."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._note = run / "socket-folder"
        self._path: Path | None = None

    def open(self) -> None:
        """Make the folder, and remove the one that an earlier life left."""
        self._run.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._remove_noted()
        sockets = self._run / "s"
        shutil.rmtree(sockets, ignore_errors=True)
        if len(os.fsencode(self.path_in(sockets, "0" * 16))) <= LONGEST:
            sockets.mkdir(mode=0o700)
            self._path = sockets
            return
        # Not TMPDIR: it may be as long.
        self._path = Path(tempfile.mkdtemp(prefix=PREFIX, dir="/tmp"))
        self._note.write_text(str(self._path), encoding="utf-8")

    def close(self) -> None:
        if self._path is not None:
            shutil.rmtree(self._path, ignore_errors=True)
            self._note.unlink(missing_ok=True)
            self._path = None

    def socket(self, name: str) -> Path:
        assert self._path is not None, "open() first"
        return self.path_in(self._path, name)

    @staticmethod
    def path_in(folder: Path, name: str) -> Path:
        return folder / f"{name}.sock"

    def _remove_noted(self) -> None:
        try:
            noted = Path(self._note.read_text(encoding="utf-8"))
            status = noted.lstat()
        except OSError:
            return
        # Only what `open` can have made: others may write to /tmp.
        ours = noted.name.startswith(PREFIX) and status.st_uid == os.getuid()
        if ours and stat.S_ISDIR(status.st_mode):
            shutil.rmtree(noted, ignore_errors=True)
        self._note.unlink(missing_ok=True)
