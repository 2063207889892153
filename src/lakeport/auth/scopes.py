"""One scope of secrets: who may do what with it, and what is in it."""

from dataclasses import dataclass, field

from lakeport.auth.callers import USERS, Caller, ScopePermission
from lakeport.errors import NotFound, PermissionDenied
from lakeport.stores.records import SecretRecord, SecretScopeRecord


@dataclass(slots=True)
class Scope:
    record: SecretScopeRecord
    #: By principal: a user's or a group's name.
    permissions: dict[str, ScopePermission] = field(default_factory=dict)
    #: By key in lower case.
    secrets: dict[str, SecretRecord] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.record.name

    def permission_of(self, caller: Caller) -> ScopePermission | None:
        """The highest that `caller` holds. Admins hold MANAGE on every scope."""
        if caller.admin:
            return ScopePermission.MANAGE
        names = {caller.name, USERS, *caller.groups} & self.permissions.keys()
        return max((self.permissions[name] for name in names), default=None)

    def require(self, caller: Caller, needed: ScopePermission, *, at: str = "") -> None:
        """Raises PermissionDenied unless `caller` holds `needed`; `at` begins its message."""
        held = self.permission_of(caller)
        if held is None or held < needed:
            raise PermissionDenied(
                f"{at}User '{caller.name}' does not have {needed.name} permission on the scope "
                f"'{self.name}' of secrets."
            )

    def secret(self, key: str) -> SecretRecord:
        """Raises NotFound."""
        record = self.secrets.get(key.lower())
        if record is None:
            raise NotFound(f"Secret does not exist with scope: {self.name} and key: {key[:128]}")
        return record

    def granted(self, principal: str) -> ScopePermission:
        """Raises NotFound where nothing was."""
        permission = self.permissions.get(principal)
        if permission is None:
            raise NotFound(
                f"The scope {self.name} has no permission for the principal {principal[:128]}"
            )
        return permission
