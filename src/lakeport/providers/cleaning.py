"""What of a server's error message may be handed on: no key, no address, no path."""

import ipaddress
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

#: Characters of one message that are handed on.
MAX_MESSAGE = 2000
_MAX_DEPTH = 8

#: Credentials by the word before them. One digit at least: "Bearer authentication" is none.
_BEARER = re.compile(
    r"\b((?:bearer|basic)\s+|api[-_]?key[\"']?\s*[:=]\s*[\"']?)(?=[^\s\"',;]{0,200}\d)[^\s\"',;]{8,}",
    re.I,
)
#: Keys as providers shape them: a short word, a dash or underscore, then a long random part. Stars
#: and dots are where a provider has masked its middle.
_KEY = re.compile(
    r"\b(?:sk|pk|rk|gsk|xai|hf|ghp|gho|pat|nvapi|csk|fw|r8|pplx|tgp|dapi|dose|dkea)"
    r"(?:[-_]|(?<=dapi)|(?<=dose)|(?<=dkea))[A-Za-z0-9_*.\-]{6,}"
)
_URL = re.compile(r"\b[a-z][a-z0-9+.\-]{1,15}://[^\s\"'<>)\]}]+", re.I)
_V4 = re.compile(r"(?<![\w.])(\d{1,3}(?:\.\d{1,3}){3})(:\d{1,5})?(?![\w])")
_V6 = re.compile(
    r"\[?(?<![\w:])((?:[0-9a-f]{0,4}:){2,7}[0-9a-f.]{0,15})(?:%\w+)?\]?(:\d{1,5})?", re.I
)
_LOCAL_NAME = re.compile(
    r"(?<![\w.-])(?:localhost|(?:[\w-]+\.)+(?:internal|local|localdomain|lan|corp|intranet|svc|home)"
    r")(?![\w-])(:\d{1,5})?",
    re.I,
)
_PATH = re.compile(
    r"(?<![\w/.:])(?:~|\.{1,2})?/[\w.@+-]+(?:/[\w.@+-]+)+/?|\b[A-Za-z]:\\[^\s\"'<>]+"
)


class Cleaner:
    """Cleans what came back over one call; knows the keys that went out with it."""

    __slots__ = ("_hidden",)

    def __init__(self, keys: Sequence[str] = (), hosts: Sequence[str] = ()) -> None:
        """`hosts` are where the call went: "host" and "host:port"."""
        hidden = {form: "[key]" for key in keys if len(key) > 3 for form in (key, quote(key, ""))}
        for host in hosts:
            if "." in host or ":" in host:
                hidden[host] = "[address]"
        # The longest first: one may hold another.
        self._hidden = sorted(hidden.items(), key=lambda item: -len(item[0]))

    def text(self, text: str) -> str:
        for secret, instead in self._hidden:
            text = text.replace(secret, instead)
        text = _BEARER.sub(lambda found: f"{found[1]}[key]", text)
        text = _KEY.sub("[key]", text)
        text = _URL.sub("[url]", text)
        text = _V4.sub(_unless_public, text)
        text = _V6.sub(_unless_public, text)
        text = _LOCAL_NAME.sub("[address]", text)
        text = _PATH.sub("[path]", text)
        return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 3] + "..."

    def value(self, value: Any, depth: int = _MAX_DEPTH) -> Any:
        """A JSON value with every text in it cleaned; what is nested too deep is left out."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict | list) and not depth:
            return None
        if isinstance(value, dict):
            return {self.text(key): self.value(item, depth - 1) for key, item in value.items()}
        if isinstance(value, list):
            return [self.value(item, depth - 1) for item in value]
        return value


def _unless_public(found: re.Match[str]) -> str:
    try:
        public = ipaddress.ip_address(found[1]).is_global
    except ValueError:
        return found[0]  # a version number, a time of day
    return found[0] if public else "[address]"
