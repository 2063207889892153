"""Keys at rest, and the schemes of the addresses at which no MLflow worker answers."""

from typing import Protocol


class KeyUnavailable(Exception):
    """A key cannot be had: no such secret, or it was sealed with another key file; says which."""


class Vault(Protocol):
    """Keys at rest; `auth/secrets.py` is the implementation. What it gives out is in clear: use it
    at once, keep it nowhere."""

    async def reveal(self, reference: str) -> str:
        """The value of "{{secrets/SCOPE/KEY}}", or of what `seal` made. Raises KeyUnavailable,
        which names the secret and never its value.

        Served from memory: it may be called for every request.
        """

    def seal(self, value: str) -> str:
        """`value` encrypted, to be stored in a record: "sealed:...". Raises errors.Internal when
        the key file is lost."""


#: Schemes of addresses, as `Replica.address` and `Connector.connect` have them.
ENGINE_SCHEME = "engine"
EXTERNAL_SCHEME = "external"
SCRIPTED_SCHEME = "scripted"
