"""Which served entity answers: plain values and one choice, no I/O.

Control publishes a whole table of `EndpointRoute`s; the front replaces its table in one assignment.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from lakeport.auth.callers import AccessList
from lakeport.wire.chat import ChatTarget


class Condition(Enum):
    """What an endpoint can do with an invocation."""

    SERVING = "serving"
    #: Its first config is being rolled out, or it is being started again: an invocation waits a
    #: little.
    STARTING = "starting"
    STOPPED = "stopped"
    #: Its first config failed, or its start.
    FAILED = "failed"
    #: It has no config.
    EMPTY = "empty"


@dataclass(frozen=True, slots=True)
class Share:
    """A served entity of the active config with its percentage of the traffic."""

    entity: str
    deployment: str
    percentage: int
    #: How it is spoken to on the OpenAI wire; None: it gets every body unparsed.
    chat: ChatTarget | None = None


@dataclass(frozen=True, slots=True)
class EndpointRoute:
    endpoint: str
    condition: Condition
    access: AccessList
    shares: tuple[Share, ...] = ()
    #: Why it failed, for people; "" otherwise.
    reason: str = ""


RouteTable = Mapping[str, EndpointRoute]
EMPTY_TABLE: RouteTable = {}


def pick(shares: tuple[Share, ...], draw: float) -> Share:
    """The share that `draw`, uniform in [0, 1), falls on. Percentages sum to 100."""
    if len(shares) == 1:
        return shares[0]
    mark = draw * 100
    chosen = None
    for share in shares:
        if share.percentage:
            chosen = share
            mark -= share.percentage
            if mark < 0:
                break
    if chosen is None:
        raise ValueError("no share has any traffic")
    return chosen


def named(shares: tuple[Share, ...], entity: str) -> Share | None:
    """The share of one served entity, asked for by name."""
    return next((share for share in shares if share.entity == entity), None)
