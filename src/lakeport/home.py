"""The home folder: where everything lies, private to its owner, for one server at a time."""

import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: A socket's path must be under 100 bytes (worker-protocol.md); this much is kept for what lies
#: below the `run` folder.
_SOCKET_NAME = 45
_SOCKET_PATH = 99


class HomeError(Exception):
    """The home cannot be used; the message says why and what to do, for people."""


class HomeInUse(HomeError):
    """Another server holds it."""


class Home:
    """The paths of a home folder. Nothing is made or opened before `make`.

    Folders are 0700; files that hold anything private are 0600.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()

    @property
    def database(self) -> Path:
        return self.path / "lakeport.db"

    @property
    def artifacts(self) -> Path:
        """Files of runs and models that the embedded registry keeps; callers write here."""
        return self.path / "artifacts"

    @property
    def models(self) -> Path:
        """Models fetched from the registry, a folder each."""
        return self.path / "models"

    @property
    def weights(self) -> Path:
        """Files of models that are known by name, a folder each."""
        return self.path / "weights"

    @property
    def catalogue(self) -> Path:
        """Where it exists, it adds to the models known by name; see models/catalogue.py."""
        return self.path / "catalogue.toml"

    @property
    def envs(self) -> Path:
        """Python environments built for models."""
        return self.path / "envs"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def run(self) -> Path:
        """Sockets. Outside the home when its path is too long for them."""
        run = self.path / "run"
        if len(os.fsencode(run)) + _SOCKET_NAME <= _SOCKET_PATH:
            return run
        name = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:12]
        # Not tempfile's folder, which is long itself on macOS. `make` checks whose it is.
        return Path(f"/tmp/lakeport-{os.geteuid()}-{name}")  # noqa: S108

    @property
    def joined(self) -> Path:
        """Sockets of replicas that join from outside; see docs/internals/worker-protocol.md."""
        return self.run / "joined"

    @property
    def admin_token(self) -> Path:
        return self.path / "admin-token"

    @property
    def token_changes(self) -> Path:
        """Grows by a byte with each `lakeport token`; see auth/tokens.py."""
        return self.path / "token-changes"

    @property
    def secrets_key(self) -> Path:
        """What secrets are encrypted with; made at first use, see auth/sealing.py."""
        return self.path / "secrets.key"

    @property
    def lock_file(self) -> Path:
        return self.path / "lock"

    def make(self) -> None:
        """Make the folders that are missing, private to this user. Raises HomeError."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.mkdir(mode=0o700, exist_ok=True)
            if self.path.stat().st_mode & stat.S_IWOTH:  # somebody gave /tmp, say
                raise HomeError(
                    f"Everybody may write to the folder {self.path}: choose another with --home."
                )
            if self.run.is_symlink():
                raise HomeError(f"{self.run} must not be a link.")
            for folder in (self.artifacts, self.models, self.envs, self.logs, self.run):
                _make_private(folder)
        except OSError as error:
            raise HomeError(
                f"The home {self.path} cannot be made: {error.strerror}. Choose another folder "
                "with --home."
            ) from error

    def tidy(self) -> None:
        """Remove the folder of sockets where it lies outside the home, unless it is in use."""
        if self.run.parent != self.path:
            with suppress(OSError):
                self.run.rmdir()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the home for one server. Raises HomeInUse at once when another one does.

        The lock goes with the process, however it ends. Children do not inherit it.
        """
        try:
            file = os.open(self.lock_file, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise HomeError(
                f"The home {self.path} cannot be locked: {error.strerror}. Choose another folder "
                "with --home."
            ) from error
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = os.pread(file, 32, 0).decode("ascii", "replace").strip() or "unknown"
                raise HomeInUse(
                    f"Another Lakeport server (pid {holder}) uses the home {self.path}. Stop it, "
                    "or choose another folder with --home."
                ) from error
            os.ftruncate(file, 0)
            os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            # The file stays: removing it would let two servers lock two files of one name.
            os.close(file)


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step by one that only this user may read. Raises OSError."""
    part = path.with_name(f".{path.name}.part")
    with suppress(FileNotFoundError):
        part.unlink()  # left by a crash; its mode is not to be trusted
    file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(file, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)


def _make_private(folder: Path) -> None:
    """Make `folder` 0700; one that is there must be this user's, and is given that mode."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        return
    found = folder.stat()
    if not stat.S_ISDIR(found.st_mode):
        raise HomeError(f"{folder} is not a folder.")
    if found.st_uid != os.geteuid():
        raise HomeError(f"The folder {folder} belongs to another user.")
    folder.chmod(0o700)
