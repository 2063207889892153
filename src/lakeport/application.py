"""Builds everything, starts it, and stops it: the only module that knows all the others.

`run(settings)` is a whole server's life. `Application` is the same in parts, for whoever embeds a
server in a loop of their own.
"""

import asyncio
import gc
import logging
import os
import signal
import sys
import time
import uuid
from collections.abc import Coroutine
from contextlib import AsyncExitStack, suppress

import uvloop

from lakeport.api.app import build_app
from lakeport.api.mlflow import mlflow_proxy
from lakeport.api.server import Server, make_server
from lakeport.auth.callers import ADMINS, USERS, Caller
from lakeport.auth.secrets import Secrets
from lakeport.auth.tokens import ADMIN, Tokens
from lakeport.control.aliases import AliasWatcher
from lakeport.control.chat_entities import Known, parse_fixed
from lakeport.control.endpoints import Endpoints
from lakeport.control.log_pages import LogPages
from lakeport.control.reconciler import Reconciler
from lakeport.control.scaling import Scaler, Scaling
from lakeport.control.validation import WishedEntity
from lakeport.control.workbench import Parts, Workbench
from lakeport.errors import ApiError
from lakeport.home import Home
from lakeport.models import catalogue
from lakeport.models.catalogue import BadCatalogue, Catalogue
from lakeport.models.mlflow.registry import Registry
from lakeport.models.sources import ModelFolder, parse_source
from lakeport.processes.cores import cores
from lakeport.providers.base import ENGINE_SCHEME, EXTERNAL_SCHEME, SCRIPTED_SCHEME
from lakeport.providers.egress import EgressGuard
from lakeport.providers.engines import EngineConnector
from lakeport.providers.runtime import ExternalConnector, ExternalRuntime
from lakeport.providers.scripted import ScriptedRuntime, read_script
from lakeport.providers.transport import Outside
from lakeport.runtimes.base import Connector, Kind, Runtime, StartFailed
from lakeport.runtimes.dispatch import Connectors, Runtimes
from lakeport.runtimes.engine.runtime import EngineRuntime
from lakeport.runtimes.joined import JoinedRuntime
from lakeport.runtimes.local.link import UnixConnector
from lakeport.runtimes.local.logs import LogReader
from lakeport.runtimes.local.machine import Machine
from lakeport.runtimes.local.runtime import LocalRuntime
from lakeport.serving.calls import Calls
from lakeport.serving.deployment import QueueLimits
from lakeport.serving.faults import Faults
from lakeport.serving.faulty import FaultyFront
from lakeport.serving.invoke import Front
from lakeport.serving.ports import InvokePort
from lakeport.settings import Settings
from lakeport.stores.base import Store, StoreError
from lakeport.stores.records import ConfigUpdate
from lakeport.stores.sql import SqlStore
from lakeport.stores.sqlite import sqlite_url
from lakeport.telemetry import logs
from lakeport.telemetry.metrics import Metrics
from lakeport.telemetry.traces import open_tracer
from lakeport.wire.chat import Task
from lakeport.wire.workbench import Place

log = logging.getLogger(__name__)

OPERATOR = Caller(id=ADMIN, name=ADMIN, groups=frozenset({ADMINS, USERS}))


class CannotStart(Exception):
    """The server cannot start as it was asked to; the message says why."""


