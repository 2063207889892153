"""Logs line by line, for who follows them: a route of Lakeport's own."""

from pydantic import BaseModel


class LogLine(BaseModel):
    #: Milliseconds since the epoch.
    at: int
    #: Which of the deployment's replicas wrote it; none of a build, or of several.
    replica: str | None = None
    #: The first config version that has the served entity as it is; its replicas run since then.
    config_version: int
    text: str


class LogPage(BaseModel):
    lines: list[LogLine]
    #: For the next call's `after`.
    next: str
    #: Lines before these were removed, since the files are bounded, and are not in any page.
    lost: bool
    #: There may be more lines already; an answer is bounded in bytes too.
    more: bool
