"""References to secrets in what is asked for: whoever asks must be allowed to read each."""

from collections.abc import Iterator, Mapping
from typing import Any

from lakeport.auth.callers import Caller
from lakeport.control.ports import SecretsPort
from lakeport.control.validation import WishedConfig
from lakeport.wire.secrets import parse_reference


def require(secrets: SecretsPort, caller: Caller, wish: WishedConfig) -> None:
    """Raises NotFound or PermissionDenied, naming the field and the secret."""
    for entity in wish.entities:
        given = {"environment_vars": entity.environment, "external_model": entity.external}
        for field, reference in _references(given, entity.at):
            secrets.check(caller, reference, field)


def _references(given: Mapping[str, Any], at: str) -> Iterator[tuple[str, str]]:
    """Each with the field that holds it, whatever the field is called."""
    for name, value in given.items():
        field = f"{at}.{name}"
        if isinstance(value, Mapping):
            yield from _references(value, field)
        elif isinstance(value, str) and parse_reference(value):
            yield field, value
