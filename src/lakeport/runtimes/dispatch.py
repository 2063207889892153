"""Several kinds of deployment behind one runtime and one connector."""

from collections.abc import Mapping
from contextlib import AsyncExitStack

from lakeport.runtimes.base import (
    Connector,
    DeploymentSpec,
    Kind,
    Link,
    ModelInterface,
    Replica,
    ReplicaLost,
    Runtime,
    StartFailed,
)


class Runtimes:
    """A `Runtime` that hands each deployment to the runtime of its kind."""

    def __init__(self, runtimes: Mapping[Kind, Runtime]) -> None:
        self._runtimes = dict(runtimes)
        #: Whose a deployment is, once it was prepared or started.
        self._of: dict[str, Runtime] = {}
        self._stack = AsyncExitStack()

    async def open(self) -> None:
        """All of them, in order; when one fails, those before it are closed again."""
        async with AsyncExitStack() as stack:
            for runtime in self._each():
                await runtime.open()
                stack.push_async_callback(runtime.close)
            self._stack = stack.pop_all()

    async def close(self) -> None:
        await self._stack.aclose()

    async def prepare(self, spec: DeploymentSpec) -> None:
        await self._runtime(spec).prepare(spec)

    async def start(self, spec: DeploymentSpec, replica_id: str) -> Replica:
        return await self._runtime(spec).start(spec, replica_id)

    def logs(self, deployment_id: str) -> str:
        return next(
            (text for one in self._asked(deployment_id) if (text := one.logs(deployment_id))), ""
        )

    def build_logs(self, deployment_id: str) -> str:
        return next(
            (text for one in self._asked(deployment_id) if (text := one.build_logs(deployment_id))),
            "",
        )

    def forget(self, deployment_id: str) -> None:
        for runtime in self._asked(deployment_id):
            runtime.forget(deployment_id)
        self._of.pop(deployment_id, None)

    def signature(self, spec: DeploymentSpec) -> ModelInterface | None:
        runtime = self._runtimes.get(spec.kind)
        return None if runtime is None else runtime.signature(spec)

    def _runtime(self, spec: DeploymentSpec) -> Runtime:
        runtime = self._runtimes.get(spec.kind)
        if runtime is None:
            raise StartFailed(f"a deployment of kind {spec.kind} cannot be run here")
        self._of[spec.id] = runtime
        return runtime

    def _asked(self, deployment_id: str) -> list[Runtime]:
        """Whose the deployment is; all of them for one of an earlier life, whose logs are left."""
        runtime = self._of.get(deployment_id)
        return self._each() if runtime is None else [runtime]

    def _each(self) -> list[Runtime]:
        return list(dict.fromkeys(self._runtimes.values()))


class Connectors:
    """A `Connector` that hands on by an address's scheme, the part before its first colon."""

    def __init__(self, connectors: Mapping[str, Connector]) -> None:
        self._connectors = dict(connectors)

    async def connect(self, address: str) -> Link:
        scheme = address.partition(":")[0]
        connector = self._connectors.get(scheme)
        if connector is None:
            raise ReplicaLost(f"There is no way to an address that begins with '{scheme}:'.")
        return await connector.connect(address)
