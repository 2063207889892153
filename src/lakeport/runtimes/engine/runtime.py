"""Runs chat and embedding models in engines on this machine."""

import asyncio
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from lakeport.models import catalogue
from lakeport.models.catalogue import Catalogue, CatalogueModel, ModelFile
from lakeport.models.weights_path import CONTEXT, BadWeights, engine_for
from lakeport.processes.environment import scrubbed
from lakeport.processes.leftovers import MARK
from lakeport.providers.base import Vault
from lakeport.runtimes.base import DeploymentSpec, ModelInterface, StartFailed
from lakeport.runtimes.engine import embedder, llama, vllm
from lakeport.runtimes.engine.command import Command, Order
from lakeport.runtimes.engine.engine_replica import HEARTBEAT, EngineReplica, start_engine
from lakeport.runtimes.engine.weights import Weights
from lakeport.runtimes.local.logs import safe_name
from lakeport.runtimes.local.machine import Machine
from lakeport.runtimes.local.once import Say
from lakeport.runtimes.variables import revealed
from lakeport.wire.chat import Task

#: Seconds that replicas get at `close`: whoever drains has done so before.
CLOSE_GRACE = 3.0
#: What of an entity's environment would reach past the order that an engine gets.
KEPT_FROM_ENGINES = "LLAMA_ARG_"
QUIET = {"DO_NOT_TRACK": "true", "HF_HUB_DISABLE_TELEMETRY": "1"}


@dataclass(frozen=True, slots=True)
class _Prepared:
    model: CatalogueModel
    files: dict[str, Path]
    #: See `llama.program` and `vllm.program`; "" for an engine of ours.
    program: str


