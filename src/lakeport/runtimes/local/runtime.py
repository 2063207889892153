"""Runs replicas as worker processes on this machine."""

import asyncio
import os
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lakeport.models.base import ModelNotFound, ModelRegistry, ModelVersion, RegistryUnavailable
from lakeport.models.mlmodel import BadModel, MLmodel, read_mlmodel
from lakeport.models.signature import read_signature
from lakeport.processes.environment import scrubbed
from lakeport.processes.leftovers import MARK
from lakeport.providers.base import Vault
from lakeport.runtimes.base import DeploymentSpec, ModelInterface, StartFailed
from lakeport.runtimes.local.breeds import Breed, breed_of
from lakeport.runtimes.local.environments import Environments
from lakeport.runtimes.local.forker import can_fork
from lakeport.runtimes.local.logs import safe_name
from lakeport.runtimes.local.machine import Machine
from lakeport.runtimes.local.once import Once, Say
from lakeport.runtimes.local.replica import Launch, LocalReplica, Order
from lakeport.runtimes.local.starter import Starter, memory_share
from lakeport.runtimes.local.zygotes import Zygotes
from lakeport.runtimes.variables import revealed

WORKER = Path(__file__).parents[2] / "worker" / "__main__.py"
#: Seconds that replicas get at `close`: whoever drains has done so before.
CLOSE_GRACE = 3.0
#: A fetch in progress; what is left of one at the next start is removed.
PARTIAL = ".partial-"
#: In the folder of working directories, the zygotes'.
ZYGOTES = ".zygotes"
#: A served entity's variable that says whether its requests may be merged.
MERGE = "LAKEPORT_MERGE"

#: Several replicas share few cores: one thread each, unless somebody knows better.
ONE_THREAD = dict.fromkeys(
    [
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "NUMEXPR_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
    ],
    "1",
)
#: What a model may look for to know that it is served, and what keeps MLflow from phoning home.
SERVING = {
    "IS_IN_DB_MODEL_SERVING_ENV": "true",
    "IS_IN_DATABRICKS_MODEL_SERVING_ENV": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}


@dataclass(frozen=True, slots=True)
class _Prepared:
    model: MLmodel
    folder: Path
    interpreter: Path
    #: None: its workers are spawned.
    breed: Breed | None


