"""One call on its way to a replica, and its place there."""

from typing import Protocol

from lakeport.errors import ApiError
from lakeport.runtimes.base import Answer, Call, Link, ReplicaLost, Sending, Stream

#: Links on the OpenAI wire end a call at its deadline themselves, without blame for the replica,
#: which may hold many others. This many seconds later the link has failed, and with it the replica.
LATE = 2.0


class Slot:
    """One replica that is reached, and the link to it."""

    __slots__ = ("link", "replica")

    def __init__(self, replica: str, link: Link) -> None:
        self.replica = replica
        self.link = link


class Keeper(Protocol):
    """Who hears what becomes of a flight: a `Deployment`."""

    def taken(self, flight: "Flight", result: Answer | Stream | ReplicaLost) -> None: ...


class Flight:
    """One call on its way, to be given to `Deployment.begin`.

    It ends with one call of `landed` or `failed`, or with `Deployment.cancel`.
    """

    __slots__ = ("_keeper", "call", "expires", "over", "queued_at", "sending", "slot")

    def __init__(self, keeper: Keeper, call: Call) -> None:
        self._keeper = keeper
        self.call = call
        #: Neither waiting nor held by a replica any more.
        self.over = False
        #: Since when it waits for a slot, or has waited.
        self.queued_at = 0.0
        #: The replica that holds it, or has held it; None: it waits.
        self.slot: Slot | None = None
        self.sending: Sending | None = None
        self.expires = call.deadline if call.operation is None else call.deadline + LATE

    def boarded(self) -> None:
        """It has left the queue for a replica."""

    def landed(self, result: Answer | Stream) -> None:
        """The replica's answer. A stream keeps its slot: give it back with `freed` at its end."""
        raise NotImplementedError

    def failed(self, error: ApiError) -> None:
        """There is no answer: Unavailable, DeadlineExceeded, Internal (the replica was lost)."""
        raise NotImplementedError

    def taken(self, result: Answer | Stream | ReplicaLost) -> None:
        """What the link says."""
        self._keeper.taken(self, result)
