"""A word for who waits at a terminal: a request that fails is sent again, which takes seconds."""

from collections.abc import Callable
from dataclasses import dataclass, field

from lakeport.client.errors import LakeportError
from lakeport.client.retry import Retry


@dataclass(frozen=True)
class Telling(Retry):
    """The usual rule; the first failure of a command is told to `note`."""

    note: Callable[[str], None] = print
    _told: list[str] = field(default_factory=list)

    def allows(self, error: LakeportError, *, safe: bool = False) -> bool:
        again = super().allows(error, safe=safe)
        if again and not self._told:
            self._told.append(error.message)
            self.note(f"{error.message} Trying again …")
        return again
