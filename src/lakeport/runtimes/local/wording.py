"""Text that programs wrote, made fit for people: no paths, no passwords, no colours."""

import re
from collections.abc import Sequence

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07]*\x07|\x1b[@-_]")
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+(?=@)")
#: An absolute path of two or more parts, not part of a URL; its last part says enough.
_PATHS = re.compile(r"(?<![\w:/.@])/(?:[^\s/'\"`:,;()<>]+/)+([^\s/'\"`:,;()<>]*)")
_EXCEPTION = re.compile(r"(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*(?:Error|Exception|Interrupt|Exit)(?::|$)")


def plain(text: str) -> str:
    """Without terminal escapes, and without user names and passwords in URLs."""
    return _CREDENTIALS.sub("***", _ESCAPES.sub("", text))


def for_people(text: str, *, limit: int = 1500) -> str:
    """`plain`, and absolute paths cut to their last part; the last `limit` characters."""
    short = _PATHS.sub(lambda found: found[1] or "...", plain(text).replace("file:///", "/"))
    return short if len(short) <= limit else "..." + short[3 - limit :]


def exception_line(lines: Sequence[str]) -> str | None:
    """The last line that reads like the end of a traceback, e.g. "ValueError: no such file"."""
    return next((line for line in reversed(lines) if _EXCEPTION.match(line)), None)


def gigabytes(size: int) -> str:
    """Bytes as "4.0 GB"; small ones as "300 MB"."""
    gib = 1024**3
    return f"{size / gib:.1f} GB" if size >= gib else f"{size / 1024**2:.0f} MB"
