"""Access lists in Databricks' words and back: pure functions."""

import difflib
from collections.abc import Sequence

from lakeport.auth.callers import ADMINS, AccessList, Caller, Level
from lakeport.errors import InvalidParameter, NotImplementedYet, PermissionDenied
from lakeport.stores.records import EndpointRecord
from lakeport.wire.permissions import (
    AccessControl,
    AccessControlRequest,
    LevelDescription,
    ObjectPermissions,
    Permission,
    PermissionLevels,
)

#: Where Databricks says that admins' rights on every endpoint come from.
ROOT = "/serving-endpoints/"

LEVELS = PermissionLevels(
    permission_levels=[
        LevelDescription(
            permission_level="CAN_MANAGE", description="Can manage the serving endpoint"
        ),
        LevelDescription(
            permission_level="CAN_QUERY", description="Can query the serving endpoint"
        ),
        LevelDescription(permission_level="CAN_VIEW", description="Can view the serving endpoint"),
    ]
)


def require(record: EndpointRecord, caller: Caller, needed: Level, action: str) -> None:
    """Raises PermissionDenied unless the caller holds `needed` on the endpoint."""
    if not record.access.allows(caller, needed):
        raise PermissionDenied(
            f"User '{caller.name}' does not have {needed.name} on the serving endpoint "
            f"'{record.name}', which is needed to {action}."
        )


def parse(given: Sequence[AccessControlRequest]) -> AccessList:
    """An access list from a request. Raises InvalidParameter, naming the field."""
    users: dict[str, Level] = {}
    groups: dict[str, Level] = {}
    for position, entry in enumerate(given):
        at = f"access_control_list[{position}]"
        if entry.service_principal_name is not None:
            raise NotImplementedYet(
                f"{at}.service_principal_name: service principals are not supported by Lakeport "
                "yet; use user_name or group_name."
            )
        if (entry.user_name is None) == (entry.group_name is None):
            raise InvalidParameter(f"{at}: expected exactly one of user_name and group_name.")
        if entry.permission_level not in Level.__members__:
            close = difflib.get_close_matches(entry.permission_level, Level.__members__, n=1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            raise InvalidParameter(
                f"{at}.permission_level: {entry.permission_level[:80]!r} is unknown; expected one "
                f"of {', '.join(level.name for level in Level)}.{hint}"
            )
        level = Level[entry.permission_level]
        field, names, name = (
            ("user_name", users, entry.user_name)
            if entry.user_name is not None
            else ("group_name", groups, entry.group_name)
        )
        if not name or len(name) > 255:
            raise InvalidParameter(f"{at}.{field}: expected a name of 1 to 255 characters.")
        if name in names:
            raise InvalidParameter(f"{at}.{field}: {name[:80]!r} is given twice.")
        if field == "group_name" and name == ADMINS and level is not Level.CAN_MANAGE:
            raise InvalidParameter(
                f"{at}.permission_level: the group '{ADMINS}' holds CAN_MANAGE on every endpoint."
            )
        names[name] = level
    groups.pop(ADMINS, None)  # theirs is inherited
    return AccessList(users, groups)


def merged(old: AccessList, new: AccessList) -> AccessList:
    """`old` with the entries of `new` put in their places."""
    return AccessList({**old.users, **new.users}, {**old.groups, **new.groups})


def shown(record: EndpointRecord) -> ObjectPermissions:
    """The access list as the permissions API gives it, the admins' inherited entry included."""
    entries = [
        AccessControl(user_name=name, display_name=name, all_permissions=[_direct(level)])
        for name, level in sorted(record.access.users.items())
    ]
    entries += [
        AccessControl(group_name=name, display_name=name, all_permissions=[_direct(level)])
        for name, level in sorted(record.access.groups.items())
    ]
    entries.append(
        AccessControl(
            group_name=ADMINS,
            display_name=ADMINS,
            all_permissions=[
                Permission(
                    permission_level=Level.CAN_MANAGE.name,
                    inherited=True,
                    inherited_from_object=[ROOT],
                )
            ],
        )
    )
    return ObjectPermissions(
        object_id=f"/serving-endpoints/{record.id}",
        object_type="serving-endpoint",
        access_control_list=entries,
    )


def _direct(level: Level) -> Permission:
    return Permission(permission_level=level.name, inherited=False)
