"""References to secrets in what is asked for: whoever asks must be allowed to read each."""

from collections.abc import Iterator, Mapping
from typing import Any

from lakeport.auth.callers import Caller
from lakeport.control.ports import SecretsPort
from lakeport.control.validation import WishedConfig
from lakeport.wire.secrets import parse_reference

#: Fields whose text is taken as it is.
LITERAL = "_plaintext"


def require(secrets: SecretsPort, caller: Caller, wish: WishedConfig, at: str = "") -> None:
    """Raises NotFound or PermissionDenied, naming the field and the secret."""
    for entity in wish.entities:
        where = f"{at}served_entities: in '{entity.name}', "
        for field, reference in _references(entity.environment, "environment_vars"):
            secrets.check(caller, reference, where + field)
        for field, reference in _references(entity.external or {}, "external_model"):
            secrets.check(caller, reference, where + field)


def _references(given: Mapping[str, Any], at: str) -> Iterator[tuple[str, str]]:
    """Each with the field that holds it."""
    for name, value in given.items():
        field = f"{at}.{name}"
        if isinstance(value, Mapping):
            yield from _references(value, field)
        elif isinstance(value, str) and not name.endswith(LITERAL) and parse_reference(value):
            yield field, value