class Application:
    """One server: `async with Application(settings) as application` runs it.

    Entering returns once it answers, leaving once every process of its is gone.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.home = Home(settings.home)
        #: The admin token, when it was made now: shown once.
        self.new_token: str | None = None
        self._stack = AsyncExitStack()
        self._ready = False

    @property
    def url(self) -> str:
        host = self.settings.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.server.port}"

    async def __aenter__(self) -> "Application":
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Start everything; nothing is left running when this raises or is cancelled."""
        try:
            await self._open()
        except BaseException:  # a cancellation too: nothing may outlive it
            await self._stack.aclose()
            raise

    async def close(self) -> None:
        """No new requests, running ones finish within the grace, every process is gone."""
        self._ready = False
        await self._stack.aclose()

    async def _open(self) -> None:
        """Start the parts, each after those it needs; the stack stops them the other way round."""
        settings, stack = self.settings, self._stack
        self.home.make()
        stack.enter_context(self.home.locked())
        stack.callback(self.home.tidy)
        store = await self._open_store()
        tokens = await self._open_tokens(store)
        secrets = Secrets(store, self.home.secrets_key, now_ms=now_ms)
        await secrets.start()
        registry = self._make_registry()
        stack.push_async_callback(registry.close)
        models = registry if registry.enabled else None
        front, parts = await self._open_serving(store, secrets, models)
        invoke: InvokePort = front
        bench: Workbench | None = None
        if settings.faults:
            bench, invoke = self._make_workbench(front, parts)
        endpoints = bench or Endpoints(**parts)
        reconciler = parts["reconciler"]
        aliases = AliasWatcher(endpoints, reconciler, registry, settings.alias_poll)

        app = build_app(
            endpoints=endpoints,
            invoke=invoke,
            tokens=tokens,
            secrets=secrets,
            health=lambda: self._ready,
            mlflow=mlflow_proxy(models, on_write=lambda _: aliases.poke()),
            settings=settings,
            workspace_id=await _workspace_id(store),
            single_endpoint=lambda: _only_name(settings.model),
            metrics=endpoints.all_metrics,
            logs=LogPages(reconciler, LogReader(self.home.logs)),
            bench=bench,
        )
        self.server = make_server(
            app,
            host=settings.host,
            port=settings.port,
            grace=settings.stop_grace,
            cuttable=settings.faults,
            lane=app.lane,
        )
        await self._serve(self.server)
        registry.open()
        await self._make_asked_for(endpoints, reconciler)
        self._background(aliases.run())
        self._background(endpoints.monitor.run())
        self._ready = True

    async def _open_serving(
        self, store: Store, secrets: Secrets, models: Registry | None
    ) -> tuple[Front, Parts]:
        """What runs models and asks them, and what the control plane is made of."""
        settings, stack = self.settings, self._stack
        outside = Outside(
            EgressGuard(settings.egress_allow), os.environ, settings.upstream_connect_timeout
        )
        known = Known(self._catalogue(), settings.max_tokens, outside.refuses)
        runtime, connector = self._make_runtimes(models, secrets, known, outside)
        await runtime.open()
        stack.push_async_callback(runtime.close)
        metrics = Metrics()
        tracer = open_tracer()
        if tracer is not None:
            stack.push_async_callback(asyncio.to_thread, tracer.close)
        front = Front(
            connector, _queue_limits(settings), metrics, max_body=settings.max_body, tracer=tracer
        )
        reconciler = Reconciler(
            store, runtime, front, now_ms=now_ms, drain_timeout=settings.request_timeout
        )
        front.on_hung = reconciler.hung
        reconciler.on_woke = metrics.cold_start
        await reconciler.open()
        stack.push_async_callback(reconciler.close)
        scaler = Scaler(reconciler, front.load, _scaling(settings))
        front.on_waiting = scaler.waiting
        reconciler.on_moved = scaler.poke
        self._background(scaler.run())
        return front, Parts(
            reconciler=reconciler,
            store=store,
            runtime=runtime,
            registry=models,
            metrics=metrics,
            now_ms=now_ms,
            max_entities=settings.max_entities,
            max_endpoints=settings.max_endpoints,
            known=known,
            vault=secrets,
        )

    async def _open_store(self) -> Store:
        store = SqlStore(sqlite_url(self.home.database))
        await store.open()
        self._stack.push_async_callback(store.close)
        return store

    async def _open_tokens(self, store: Store) -> Tokens:
        token = self.settings.admin_token
        tokens = Tokens(
            store,
            changes=self.home.token_changes,
            admin_token=token.get_secret_value() if token else None,
            open_to_all=self.settings.auth == "off",
        )
        self.new_token = await tokens.start(self.home.admin_token)
        self._background(tokens.watch())
        return tokens

    def _catalogue(self) -> Catalogue:
        try:
            return catalogue.load(
                self.settings.catalogue or catalogue.existing(self.home.catalogue)
            )
        except BadCatalogue as problem:
            raise CannotStart(str(problem)) from problem

    def _make_registry(self) -> Registry:
        settings = self.settings
        return Registry(
            home=self.home.path,
            run=self.home.run,
            mode=settings.registry,
            tracking_uri=settings.mlflow_tracking_uri,
            wait=settings.registry_wait,
        )

    def _make_runtimes(
        self, models: Registry | None, secrets: Secrets, known: Known, outside: Outside
    ) -> tuple[Runtimes, Connectors]:
        """What runs or reaches each kind of deployment, and what connects to it."""
        settings = self.settings
        machine = Machine(self.home.path)
        local = LocalRuntime(
            self.home.path,
            registry=models,
            vault=secrets,
            env_manager=settings.env_manager,
            python_missing=settings.python_missing,
            start_timeout=settings.start_timeout,
            memory_limit=settings.replica_memory,
            max_body=settings.max_body,
            replica_start=settings.replica_start,
            template_memory=settings.template_memory,
            recycle=settings.replica_recycle_memory,
            machine=machine,
        )
        engines = EngineRuntime(
            self.home.path,
            models=known.catalogue,
            slots=settings.engine_slots,
            threads=settings.engine_threads,
            llama_server=settings.llama_server,
            vllm=settings.vllm,
            vault=secrets,
            start_timeout=settings.start_timeout,
            memory_limit=settings.replica_memory,
            machine=machine,
        )
        scripted = ScriptedRuntime()
        idle = settings.upstream_idle_timeout
        runtimes: dict[Kind, Runtime] = {
            Kind.MODEL: local,
            Kind.ENGINE: engines,
            Kind.EXTERNAL: ExternalRuntime(secrets, outside),
            Kind.SCRIPTED: scripted,
        }
        if settings.faults:
            runtimes[Kind.JOINED] = JoinedRuntime(self.home.joined)
        connectors: dict[str, Connector] = {
            "unix": UnixConnector(),
            ENGINE_SCHEME: EngineConnector(idle_timeout=idle, slots=settings.engine_slots),
            EXTERNAL_SCHEME: ExternalConnector(secrets, outside, idle_timeout=idle),
            SCRIPTED_SCHEME: scripted,
        }
        return Runtimes(runtimes), Connectors(connectors)

    def _make_workbench(self, front: Front, parts: Parts) -> tuple[Workbench, FaultyFront]:
        """A control plane for tests, and what stands before the front."""
        settings = self.settings
        faults, calls = Faults(), Calls(now_ms, max_body=settings.max_body)
        timeout = settings.request_timeout
        place = Place(home=str(self.home.path), sockets=str(self.home.joined))
        return (
            Workbench(faults=faults, calls=calls, place=place, timeout=timeout, **parts),
            FaultyFront(front, faults, calls, timeout=timeout),
        )

    async def _make_asked_for(self, endpoints: Endpoints, reconciler: Reconciler) -> None:
        """Make the endpoints that the settings ask for. Raises CannotStart."""
        settings = self.settings
        for task, asked in ((Task.CHAT, settings.chat), (Task.EMBEDDINGS, settings.embeddings)):
            for given in asked:
                await _pin(endpoints, given, task)
        for given in settings.model:
            await _serve_model(endpoints, reconciler, given)

    def _background(self, coroutine: Coroutine[None, None, None]) -> None:
        """Run something until the application ends."""
        task = asyncio.create_task(coroutine)

        async def end() -> None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

        self._stack.push_async_callback(end)

    async def _serve(self, server: Server) -> None:
        """Listen; at the end: no new requests, running ones finish within the grace."""
        serving = asyncio.create_task(server.serve(), name="http")

        async def end() -> None:
            server.exit()
            await serving

        self._stack.push_async_callback(end)
        while not server.started:
            if serving.done():
                await serving
                raise CannotStart("The HTTP server ended as it started; the log says why.")
            await asyncio.sleep(0.005)


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def _queue_limits(settings: Settings) -> QueueLimits:
    return QueueLimits(
        requests=settings.queue_requests,
        bytes=settings.queue_bytes,
        ready_wait=settings.ready_wait,
        timeout=settings.request_timeout,
    )