class LocalRuntime:
    """The `Runtime` of one machine; holds everything under `home`.

    home/models/KEY     files of a model version, fetched once
    home/envs/KEY       a Python environment, built once
    home/logs/ID        a deployment's logs; kept for 30 days after it is forgotten
    home/work/ID        working directory and HOME of its workers, removed when it is forgotten
    home/run            sockets, and the mark of this life: see `Machine`

    `start_timeout` is seconds; `memory_limit` and `max_body` are bytes, 0 is no memory limit.
    Replicas are forked where `replica_start`, the machine and the model allow it; see
    docs/internals/zygote.md. Templates use at most the fraction `template_memory` of the machine's
    memory, 0 is none. `recycle` is bytes above which a replica's usage says so, 0 is never.
    `registry` is None where models come from folders alone; `vault` knows the secrets that
    environment variables refer to. `machine` is given where another runtime of the same home shares
    it; `memory_interval` and `log_write` are for those without.
    """

    def __init__(
        self,
        home: Path,
        *,
        registry: ModelRegistry | None = None,
        vault: Vault | None = None,
        env_manager: Literal["uv", "local"] = "uv",
        python_missing: Literal["nearest", "refuse"] = "nearest",
        start_timeout: float = 1800,
        memory_limit: int = 0,
        max_body: int = 16 * 1024 * 1024,
        replica_start: Literal["zygote", "spawn"] = "zygote",
        template_memory: float = 0.1,
        recycle: int = 0,
        worker: Path = WORKER,
        memory_interval: float = 1.0,
        log_write: Callable[[int, bytes], int] = os.write,
        machine: Machine | None = None,
    ) -> None:
        self._models = home / "models"
        self._work = home / "work"
        self._registry = registry
        self._vault = vault
        self._start_timeout = start_timeout
        self._memory_limit = memory_limit
        self._max_body = max_body
        self._worker = worker
        self._machine = machine or Machine(
            home, memory_interval=memory_interval, log_write=log_write
        )
        self._mark = self._machine.mark
        self._logs = self._machine.logs
        self._sockets = self._machine.sockets
        self._watch = self._machine.watch
        self._environments = Environments(
            home / "envs",
            manager=env_manager,
            python_missing=python_missing,
            marks={MARK: self._mark},
        )
        self._fetching: Once[Path] = Once()
        self._prepared: dict[str, _Prepared] = {}
        self._interfaces: dict[str, ModelInterface] = {}
        self._recycle = recycle
        self._replicas: set[LocalReplica] = set()
        forks = replica_start == "zygote" and can_fork()
        self._starter = Starter(
            Zygotes(worker, self._work / ZYGOTES, self._plain_environment) if forks else None,
            template_memory=memory_share(template_memory),
            logs=self._logs,
            watch=self._watch,
            kept=self._keep,
        )

    async def open(self) -> None:
        await self._machine.open()
        await asyncio.to_thread(self._open)

    def _open(self) -> None:
        for folder in (self._models, self._work):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for partial in self._models.glob(f"{PARTIAL}*"):
            shutil.rmtree(partial, ignore_errors=True)

    async def close(self) -> None:
        await self._fetching.close()
        await self._environments.close()
        await self._starter.close()
        await asyncio.gather(*(replica.stop(grace=CLOSE_GRACE) for replica in self._replicas))
        await self._machine.close()

    # --- prepare ------------------------------------------------------------------------------

    async def prepare(self, spec: DeploymentSpec) -> None:
        log = self._logs.build(spec.id)
        try:
            folder = await self._files(spec, log.say)
            model = await asyncio.to_thread(_described, spec, folder)
            interpreter = await self._environments.interpreter(model, folder, log.say)
        except StartFailed as error:
            log.say(f"FAILED: {error}")
            raise
        plain = self._plain_environment()
        breed = breed_of(
            model,
            interpreter,
            workload_type=spec.workload_type,
            asked={n: v for n, v in spec.environment.items() if plain.get(n) != v},
        )
        self._prepared[spec.id] = _Prepared(model, folder, interpreter, breed)
        self._starter.prepare(spec.id, breed)

    async def _files(self, spec: DeploymentSpec, say: Say) -> Path:
        """The folder with the model's files."""
        if spec.path is not None:
            say(f"Using the folder of model {spec.model_name} in place.")
            return _absolute(spec.path)
        folder = self._models / safe_name(spec.model_key)

        async def fetch(say: Say) -> Path:
            await self._fetch(spec, folder, say)
            return folder

        return await self._fetching.run(folder.name, fetch, say)

    async def _fetch(self, spec: DeploymentSpec, folder: Path, say: Say) -> None:
        """Make `folder`, whole or not at all."""
        if await asyncio.to_thread(folder.is_dir):
            say(f"{_model(spec)} is here from an earlier fetch.")
            return
        if self._registry is None:
            raise StartFailed(f"{_model(spec)} cannot be fetched: there is no model registry")
        partial = self._models / f"{PARTIAL}{secrets.token_hex(8)}"
        version = ModelVersion(spec.model_name, spec.model_version, spec.model_key)
        say(f"Fetching {_model(spec)}.")
        try:
            await self._registry.fetch(version, partial, say)
            await asyncio.to_thread(partial.rename, folder)
        except (ModelNotFound, RegistryUnavailable) as error:
            raise StartFailed(str(error)) from error
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise StartFailed(f"{_model(spec)} cannot be stored: {reason}") from error
        finally:
            await asyncio.to_thread(shutil.rmtree, partial, ignore_errors=True)

    # --- replicas -----------------------------------------------------------------------------

    async def start(self, spec: DeploymentSpec, replica_id: str) -> LocalReplica:
        if spec.id not in self._prepared:
            await self.prepare(spec)
        prepared = self._prepared[spec.id]
        folder = self._work / safe_name(spec.id)
        folder.mkdir(exist_ok=True, mode=0o700)
        order = Order(
            model=str(prepared.folder),
            socket=str(self._sockets.socket(secrets.token_hex(8))),
            secret=secrets.token_hex(16),
            concurrency=spec.concurrency,
            max_body=self._max_body,
            memory_limit=self._memory_limit,
            parent=os.getpid(),
            merge=_merge(spec),
        )
        launch = Launch(
            interpreter=prepared.interpreter,
            worker=self._worker,
            environment=await self._environment(spec, folder),
            folder=folder,
            order=order,
            timeout=self._start_timeout,
            recycle=self._recycle,
        )
        return await self._starter.start(spec.id, replica_id, launch, prepared.breed)

    def _keep(self, replica: LocalReplica) -> None:
        self._replicas.add(replica)
        replica.exited.add_done_callback(lambda _: self._replicas.discard(replica))

    async def _environment(self, spec: DeploymentSpec, folder: Path) -> dict[str, str]:
        # HOME is a folder of the deployment's own: caches have a place, and the operator's
        # credential files are not what `~` means.
        asked = await revealed(spec.environment, self._vault)
        asked.pop(MERGE, None)
        return self._plain_environment() | {"HOME": str(folder)} | asked | {MARK: self._mark}

    def _plain_environment(self) -> dict[str, str]:
        """Of a worker for which nothing was asked."""
        home = str(self._work / ZYGOTES)
        return ONE_THREAD | scrubbed(SERVING | {"HOME": home, MARK: self._mark})

    # --- what was written -----------------------------------------------------------------------

    def logs(self, deployment_id: str) -> str:
        return self._logs.text(deployment_id)

    def build_logs(self, deployment_id: str) -> str:
        return self._logs.build_text(deployment_id)

    def forget(self, deployment_id: str) -> None:
        self._starter.forget(deployment_id)
        self._prepared.pop(deployment_id, None)
        self._interfaces.pop(deployment_id, None)
        self._logs.forget(deployment_id)
        shutil.rmtree(self._work / safe_name(deployment_id), ignore_errors=True)

    def signature(self, spec: DeploymentSpec) -> ModelInterface | None:
        prepared = self._prepared.get(spec.id)
        if prepared is None:
            return None
        interface = self._interfaces.get(spec.id)
        if interface is None:
            said = read_signature(prepared.model, prepared.folder)
            interface = self._interfaces[spec.id] = ModelInterface(
                said.inputs, said.outputs, said.params, said.example, prepared.model.task
            )
        return interface


def _model(spec: DeploymentSpec) -> str:
    return f"model {spec.model_name} version {spec.model_version}"


def _merge(spec: DeploymentSpec) -> bool | None:
    """What the deployment says of merging its requests; None: nothing."""
    said = spec.environment.get(MERGE)
    if said is None:
        return None
    if said.lower() not in {"true", "false"}:
        raise StartFailed(
            f"the environment variable {MERGE} must be true or false; it is {said[:40]!r}"
        )
    return said.lower() == "true"


def _absolute(path: str) -> Path:
    return Path(path).expanduser().absolute()


def _described(spec: DeploymentSpec, folder: Path) -> MLmodel:
    try:
        return read_mlmodel(folder)
    except BadModel as error:
        what = f"the folder of model {spec.model_name}" if spec.path else _model(spec)
        raise StartFailed(f"{what} cannot be served: {error}") from error
