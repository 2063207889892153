"""What happened to endpoints, for people who ask why: a route of Lakeport's own."""

from pydantic import BaseModel

#: Every kind of event, and what it says.
KINDS = {
    "created": "the endpoint was made",
    "deleted": "it was deleted",
    "update_started": "a new config was asked for",
    "update_succeeded": "every entity of it answers; it serves now",
    "update_failed": "an entity of it could not start; the old config serves on",
    "alias_moved": "a model's alias means another version now, which is rolled out",
    "started": "the endpoint was started",
    "stopped": "it was stopped",
    "tags": "its tags were changed",
    "notifications": "who is told of its updates was changed",
    "permissions": "who may do what with it was changed",
    "start_failed": "a replica could not be started; it is tried again",
    "replica_ended": "a replica ended by itself; another is started",
    "replica_hung": "a request ran into its time limit; its replica is replaced",
    "out_of_memory": "a replica used more memory than it may; another is started",
    "unavailable": "no replica of a served entity answers",
    "recovered": "one does again",
    "replica_recycled": "a replica uses so much memory that a new one takes its place",
    "scaled_up": "more replicas, since there are more requests at a time",
    "scaled_down": "fewer replicas, since there were fewer for a while",
    "scaled_to_zero": "no replica, since there was no request for a while",
    "woke": "a request came while there was no replica; one was started",
}


class Event(BaseModel):
    id: int
    #: Milliseconds since the epoch.
    at: int
    endpoint: str
    #: One of KINDS.
    kind: str
    message: str
    #: Who asked, or "system".
    actor: str
    #: The served entity it is about, if one.
    entity: str | None = None


class Events(BaseModel):
    events: list[Event]
