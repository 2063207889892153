"""From a wish to what is stored: every model version looked up, every plain key sealed."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lakeport.control.validation import WishedConfig, WishedEntity
from lakeport.errors import InvalidParameter, NotFound, Unavailable
from lakeport.models.base import (
    ModelNotFound,
    ModelRegistry,
    ModelVersion,
    RegistryUnavailable,
)
from lakeport.providers.base import Vault
from lakeport.runtimes.base import Kind
from lakeport.stores.records import ConfigRecord, EntityRecord
from lakeport.wire.external_models import PLAINTEXT


class Resolver:
    """Knows where the models of a wish are. `registry` is None where there is none."""

    def __init__(self, registry: ModelRegistry | None, vault: Vault) -> None:
        self.registry = registry
        self._vault = vault

    async def resolved(
        self, wish: WishedConfig, active: ConfigRecord | None
    ) -> tuple[EntityRecord, ...]:
        """Look every model version up. Raises NotFound naming the one that does not exist.

        Without a registry, or while it cannot be reached, what `active` serves is known all the
        same: traffic can be shifted and sizes changed.
        """
        found = []
        for entity in wish.entities:
            if entity.kind is not Kind.MODEL:
                sealed = _sealed(entity.external, self._vault) if entity.external else None
                record = entity_record(entity, entity.entity_version, entity.entity_name, None)
                found.append(replace(record, external=sealed))
                continue
            try:
                version = await self._resolve(entity)
            except (InvalidParameter, Unavailable):
                known = _same_version(active, entity)
                if known is None:
                    raise
                version = known
            found.append(entity_record(entity, version.version, version.key, None))
        return tuple(found)

    async def _resolve(self, entity: WishedEntity) -> ModelVersion:
        where = f"{entity.at}: " if entity.at else ""
        if self.registry is None:
            raise InvalidParameter(
                f"{where}this server has no model registry (LAKEPORT_REGISTRY=off), "
                "so of registered models it can serve only those that it serves already."
            )
        try:
            return await self.registry.resolve(entity.entity_name, entity.entity_version)
        except ModelNotFound as problem:
            raise NotFound(f"{where}{problem}") from problem
        except RegistryUnavailable as problem:
            raise Unavailable(str(problem), retry_after=5) from problem


def entity_record(wish: WishedEntity, version: str, key: str, path: str | None) -> EntityRecord:
    """A served entity as it is stored. `key` and `path` as EntityRecord has them."""
    return EntityRecord(
        name=wish.name,
        entity_name=wish.entity_name,
        entity_version=wish.entity_version,
        resolved_version=version,
        model_key=key,
        path=path,
        workload_type=wish.workload_type,
        workload_size=wish.workload_size,
        min_concurrency=wish.min_concurrency,
        max_concurrency=wish.max_concurrency,
        scale_to_zero=wish.scale_to_zero,
        environment=wish.environment,
        kind=wish.kind,
        chat=wish.chat,
        external=wish.external,
        provisioned=wish.provisioned,
    )


def _sealed(given: Mapping[str, Any], vault: Vault) -> dict[str, Any]:
    """`external_model` with the keys that came in plain text encrypted."""
    return {
        name: _sealed(value, vault)
        if isinstance(value, Mapping)
        else vault.seal(value)
        if name.endswith(PLAINTEXT) and isinstance(value, str)
        else value
        for name, value in given.items()
    }


def _same_version(active: ConfigRecord | None, wish: WishedEntity) -> ModelVersion | None:
    for entity in active.entities if active else ():
        asked = (entity.entity_name, entity.entity_version)
        if entity.path is None and asked == (wish.entity_name, wish.entity_version):
            return ModelVersion(entity.entity_name, entity.resolved_version, entity.model_key)
    return None
