"""The replica of a deployment for which no process of ours runs."""

import asyncio

from lakeport.runtimes.base import Usage


class AddressOnly:
    """A `Replica` that is an address and nothing else: it is there until it is stopped."""

    def __init__(self, id: str, address: str) -> None:
        self.id = id
        self.address = address
        self._exited: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @property
    def exited(self) -> "asyncio.Future[str]":
        """Awaiting it may be cancelled without harm."""
        return asyncio.shield(self._exited)

    def usage(self) -> Usage | None:
        return None

    async def stop(self, *, grace: float) -> None:
        if not self._exited.done():
            self._exited.set_result("stopped")
