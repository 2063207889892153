"""What happened to endpoints, for people who ask why: a route of Lakeport's own."""

from pydantic import BaseModel


class Event(BaseModel):
    id: int
    #: Milliseconds since the epoch.
    at: int
    endpoint: str
    kind: str
    message: str
    #: Who asked, or "system".
    actor: str
    #: The served entity it is about, if one.
    entity: str | None = None


class Events(BaseModel):
    events: list[Event]
