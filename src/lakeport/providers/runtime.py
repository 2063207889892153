"""External models as replicas: nothing runs here, so a replica is an address that never ends."""

import json
from collections.abc import Mapping
from typing import Any

from yarl import URL

from lakeport.providers.base import EXTERNAL_SCHEME, KeyUnavailable, Vault
from lakeport.providers.egress import EgressRefused
from lakeport.providers.external import BadExternalModel, Key, Target, target_of
from lakeport.providers.openai import OpenAILink
from lakeport.providers.replica import AddressOnly
from lakeport.providers.transport import Outside
from lakeport.providers.way import Request
from lakeport.runtimes.base import (
    DeploymentSpec,
    Link,
    ModelInterface,
    ReplicaLost,
    StartFailed,
)
from lakeport.wire.chat import Operation


class ExternalRuntime:
    """The `Runtime` of external models.

    Starting one looks at its address and its key and asks its server nothing: a server that is
    away must not keep an endpoint from being made.
    """

    def __init__(self, vault: Vault, outside: Outside) -> None:
        self._vault = vault
        self._outside = outside
        #: Build log by deployment.
        self._said: dict[str, str] = {}

    async def open(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""

    async def prepare(self, spec: DeploymentSpec) -> None:
        await self._look(spec)

    async def start(self, spec: DeploymentSpec, replica_id: str) -> AddressOnly:
        await self._look(spec)
        return AddressOnly(replica_id, address_of(spec.external or {}))

    async def _look(self, spec: DeploymentSpec) -> None:
        """Whether it can be spoken to. Raises StartFailed."""
        shown = spec.model_name or (spec.external or {}).get("name")
        try:
            target = target_of(spec.external or {})
            for url in set(target.urls.values()):
                self._outside.look(url, own=target.own)
            if target.key is not None:
                await revealed(self._vault, target.key)
        except EgressRefused as problem:
            reason = f"its URL is not allowed: {problem}"
        except KeyUnavailable as problem:
            reason = f"its key cannot be had: {problem}"
        except BadExternalModel as problem:
            reason = str(problem)
        else:
            self._said[spec.id] = (
                f"External model {shown}: its address is allowed and its key is there. Its server "
                "is not asked before the first request.\n"
            )
            return
        message = f"external model {shown} cannot be asked: {reason}"
        self._said[spec.id] = f"FAILED: {message}\n"
        raise StartFailed(message)

    def logs(self, deployment_id: str) -> str:
        return ""

    def build_logs(self, deployment_id: str) -> str:
        return self._said.get(deployment_id, "")

    def forget(self, deployment_id: str) -> None:
        self._said.pop(deployment_id, None)

    def signature(self, spec: DeploymentSpec) -> ModelInterface | None:
        return None


class ExternalConnector:
    """Links to external models by their address, which holds all of `external_model`: references
    to keys, never a key."""

    def __init__(self, vault: Vault, outside: Outside, *, idle_timeout: float) -> None:
        """`idle_timeout`: seconds that a server may send nothing in the middle of an answer."""
        self._vault = vault
        self._outside = outside
        self._idle_timeout = idle_timeout

    async def connect(self, address: str) -> Link:
        scheme, mark, text = address.partition(":")
        if scheme != EXTERNAL_SCHEME or not mark:
            raise ValueError("an external model's address has the form external:JSON")
        try:
            target = target_of(json.loads(text))
            sessions = self._outside.sessions(target.url, own=target.own)
        except (BadExternalModel, EgressRefused) as problem:
            raise ReplicaLost(f"The external model cannot be asked: {problem}.") from None
        return OpenAILink(
            sessions,
            _KeyedWay(target, self._vault),
            connect_timeout=self._outside.connect_timeout,
            idle_timeout=self._idle_timeout,
        )


class _KeyedWay:
    """The way to one target; the key is revealed anew for each call."""

    def __init__(self, target: Target, vault: Vault) -> None:
        self._urls = {operation: URL(url) for operation, url in target.urls.items()}
        self._headers = target.headers
        self._key = target.key
        self._vault = vault

    async def request(self, operation: Operation) -> Request:
        url = self._urls[operation]
        if self._key is None:
            return Request(url, self._headers)
        key = await revealed(self._vault, self._key)
        headers = {**self._headers, self._key.header: self._key.prefix + key}
        return Request(url, headers, (key,))


def address_of(external: Mapping[str, Any]) -> str:
    return f"{EXTERNAL_SCHEME}:{json.dumps(dict(external), sort_keys=True)}"


async def revealed(vault: Vault, key: Key) -> str:
    """The key in clear, fit for a header. Raises KeyUnavailable."""
    value = (await vault.reveal(key.reference)).strip()
    if not value or not value.isascii() or not value.isprintable():
        raise KeyUnavailable("it is empty, or has characters that no header can carry")
    return value
