"""Records of calls, for tests that ask what an endpoint was asked: in memory, and bounded."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from lakeport.errors import ApiError
from lakeport.gateway.bodies import inflate
from lakeport.serving.ports import Invocation

MAX_CALLS = 10_000
#: Of their bodies, inflated.
MAX_BYTES = 64 * 1024 * 1024


@dataclass(slots=True, eq=False)
class Recorded:
    """One call: what was asked, by whom, and what came of it. Tokens are no part of it."""

    endpoint: str
    caller: str
    #: Milliseconds since the epoch.
    time: int
    content_type: str | None
    #: Inflated where it came packed; None: it could not be, or there is no room for it.
    body: bytes | None
    served_entity: str | None = None
    #: Until the answer, or a stream's end; None: it is still being answered.
    seconds: float | None = None
    #: None: not answered yet, or the connection was cut before an answer. 499: the caller left.
    status: int | None = None
    #: The id of the fault that it met.
    fault: str | None = None
    stream: bool = False

    @property
    def is_json(self) -> bool:
        """Whether the body is JSON, strictly so: NaN is none."""
        try:
            orjson.loads(self.body or b"")
        except orjson.JSONDecodeError:
            return False
        return True

    @property
    def text(self) -> str | None:
        """The body as text; None where it is none."""
        try:
            return None if self.body is None else self.body.decode()
        except UnicodeDecodeError:
            return None


class Calls:
    """The latest calls, at most MAX_CALLS of them and MAX_BYTES of their bodies."""

    def __init__(
        self,
        now_ms: Callable[[], int],
        *,
        max_body: int,
        max_calls: int = MAX_CALLS,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        """`max_body`: bytes to which a packed body may inflate."""
        self._now_ms = now_ms
        self._max_body = max_body
        self._max_calls = max_calls
        self._max_bytes = max_bytes
        self._calls: deque[Recorded] = deque()
        self._bytes = 0

    def begin(self, caller: str, invocation: Invocation) -> Recorded:
        """Note a call that has come; what becomes of it is written into the record."""
        body = self._plain(invocation)
        if body is not None and len(body) > self._max_bytes:
            body = None
        call = Recorded(invocation.endpoint, caller, self._now_ms(), invocation.content_type, body)
        self._calls.append(call)
        self._bytes += len(body or b"")
        while len(self._calls) > self._max_calls or self._bytes > self._max_bytes:
            self._bytes -= len(self._calls.popleft().body or b"")
        return call

    def _plain(self, invocation: Invocation) -> bytes | None:
        if invocation.content_encoding is None:
            return invocation.body
        try:
            return inflate(invocation.body, invocation.content_encoding, self._max_body)
        except ApiError:  # its caller is told by whoever answers
            return None

    def of(self, endpoint: str | None) -> list[Recorded]:
        """Calls of one endpoint, or of all, in the order in which they came."""
        return [call for call in self._calls if endpoint in (None, call.endpoint)]

    def forget(self, keep: Callable[[Recorded], bool]) -> None:
        """Forget the calls that `keep` refuses."""
        self._calls = deque(filter(keep, self._calls))
        self._bytes = sum(len(call.body or b"") for call in self._calls)
