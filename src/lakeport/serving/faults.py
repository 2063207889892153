"""Faults on demand, as pure rules: what was asked for, which call meets it, and how often.

A call meets one fault at most: the first one, in the order in which they were added, that has calls
left and whose probability says so.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from lakeport.errors import ENDPOINT_GONE, ApiError
from lakeport.wire.workbench import FaultKind, FaultOn

#: Faults that a server keeps, used up ones included.
MAX_FAULTS = 1000
#: Seconds that an endpoint takes to wake, where the fault does not say.
WAKE = 2.0


#: What may be given with a kind, besides `times` and `probability`.
FIELDS = {
    FaultKind.STATUS: ("status", "error_code", "message", "retry_after", "on"),
    FaultKind.SLOW: ("seconds", "on"),
    FaultKind.TIMEOUT: ("seconds", "on"),
    FaultKind.CUT: ("after", "on"),
    FaultKind.WAKE: ("seconds",),
    FaultKind.STATE: ("ready", "config_update"),
    FaultKind.BAD_JSON: (),
}
#: Status to error code and message, in Databricks' words.
WORDS = {
    400: (
        "BAD_REQUEST",
        "Encountered an unexpected error while evaluating the model. Verify that the input fits.",
    ),
    401: (
        "UNAUTHENTICATED",
        "Credential was not sent or was of an unsupported type for this API.",
    ),
    403: (
        "PERMISSION_DENIED",
        "You do not have permission to query the serving endpoint '{endpoint}'.",
    ),
    404: ("ENDPOINT_NOT_FOUND", ENDPOINT_GONE),
    408: ("REQUEST_TIMEOUT", "The request's body did not arrive in time."),
    413: ("REQUEST_TOO_LARGE", "The request is larger than the limit of 16777216 bytes."),
    429: (
        "REQUEST_LIMIT_EXCEEDED",
        "User defined rate limit(s) exceeded for '{endpoint}'.",
    ),
    500: ("INTERNAL_ERROR", "The served entity failed to answer; its logs say why."),
    502: ("BAD_GATEWAY", "The server behind the served entity gave no valid answer."),
    503: ("TEMPORARILY_UNAVAILABLE", "The served entity has no replica that is ready yet."),
    504: ("DEADLINE_EXCEEDED", "Request processing time exceeded limit of 297 seconds."),
}
#: An endpoint that is not there is told of in other words where it is read.
GONE_ON_GET = (
    "RESOURCE_DOES_NOT_EXIST",
    "Serving endpoint with name '{endpoint}' does not exist.",
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault as it was asked for; fields that its kind does not have are None."""

    endpoint: str
    kind: FaultKind
    status: int | None = None
    error_code: str | None = None
    message: str | None = None
    #: Whole seconds, of the header `Retry-After`, with a 429 or 503.
    retry_after: int | None = None
    seconds: float | None = None
    #: Events of a stream, or bytes of a whole answer, before a cut; None: not even a head.
    after: int | None = None
    #: "READY" or "NOT_READY"; None: as it is.
    ready: str | None = None
    #: As `state.config_update` has it; None: as it is.
    config_update: str | None = None
    on: FaultOn = FaultOn.INVOCATIONS
    #: Calls that meet it; None: no end.
    times: int | None = None
    #: That a call meets it, from 0 to 1.
    probability: float = 1.0


def error(fault: Fault) -> ApiError:
    """What a call that meets a STATUS fault is told."""
    status = fault.status or 500
    code, message = WORDS[status]
    if status == 404 and fault.on is FaultOn.GET:
        code, message = GONE_ON_GET
    told = ApiError(
        fault.message or message.format(endpoint=fault.endpoint), retry_after=fault.retry_after
    )
    told.status = status  # type: ignore[misc]  # a class of its own for each would say no more
    told.error_code = fault.error_code or code  # type: ignore[misc]
    return told


