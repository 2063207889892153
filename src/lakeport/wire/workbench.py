"""Faults on demand, endpoints for tests and records of calls: routes of Lakeport's own.

Only a server with the setting `faults` has them. docs/faults.md tells people of them.
"""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from lakeport.wire.numbers import Whole, no_boolean

#: Seconds of a day.
DAY = 86_400
Number = Annotated[float, BeforeValidator(no_boolean)]
Seconds = Annotated[Number, Field(gt=0, le=DAY, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, max_length=255)]


class FaultKind(StrEnum):
    """What a call meets."""

    #: An error with that status.
    STATUS = "status"
    #: The usual answer, after `seconds`.
    SLOW = "slow"
    #: No answer for `seconds`, then a 504.
    TIMEOUT = "timeout"
    #: The connection breaks.
    CUT = "cut"
    #: The usual answer, once the endpoint has woken from zero.
    WAKE = "wake"
    #: Nothing by itself: what is shown of the endpoint differs, and invocations fit what is shown.
    STATE = "state"
    #: A 200 whose body is no JSON.
    BAD_JSON = "bad_json"


class FaultOn(StrEnum):
    """Which calls meet it."""

    INVOCATIONS = "invocations"
    #: Reads of the endpoint: its description and its schema.
    GET = "get"


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid")


class FaultInput(_In):
    """A fault as it is asked for. Which fields go with which kind: `serving/faults.py`."""

    endpoint: Name
    kind: FaultKind
    status: Whole | None = None
    error_code: str | None = Field(None, pattern=r"^[A-Z][A-Z0-9_]{0,99}$")
    message: str | None = Field(None, min_length=1, max_length=4096)
    #: Seconds, of the header `Retry-After`.
    retry_after: Whole | None = Field(None, ge=1, le=DAY)
    seconds: Seconds | None = None
    #: Events of a stream, or bytes of a whole answer.
    after: Whole | None = Field(None, ge=0, le=2**31 - 1)
    ready: Literal["READY", "NOT_READY"] | None = None
    config_update: (
        Literal["NOT_UPDATING", "IN_PROGRESS", "UPDATE_FAILED", "UPDATE_CANCELED"] | None
    ) = None
    on: FaultOn = FaultOn.INVOCATIONS
    times: Whole | None = Field(None, ge=1, le=1_000_000)
    probability: Number = Field(1.0, ge=0, le=1, allow_inf_nan=False)


class Fault(FaultInput):
    """A fault that was added."""

    id: str
    #: Calls that are still to meet it; null: no end.
    left: int | None
    #: Calls that met it.
    hits: int


class Faults(BaseModel):
    faults: list[Fault]


class SignatureInput(_In):
    """A model's signature, as an MLmodel file has it, its parts as lists."""

    inputs: list[dict[str, Any]] | None = None
    outputs: list[dict[str, Any]] | None = None
    params: list[dict[str, Any]] | None = None


class JoinedInput(_In):
    """A process that listens already."""

    #: unix:PATH#SECRET; PATH lies directly in the workspace's folder for sockets.
    address: str = Field(min_length=1, max_length=1000)
    #: What the endpoint says that it answers: "llm/v1/chat", say.
    task: str | None = Field(None, pattern=r"^[a-z]{1,20}/v\d{1,3}/[a-z]{1,20}$")
    #: What is shown as the model's, e.g. on the endpoint's OpenAPI page.
    signature: SignatureInput | None = None


class ModelInput(_In):
    """A model that was saved with `mlflow.<flavor>.save_model`."""

    #: Absolute path of the folder with the MLmodel file, on the server's machine.
    path: str = Field(min_length=1, max_length=4096)


class EndpointInput(_In):
    """An endpoint that lives until it is deleted, or the server ends: exactly one of `joined`,
    `scripted` and `model`."""

    name: str
    joined: JoinedInput | None = None
    #: A script, as docs/scripted.md has it in YAML.
    scripted: dict[str, Any] | None = None
    #: Of a scripted endpoint.
    task: Literal["llm/v1/chat", "llm/v1/completions", "llm/v1/embeddings"] | None = None
    model: ModelInput | None = None


class Call(BaseModel):
    """What an endpoint was asked, and what came of it."""

    endpoint: str
    served_entity: str | None
    caller: str
    #: Milliseconds since the epoch.
    time: int
    #: Until the answer, or a stream's end; null: it is still being answered.
    seconds: float | None
    #: null: not answered yet, or cut before an answer; 499: its caller left.
    status: int | None
    content_type: str | None
    #: The body as JSON; null where it is none.
    request: Any
    #: The body as text, where it is no JSON.
    body: str | None
    #: The id of the fault that it met.
    fault: str | None
    stream: bool


class Calls(BaseModel):
    calls: list[Call]


class Place(BaseModel):
    """Where the workspace lies on its machine."""

    home: str
    #: The folder for the sockets of joined endpoints.
    sockets: str
