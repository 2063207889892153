"""What the registry's process prints, in a file that cannot grow without end."""

import codecs
import logging
from logging.handlers import RotatingFileHandler
from pathlib import Path

FILE_BYTES = 10 * 1024 * 1024
OLDER_FILES = 2


class LogFile(RotatingFileHandler):
    """Takes a child's output as it comes. `write` never raises: what a full disk does not take is
    lost."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, maxBytes=FILE_BYTES, backupCount=OLDER_FILES, delay=True)
        self.terminator = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def write(self, output: bytes) -> None:
        text = self._decoder.decode(output)
        if text:
            self.handle(logging.makeLogRecord({"msg": text}))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """`logging` would print a traceback."""
