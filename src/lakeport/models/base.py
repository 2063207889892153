"""The model registry's port."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class RegistryUnavailable(Exception):
    """The registry is off, did not come up, or does not answer; the message says which."""


class ModelNotFound(Exception):
    """No such model, version or alias; the message names it."""


@dataclass(frozen=True, slots=True)
class ModelVersion:
    name: str
    version: str
    #: Name, version and time of making, hashed: names a folder of the model cache.
    key: str


class ModelRegistry(Protocol):
    @property
    def running(self) -> bool:
        """Whether it can be asked without starting anything."""

    async def resolve(self, name: str, version: str) -> ModelVersion:
        """Find a version by number ("3") or alias ("@champion"), starting the registry if need be.

        Raises ModelNotFound, RegistryUnavailable.
        """

    async def fetch(self, model: ModelVersion, into: Path, log: Callable[[str], None]) -> None:
        """Copy the model's files to the folder `into` (made here, complete or absent).

        `log` takes lines for the endpoint's build log. Raises ModelNotFound, RegistryUnavailable.
        """