def problem(fault: Fault) -> str | None:
    """What is wrong with a fault: the field and what was expected; None: nothing.

    Types and ranges are looked at where it is read.
    """
    given = {
        "status": fault.status,
        "error_code": fault.error_code,
        "message": fault.message,
        "retry_after": fault.retry_after,
        "seconds": fault.seconds,
        "after": fault.after,
        "ready": fault.ready,
        "config_update": fault.config_update,
        "on": None if fault.on is FaultOn.INVOCATIONS else fault.on,
    }
    known = FIELDS[fault.kind]
    for name, value in given.items():
        if value is not None and name not in known:
            takes = ", ".join((*known, "times", "probability"))
            return f"{name}: a fault of kind '{fault.kind}' has none; it takes {takes}."
    if fault.kind is FaultKind.STATUS and fault.status not in WORDS:
        return f"status: expected one of {', '.join(map(str, WORDS))}."
    if fault.retry_after is not None and fault.status not in (429, 503):
        return f"retry_after: a {fault.status} has none; expected with a status of 429 or 503."
    if fault.kind is FaultKind.SLOW and fault.seconds is None:
        return "seconds: expected with a fault of kind 'slow': how long an answer takes."
    if fault.kind is FaultKind.STATE and fault.ready is None and fault.config_update is None:
        return "ready: expected this, or config_update, with a fault of kind 'state'."
    if fault.after is not None and fault.on is FaultOn.GET:
        return "after: expected with on='invocations' only; a read is cut before its answer."
    return None


class Standing:
    """A fault that was added, and how often it was met."""

    def __init__(self, id: str, fault: Fault, draw: Callable[[], float]) -> None:
        self.id = id
        self.fault = fault
        #: Calls that are still to meet it; None: no end.
        self.left = fault.times
        self.hits = 0
        self._draw = draw

    def met(self) -> bool:
        """Whether the present call meets it; counts it if so."""
        if self.left == 0:
            return False
        if self.fault.probability < 1 and self._draw() >= self.fault.probability:
            return False
        self.hits += 1
        if self.left is not None:
            self.left -= 1
        return True


class Faults:
    """Every fault of a server, in memory.

    Chance is seeded by an endpoint's name and how many faults it had: the same test meets the same
    faults each time.
    """

    def __init__(self) -> None:
        self._standing: dict[str, list[Standing]] = {}
        self._serial = 0

    def __len__(self) -> int:
        return sum(map(len, self._standing.values()))

    def add(self, fault: Fault) -> Standing:
        """Let calls meet `fault` from now on."""
        self._serial += 1
        standing = self._standing.setdefault(fault.endpoint, [])
        chance = random.Random(f"{fault.endpoint}/{len(standing)}")  # noqa: S311 - no secret
        standing.append(added := Standing(f"f{self._serial}", fault, chance.random))
        return added

    def meet(self, endpoint: str, on: FaultOn) -> Standing | None:
        """The fault that this call meets, counted; None: it goes its usual way."""
        for standing in self._standing.get(endpoint, ()):
            fault = standing.fault
            if fault.kind is not FaultKind.STATE and fault.on is on and standing.met():
                return standing
        return None

    def state(self, endpoint: str, *, shown: bool) -> Fault | None:
        """The state that the endpoint is to be in; None: its own.

        `shown`: it is shown to somebody, which is what a STATE fault counts. An invocation only
        looks.
        """
        for standing in self._standing.get(endpoint, ()):
            if standing.fault.kind is FaultKind.STATE and (
                standing.met() if shown else standing.left != 0
            ):
                return standing.fault
        return None

    def listed(self) -> list[Standing]:
        """All of them, used up ones too, endpoint by endpoint in the order in which they came."""
        return [each for standing in self._standing.values() for each in standing]

    def remove(self, id: str) -> None:
        """Forget one; without effect when there is none of that id."""
        for standing in self._standing.values():
            standing[:] = [each for each in standing if each.id != id]

    def clear(self, endpoint: str) -> None:
        """Forget those of an endpoint."""
        self._standing.pop(endpoint, None)