def _scaling(settings: Settings) -> Scaling:
    return Scaling(
        cores=cores(),
        up_to=settings.scale_up_to,
        down_after=settings.scale_down_after,
        to_zero_after=settings.scale_to_zero_after,
        engine_slots=settings.engine_slots,
    )


async def _workspace_id(store: Store) -> str:
    """A number of this workspace's own, made once; Databricks' clients send it back."""
    found = await store.mark("workspace-id")
    if found is None:
        found = str(uuid.uuid4().int % 10**16)
        await store.set_mark("workspace-id", found)
    return found


def _only_name(models: list[str]) -> str | None:
    """The name of the one model that the server was started with, if it is one."""
    return models[0].partition("=")[0] if len(models) == 1 else None


async def _pin(endpoints: Endpoints, given: str, task: Task) -> None:
    """Make the endpoint of `--chat NAME=TARGET` or `--embeddings NAME=TARGET`."""
    flag = "--chat" if task is Task.CHAT else "--embeddings"
    name, _, target = given.partition("=")
    try:
        fixed = parse_fixed(name, target, task)
        if fixed.kind is Kind.SCRIPTED:  # a slip in it is told at once, not to the first caller
            read_script(fixed.path or "")
        await endpoints.pin(fixed)
    except ValueError as problem:
        raise CannotStart(f"{flag} {name}: {problem}.") from problem
    except StartFailed as problem:
        raise CannotStart(f"{flag} {name}: {problem}") from problem
    except ApiError as problem:
        raise CannotStart(f"{flag} {name}: {problem.message}") from problem


