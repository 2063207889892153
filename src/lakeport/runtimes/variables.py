"""A model's environment variables: references to secrets become values just before a start."""

from collections.abc import Mapping

from lakeport.providers.base import KeyUnavailable, Vault
from lakeport.runtimes.base import StartFailed
from lakeport.wire.secrets import parse_reference


async def revealed(environment: Mapping[str, str], vault: Vault | None) -> dict[str, str]:
    """`environment` with each value that is exactly {{secrets/SCOPE/KEY}} in clear.

    For a child's environment only: it must not be kept. Raises StartFailed, naming the variable.
    """
    found = {}
    for name, value in environment.items():
        found[name] = value if parse_reference(value) is None else await _value(name, value, vault)
    return found


async def _value(name: str, reference: str, vault: Vault | None) -> str:
    at = f"the environment variable {name} cannot be set"
    if vault is None:
        raise StartFailed(f"{at}: this server has no secrets")
    try:
        value = await vault.reveal(reference)
    except KeyUnavailable as problem:
        raise StartFailed(f"{at}: {problem}") from problem
    if "\0" in value:
        raise StartFailed(f"{at}: the secret {reference} has a NUL character")
    return value
