"""The server's own logging: one line an event on stderr, and no token in any of them."""

import logging
import re
import sys
import time
import traceback
from types import TracebackType
from typing import TextIO

#: What looks like a credential: the rest of an Authorization header, a token of ours, the password
#: in a URL.
_SECRETS = re.compile(
    r"""(?ix)
    (?P<scheme> \b(?:bearer|basic) [\s:=]+ ['"]? ) [^\s'",;]{16,}
    | \b dapi [0-9a-f]{8,}
    | (?P<user> ://[^\s:/@]*: ) [^\s/@]+ (?=@)
    """
)
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
#: Frames of a traceback that are shown, innermost first.
_FRAMES = 6


def configure(level: str, stream: TextIO | None = None) -> None:
    """Log lakeport's events from `level` up, and warnings of others, to `stream` (stderr)."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(LineFormatter())
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(logging.WARNING)
    logging.getLogger("lakeport").setLevel(level.upper())
    logging.captureWarnings(True)


def redacted(text: str) -> str:
    """`text` without what looks like a credential."""
    return _SECRETS.sub(lambda found: f"{found['scheme'] or found['user'] or ''}[redacted]", text)


class LineFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.123Z INFO lakeport.control message`; whatever the message holds, it
    stays one line."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        head = f"{moment}.{int(record.msecs):03}Z {record.levelname} {record.name} "
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += " | " + _brief(record.exc_info[1], record.exc_info[2])
        return head + _CONTROLS.sub(_escaped, redacted(text))


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


def _brief(error: BaseException, trace: TracebackType | None) -> str:
    frames = traceback.extract_tb(trace)[: -_FRAMES - 1 : -1]
    places = " < ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames)
    cause = error.__cause__
    because = f" (from {type(cause).__name__}: {cause})" if cause else ""
    return f"{type(error).__name__}: {error}{because} at {places}"
