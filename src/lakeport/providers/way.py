"""Where the calls of one link go, and with what."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from yarl import URL

from lakeport.providers.cleaning import Cleaner
from lakeport.wire.chat import Operation


@dataclass(frozen=True, slots=True)
class Request:
    """Where a call goes, and with what."""

    url: URL
    headers: Mapping[str, str]
    #: The keys among the headers, in clear.
    keys: Sequence[str] = ()

    def cleaner(self) -> Cleaner:
        host = self.url.host or ""
        return Cleaner(self.keys, [f"{host}:{self.url.port}", host])


class Way(Protocol):
    """How the calls of one link reach their server."""

    async def request(self, operation: Operation) -> Request:
        """Raises KeyUnavailable."""


class FixedWay:
    """The way to a server below one base URL, with one key or none."""

    def __init__(self, base: str, key: str | None = None) -> None:
        """`base` as OpenAI's clients have it, e.g. "http://engine/v1"."""
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._requests = {
            operation: Request(
                URL(f"{base.rstrip('/')}/{operation}"), headers, () if key is None else (key,)
            )
            for operation in Operation
        }

    async def request(self, operation: Operation) -> Request:
        return self._requests[operation]
