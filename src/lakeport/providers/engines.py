"""Links to engines: the same wire as outside, over a unix socket."""

from lakeport.providers.base import ENGINE_SCHEME
from lakeport.providers.openai import OpenAILink
from lakeport.providers.transport import over_unix_socket
from lakeport.providers.way import FixedWay
from lakeport.runtimes.base import Link

#: Seconds to connect to a socket of this machine.
CONNECT_TIMEOUT = 10.0
#: Requests that wait in an engine for a slot.
AT_HAND = 2


class EngineConnector:
    """Connects to engines on this machine. An address is `engine:SOCKET#KEY`."""

    def __init__(self, *, idle_timeout: float, slots: int) -> None:
        """`idle_timeout`: seconds that an engine may send nothing in the middle of an answer.
        `slots`: requests that it works on at a time; others wait at the front, where they are
        bounded and may be taken back, but for a few that are at hand when a slot is free."""
        self._idle_timeout = idle_timeout
        self._credit = slots + AT_HAND

    async def connect(self, address: str) -> Link:
        """Raises ValueError for what is no address."""
        scheme, _, rest = address.partition(":")
        path, mark, key = rest.rpartition("#")
        if scheme != ENGINE_SCHEME or not mark or not path:
            raise ValueError("an engine's address has the form engine:SOCKET#KEY")
        return OpenAILink(
            over_unix_socket(path, connect_timeout=CONNECT_TIMEOUT),
            FixedWay("http://engine/v1", key or None),
            connect_timeout=CONNECT_TIMEOUT,
            idle_timeout=self._idle_timeout,
            who="The model's engine",
            # llama.cpp closes the connection after a stream, and announces that it keeps it.
            fresh_streams=True,
            credit=self._credit,
        )