async def _serve_model(endpoints: Endpoints, reconciler: Reconciler, given: str) -> None:
    """Make the endpoint of `--model NAME=URI`, unless it is as asked already."""
    name, _, uri = given.partition("=")
    asked_before = False
    try:
        source = parse_source(uri)
    except ValueError as problem:
        raise CannotStart(f"--model {name}: {problem}.") from problem
    if isinstance(source, ModelFolder):
        if not (source.path / "MLmodel").is_file():
            raise CannotStart(
                f"--model {name}: {uri} is not a folder with an MLmodel file, as "
                "`mlflow.<flavor>.save_model` makes it."
            )
        wish = _plain_entity(name, name, "1")
        path = str(source.path)
    else:
        record = reconciler.record(name)
        latest = (record.pending or record.active) if record and record.from_flag else None
        asked_before = latest is not None and [
            (e.entity_name, e.entity_version) for e in latest.entities
        ] == [(source.name, source.version)]
        if asked_before and record and record.update is not ConfigUpdate.UPDATE_FAILED:
            return  # as it was: the registry need not even be asked
        wish = _plain_entity(name, source.name, source.version)
        path = None
    try:
        await endpoints.ensure(OPERATOR, wish=wish, name=name, path=path)
    except ApiError as problem:
        if asked_before:  # it served as well as it could before: no reason to serve nothing
            log.warning("--model %s is not tried again: %s", name, problem.message)
            return
        raise CannotStart(f"--model {name}: {problem.message}") from problem


def _plain_entity(name: str, model: str, version: str) -> WishedEntity:
    return WishedEntity(
        name=name,
        entity_name=model,
        entity_version=version,
        workload_type="CPU",
        workload_size="Small",
        min_concurrency=None,
        max_concurrency=None,
        scale_to_zero=False,
        environment={},
    )


def run(settings: Settings) -> int:
    """Run a server until SIGTERM or SIGINT; returns its exit code.

    Raises HomeError when the home cannot be used.
    """
    logs.configure(settings.log_level)
    try:
        uvloop.run(_run(settings))
    except (CannotStart, StoreError, OSError) as problem:
        print(f"lakeport: {problem}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


async def _run(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    application = Application(settings)
    opening = asyncio.create_task(application.open(), name="open")
    stopped = asyncio.create_task(stop.wait(), name="stop")
    await asyncio.wait({opening, stopped}, return_when=asyncio.FIRST_COMPLETED)
    if not opening.done():  # told to stop while it waited for the registry, say
        opening.cancel()
        await asyncio.wait({opening})
        return
    try:
        await opening
        _greet(application)
        _look_for_cycles_less_often()
        await stopped
        log.info("stopping: running requests have %g s to finish", settings.stop_grace)
    finally:
        stopped.cancel()
        await application.close()


def _look_for_cycles_less_often() -> None:
    """Requests leave no cycles behind, and what was built at the start stays: by default, a
    twelfth of an invocation's time in this process goes into looking through both."""
    gc.freeze()
    gc.set_threshold(10_000)


def _greet(application: Application) -> None:
    """Say that it is ready, and what to type next."""
    settings, home = application.settings, application.home
    lines = [f"Lakeport is ready: {application.url}", ""]
    if settings.faults:
        lines += ["Faults on demand are open to its managers: for tests only.", ""]
    if settings.auth == "off":
        lines.append("Authentication is off: everybody who reaches this address is an admin.")
        shown = "any"
    elif application.new_token is not None:
        lines.append(f"The admin's token, shown this once and kept in {home.admin_token}:")
        shown = application.new_token
    elif settings.admin_token is not None:
        shown = "$LAKEPORT_ADMIN_TOKEN"
    else:
        shown = f"$(cat {home.admin_token})"
    lines += [
        f"  export DATABRICKS_HOST={application.url}",
        f"  export DATABRICKS_TOKEN={shown}",
        f"  export MLFLOW_TRACKING_URI={application.url}",
        "  export MLFLOW_TRACKING_TOKEN=$DATABRICKS_TOKEN",
    ]
    try:
        print("\n".join(lines), flush=True)  # noqa: T201
    except OSError as problem:  # a full disk, a reader that is gone: no reason not to serve
        log.warning("the greeting could not be printed: %s", problem)
        # What is left in the buffer must not fail again at the end, and spoil the exit code.
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
