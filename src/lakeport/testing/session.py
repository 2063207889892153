"""What the workspaces of one run of pytest share: the server, its environment, the functions."""

import os
import secrets
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

from lakeport.client.errors import LakeportError, NotReady, TimedOut
from lakeport.testing import environment, server
from lakeport.testing.api import Api

if TYPE_CHECKING:
    import pytest

    from lakeport.testing.replica import Loop, Replica, Run

#: Seconds for one request of databricks-sdk, where nobody says otherwise.
HTTP_TIMEOUT: Final = 10
_ENDPOINTS = "/api/2.0/serving-endpoints"
_LAKEPORT = "/api/2.0/lakeport"
_POLL = 0.05
#: Runs of one function that are kept, as many as the server keeps calls.
_RUNS = 10_000


class Session:
    """One server, from `Session(...)` to `close`. Several threads may call its methods."""

    def __init__(self, *, python: str | None = None, http_timeout: int = HTTP_TIMEOUT) -> None:
        """`python`: as in `server.start`. `http_timeout`: seconds that databricks-sdk waits for an
        answer. Raises ServerFailed."""
        self._server = server.start(python=python)
        self.url = self._server.url
        self.token = self._server.token
        self.api = Api(self.url, self.token)
        self._http_timeout = http_timeout
        self._profiles = self._server.folder / "databrickscfg"
        self._profiles.write_text(
            environment.profiles_text(url=self.url, token=self.token, http_timeout=http_timeout),
            encoding="utf-8",
        )
        self._lock = threading.Lock()
        self._loops: tuple[Loop, Loop] | None = None
        self._sockets: Path | None = None
        self._replicas: dict[str, Replica] = {}
        self._runs: dict[str, deque[Run]] = {}

    def close(self) -> None:
        """The server has ended, and its folder is gone, when this returns."""
        for name in list(self._replicas):
            self.forget(name)
        for loop in self._loops or ():
            loop.close()
        self._server.close()

    # --- the environment ------------------------------------------------------------------------

    def variables(self, given: Mapping[str, str]) -> dict[str, str]:
        """A whole environment of this workspace, made from a given one."""
        return environment.variables(
            given,
            url=self.url,
            token=self.token,
            profiles=self._profiles,
            http_timeout=self._http_timeout,
        )

    @contextmanager
    def entered(self, monkeypatch: "pytest.MonkeyPatch | None" = None) -> Iterator[None]:
        """This process's environment is the workspace's meanwhile. `monkeypatch`: the test's."""
        with environment.applied(self.variables(os.environ), monkeypatch):
            yield

    @contextmanager
    def isolated(self) -> Iterator[None]:
        """Endpoints, faults and calls that came meanwhile are gone at the end."""
        endpoints, faults = self._endpoints(), {fault["id"] for fault in self.faults()}
        try:
            yield
        finally:
            # Each on its own: one that fails must not leave the rest to the next test.
            with ExitStack() as ends:
                ends.callback(self.forget_calls)
                for name in self._endpoints() - endpoints:
                    ends.callback(self._remove, name)
                for fault in {fault["id"] for fault in self.faults()} - faults:
                    ends.callback(self.clear_fault, fault)

    def new_folder(self) -> Path:
        """A new folder that lives as long as the session."""
        return Path(tempfile.mkdtemp(prefix="model-", dir=self._server.folder)) / "model"

    # --- functions ------------------------------------------------------------------------------

    def join(self, function: Callable[..., Any], *, name: str, signature: Any) -> str:
        """Have this process answer for an endpoint; gives the replica's address. Raises TypeError
        for a function that cannot be served."""
        # Late: it loads what decodes requests, which a test of scripted chats never needs.
        from lakeport.testing.replica import Loop, Replica  # noqa: PLC0415

        with self._lock:
            if self._loops is None:
                # Two: a coroutine that blocks its loop may wait for another endpoint's answer.
                self._loops = Loop(), Loop("lakeport-functions")
            if self._sockets is None:
                self._sockets = Path(self.api.call("GET", f"{_LAKEPORT}/workspace")["sockets"])
            runs = self._runs.setdefault(name, deque(maxlen=_RUNS))
            sockets, functions = self._loops
            replica = Replica(
                function,
                name=name,
                loop=sockets,
                functions=functions,
                signature=signature,
                ran=runs.append,
            )
            address = replica.open(self._sockets / f"{secrets.token_hex(6)}.sock")
            old, self._replicas[name] = self._replicas.get(name), replica
        if old is not None:
            old.close()
        return address

    def forget(self, name: str) -> None:
        """The function behind an endpoint is called no more; says nothing when there is none."""
        with self._lock:
            replica = self._replicas.pop(name, None)
        if replica is not None:
            replica.close()

    def runs(self) -> Mapping[str, "Sequence[Run]"]:
        """What the functions of each endpoint did, oldest first."""
        return {name: list(runs) for name, runs in self._runs.items()}

    # --- the server -----------------------------------------------------------------------------

    def faults(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.api.call("GET", f"{_LAKEPORT}/faults")["faults"]
        return found

    def clear_fault(self, id: str) -> None:
        with suppress(LakeportError):  # spent, or cleared already
            self.api.call("DELETE", f"{_LAKEPORT}/faults/{quote(id, safe='')}")

    def forget_calls(self, name: str | None = None) -> None:
        """Those of one endpoint, or of all."""
        asked = "" if name is None else f"?{urlencode({'endpoint': name})}"
        self.api.call("DELETE", f"{_LAKEPORT}/calls{asked}")
        for endpoint, runs in self._runs.items():
            if name in (None, endpoint):
                runs.clear()

    def wait_until_ready(self, name: str, within: float) -> None:
        """Raises NotReady with the reason when the endpoint fails, TimedOut."""
        deadline = time.monotonic() + within
        while True:
            endpoint = self.api.call("GET", f"{_ENDPOINTS}/{quote(name, safe='')}")
            state = endpoint["state"]
            if state["ready"] == "READY" and state["config_update"] == "NOT_UPDATING":
                return
            if state["config_update"] == "UPDATE_FAILED" or _failed(endpoint):
                raise NotReady(f"{name} does not serve: {_why(endpoint)}", endpoint=name)
            if time.monotonic() > deadline:
                raise TimedOut(f"{name} is not ready after {within:g} s.", endpoint=name)
            time.sleep(_POLL)

    def _endpoints(self) -> set[str]:
        listed = self.api.call("GET", _ENDPOINTS).get("endpoints", [])
        return {endpoint["name"] for endpoint in listed}

    def _remove(self, name: str) -> None:
        self.forget(name)
        self._runs.pop(name, None)
        with suppress(LakeportError):  # gone already
            self.api.call("DELETE", f"{_ENDPOINTS}/{quote(name, safe='')}")


def _entities(endpoint: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    config = endpoint.get("config") or endpoint.get("pending_config") or {}
    return list(config.get("served_entities") or [])


def _failed(endpoint: Mapping[str, Any]) -> bool:
    return any(
        (entity.get("state") or {}).get("deployment") == "DEPLOYMENT_FAILED"
        for entity in _entities(endpoint)
    )


def _why(endpoint: Mapping[str, Any]) -> str:
    messages = [
        (entity.get("state") or {}).get("deployment_state_message") or ""
        for entity in _entities(endpoint)
    ]
    return "; ".join(message for message in messages if message) or "its config failed."