class EngineRuntime:
    """The `Runtime` of Kind.ENGINE.

    home/weights/KEY    files of a catalogue model, fetched once
    home/work/ID        working directory and HOME of its engines, removed when it is forgotten

    `start_timeout` is seconds, `memory_limit` bytes (0 is no limit). `slots` is how many requests
    one replica works on at a time. `threads` None is one for each core but one (on two cores, two).
    `llama_server` and `vllm` name programs; None looks for one. `vault` knows the secrets that
    environment variables refer to. `machine` is given where another runtime of the same home shares
    it.
    """

    def __init__(
        self,
        home: Path,
        *,
        models: Catalogue,
        slots: int = 8,
        threads: int | None = None,
        llama_server: str | None = None,
        vllm: str | None = None,
        start_timeout: float = 1800,
        memory_limit: int = 0,
        vault: Vault | None = None,
        machine: Machine | None = None,
        heartbeat: float = HEARTBEAT,
    ) -> None:
        self._work = home / "work"
        self._catalogue = models
        self._vault = vault
        self._slots = slots
        self._threads = threads or _cores()
        self._llama_server = llama_server
        self._vllm = vllm
        self._start_timeout = start_timeout
        self._memory_limit = memory_limit
        self._heartbeat = heartbeat
        self._machine = machine or Machine(home)
        self._weights = Weights(home / "weights", marks={MARK: self._machine.mark})
        self._prepared: dict[str, _Prepared] = {}
        self._replicas: set[EngineReplica] = set()

    async def open(self) -> None:
        await self._machine.open()
        await asyncio.to_thread(self._work.mkdir, parents=True, exist_ok=True, mode=0o700)
        await self._weights.open()

    async def close(self) -> None:
        await self._weights.close()
        await asyncio.gather(*(replica.stop(grace=CLOSE_GRACE) for replica in self._replicas))
        await self._machine.close()

    # --- prepare --------------------------------------------------------------------------------

    async def prepare(self, spec: DeploymentSpec) -> None:
        log = self._machine.logs.build(spec.id)
        try:
            self._prepared[spec.id] = await self._prepare(spec, log.say)
        except StartFailed as error:
            log.say(f"FAILED: {error}")
            raise

    async def _prepare(self, spec: DeploymentSpec, say: Say) -> _Prepared:
        model = await asyncio.to_thread(self._model, spec)
        # Before the weights: what cannot run need not be fetched.
        program = await asyncio.to_thread(self._program, model.engine, spec.workload_type)
        if spec.path is not None:
            say(f"Using the file of model {spec.model_name} in place.")
            return _Prepared(model, {model.files[0].name: Path(str(model.files[0].path))}, program)
        return _Prepared(model, dict(await self._weights.fetch(model, say)), program)

    def _model(self, spec: DeploymentSpec) -> CatalogueModel:
        if spec.path is not None:
            return _by_path(spec)
        model = self._catalogue.get(spec.model_name)
        if model is None:
            raise StartFailed(
                f"the catalogue has no model {spec.model_name}; `lakeport models list` shows all"
            )
        return model

    def _program(self, engine: str, workload_type: str) -> str:
        match engine:
            case catalogue.LLAMA:
                return llama.program(self._llama_server)
            case catalogue.VLLM:
                return vllm.program(self._vllm, workload_type)
            case _:
                embedder.check()
                return ""

    # --- replicas -------------------------------------------------------------------------------

    async def start(self, spec: DeploymentSpec, replica_id: str) -> EngineReplica:
        if spec.id not in self._prepared:
            await self.prepare(spec)
        prepared = self._prepared[spec.id]
        folder = self._work / safe_name(spec.id)
        folder.mkdir(exist_ok=True, mode=0o700)
        order = self._order(spec, prepared)
        return await start_engine(
            replica_id,
            order,
            _command(prepared, order),
            environment=await self._environment(spec, folder),
            folder=folder,
            timeout=self._start_timeout,
            log=self._machine.logs.replica(spec.id, replica_id),
            watch=self._machine.watch,
            started=self._keep,
            heartbeat=self._heartbeat,
        )

    def _order(self, spec: DeploymentSpec, prepared: _Prepared) -> Order:
        model = prepared.model
        return Order(
            name=spec.entity,
            task=model.task,
            files=prepared.files,
            hub=model.hub,
            socket=str(self._machine.sockets.socket(secrets.token_hex(8))),
            slots=self._slots,
            context=model.context,
            threads=self._threads,
            memory_limit=self._memory_limit,
            chat_template=model.chat_template,
            arguments=model.arguments,
        )

    def _keep(self, replica: EngineReplica) -> None:
        self._replicas.add(replica)
        replica.exited.add_done_callback(lambda _: self._replicas.discard(replica))

    async def _environment(self, spec: DeploymentSpec, folder: Path) -> dict[str, str]:
        given = {
            name: value
            for name, value in spec.environment.items()
            if not name.startswith(KEPT_FROM_ENGINES)
        }
        given = await revealed(given, self._vault)
        kept = scrubbed(QUIET | {"HOME": str(folder)})
        return llama.WAITING | kept | given | {MARK: self._machine.mark}

    # --- what was written -----------------------------------------------------------------------

    def logs(self, deployment_id: str) -> str:
        return self._machine.logs.text(deployment_id)

    def build_logs(self, deployment_id: str) -> str:
        return self._machine.logs.build_text(deployment_id)

    def forget(self, deployment_id: str) -> None:
        self._prepared.pop(deployment_id, None)
        self._machine.logs.forget(deployment_id)
        shutil.rmtree(self._work / safe_name(deployment_id), ignore_errors=True)

    def signature(self, spec: DeploymentSpec) -> ModelInterface | None:
        return None  # on the OpenAI wire the task says it all


def _command(prepared: _Prepared, order: Order) -> Command:
    match prepared.model.engine:
        case catalogue.LLAMA:
            return llama.command(prepared.program, order)
        case catalogue.VLLM:
            return vllm.command(prepared.program, order)
        case _:
            return embedder.command(order)


def _by_path(spec: DeploymentSpec) -> CatalogueModel:
    """A model that an operator gave by its path. Raises StartFailed."""
    path = Path(spec.path or "").expanduser().absolute()
    try:
        engine = engine_for(path, gpu=spec.workload_type.startswith("GPU_"))
    except BadWeights as error:
        raise StartFailed(str(error)) from error
    return CatalogueModel(
        name=spec.model_name,
        task=Task(spec.task or Task.CHAT),
        engine=engine,
        files=(ModelFile(name=path.name, sha256="", path=str(path)),),
        context=CONTEXT,
    )


def _cores() -> int:
    """Threads where nobody says how many: the cores that this process may use, but for one where
    there are more than two, which is left to the server.

    The threads of llama.cpp wait for one another many times a token: with one more than there are
    free cores, they are slower than one thread less. On two cores that were idle, two threads made
    1.5 times the tokens of one in one chat, and 1.8 times in eight chats; beside a program that
    computed all the time, 0.6 and 0.85 times.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return cores if cores <= 2 else cores - 1
