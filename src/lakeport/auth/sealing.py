"""Encryption at rest: AES-256-GCM with a key that lies beside the database, in HOME/secrets.key.

Whoever has the database alone, a backup of it say, can read nothing that is sealed here. What is
sealed is bound to its context (the name of a secret, say): moved elsewhere it does not open.
"""

import hashlib
import logging
import os
import re
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from lakeport.home import write_private

_KEY = 32
_NONCE = 12
#: The whole file: the key in hex, and the end of the line.
_FILE = re.compile(rb"[0-9a-f]{64}\n?")

_log = logging.getLogger(__name__)


class CannotOpen(Exception):
    """Something sealed cannot be read; says why, for people."""


class Sealer:
    """The key file, and what it encrypts. Nothing is read before `load`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._cipher: AESGCM | None = None
        #: Names the key without telling it; None: there is no usable file.
        self.key_id: str | None = None

    def load(self) -> bool:
        """Read the file anew; False when there is none, or none that is usable."""
        self._cipher = self.key_id = None
        try:
            text = self._path.read_bytes()
            if self._path.stat().st_mode & 0o077:
                _log.warning("others could read %s: made private", self._path)
                self._path.chmod(0o600)
        except FileNotFoundError:
            return False
        except OSError as error:
            _log.error("the key file cannot be read: %s", error)
            return False
        if not _FILE.fullmatch(text):
            _log.error("%s is no key file: expected 64 hexadecimal digits", self._path)
            return False
        self._use(bytes.fromhex(text.decode("ascii").strip()))
        return True

    @property
    def missing(self) -> bool:
        """Whether there is no file at all, so that one may be made."""
        return not self._path.exists()

    def make(self) -> None:
        """Make the file, with a new key. Raises OSError."""
        key = secrets.token_bytes(_KEY)
        write_private(self._path, key.hex() + "\n")
        # The name must be as durable as what is encrypted with the key.
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        _log.info("made the key file %s: keep a copy of it apart from the database's", self._path)
        self._use(key)

    def seal(self, clear: bytes, context: str) -> bytes:
        """`clear` encrypted, with a nonce of its own. There must be a key."""
        assert self._cipher is not None, "sealed without a key"
        nonce = secrets.token_bytes(_NONCE)
        return nonce + self._cipher.encrypt(nonce, clear, context.encode())

    def open(self, sealed: bytes, context: str, key_id: str) -> bytes:
        """What `seal` was given, with the same context, under the key `key_id`.

        Raises CannotOpen. A key file that was put back meanwhile is taken notice of.
        """
        if self.key_id != key_id and not (self.load() and self.key_id == key_id):
            if self.key_id is None:
                raise CannotOpen(
                    "the key file that it was encrypted with (secrets.key) is lost; the server's "
                    "operator must put it back"
                )
            raise CannotOpen(
                "it was encrypted with another key file than the server's secrets.key; the "
                "server's operator must put the right one back"
            )
        assert self._cipher is not None
        try:
            return self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], context.encode())
        except (InvalidTag, ValueError) as error:  # ValueError: too short to hold a nonce
            why = "what is stored for it is damaged, or was put there for another"
            raise CannotOpen(why) from error

    def _use(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self.key_id = hashlib.sha256(b"lakeport key id\0" + key).hexdigest()[:16]
