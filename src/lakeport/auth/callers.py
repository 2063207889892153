"""Who asks, and what an endpoint lets them do."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

#: Members of this group may do everything, as workspace admins may on Databricks.
ADMINS = "admins"
#: Every caller is a member of this group.
USERS = "users"


class Level(IntEnum):
    """Databricks' permission levels on a serving endpoint; each includes those below it."""

    CAN_VIEW = 1
    CAN_QUERY = 2
    CAN_MANAGE = 3


class ScopePermission(IntEnum):
    """Databricks' permissions on a scope of secrets; each includes those below it."""

    READ = 1
    WRITE = 2
    MANAGE = 3


@dataclass(frozen=True, slots=True)
class Caller:
    """One authenticated caller: a user of the workspace with the groups they are in."""

    id: str
    name: str
    groups: frozenset[str] = frozenset()

    @property
    def admin(self) -> bool:
        return ADMINS in self.groups


@dataclass(frozen=True, slots=True)
class AccessList:
    """What an endpoint grants, by user name and by group name."""

    users: Mapping[str, Level] = field(default_factory=dict)
    groups: Mapping[str, Level] = field(default_factory=dict)

    def level_of(self, caller: Caller) -> Level | None:
        """The highest level that `caller` holds, or None. Admins hold CAN_MANAGE everywhere."""
        if caller.admin:
            return Level.CAN_MANAGE
        levels = [self.groups[group] for group in caller.groups if group in self.groups]
        if USERS in self.groups:
            levels.append(self.groups[USERS])
        if caller.name in self.users:
            levels.append(self.users[caller.name])
        return max(levels, default=None)

    def allows(self, caller: Caller, needed: Level) -> bool:
        level = self.level_of(caller)
        return level is not None and level >= needed
