"""The workspace that a test is given."""

import contextlib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from lakeport.client.errors import LakeportError, NotFound
from lakeport.testing import models
from lakeport.testing.records import Call, Fault, calls_of

if TYPE_CHECKING:
    from lakeport.client.client import Client
    from lakeport.testing.session import Session

_API = "/api/2.0/lakeport"
_ENDPOINTS = "/api/2.0/serving-endpoints"
#: Seconds for a model to be loaded.
_PATIENCE = 120.0
#: A model as MLflow's `log_model` names it: logged, not registered.
_LOGGED = re.compile(r"models:/m-[0-9a-f]{32}")


class Workspace:
    """A live serving workspace. Its methods may be called from several threads.

    What a test serves, breaks and asks here is gone at the test's end.
    """

    def __init__(self, session: "Session") -> None:
        self._session = session
        self._client: Client | None = None

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`."""
        return self._session.url

    @property
    def token(self) -> str:
        """The admin's token."""
        return self._session.token

    @property
    def openai_url(self) -> str:
        """`base_url` of an OpenAI client that asks this workspace."""
        return f"{self.url}/serving-endpoints"

    @property
    def client(self) -> "Client":
        """A `lakeport.Client` of this workspace, as its admin."""
        if self._client is None:
            from lakeport.client.client import Client  # noqa: PLC0415  only tests that use it pay

            self._client = Client(self.url, self.token)
        return self._client

    def env(self) -> dict[str, str]:
        """A whole environment for a child process, `subprocess.run(..., env=workspace.env())`, in
        which it finds this workspace, and nothing else."""
        return self._session.variables(os.environ)

    def close(self) -> None:
        """Let go of the client."""
        if self._client is not None:
            self._client.close()
            self._client = None

    # --- endpoints ------------------------------------------------------------------------------

    def serve(
        self,
        what: Callable[..., Any] | str | Path | object,
        *,
        name: str,
        signature: Any = None,
        task: str | None = None,
    ) -> None:
        """Put a function or a model behind an endpoint, which answers when this returns. An
        endpoint of that name which the workspace was given before is replaced.

        A **function** runs in this process. It gets what a PythonModel's `predict` would: a
        DataFrame for `dataframe_split` and `dataframe_records`, the value of `inputs` and
        `instances`, the whole body with `messages`, `prompt` or `input`; and `params`, where it has
        a parameter of that name. It may be `async`, and may be a generator of either kind, whose
        items are a stream's events. It may return whatever a PythonModel may; for `messages` a
        string is the assistant's reply. What it raises is a 400 for the caller, and `error` in
        `calls`.

        A **model** is a fitted one (of scikit-learn, XGBoost, LightGBM, PyTorch …, or an MLflow
        PythonModel), a folder with an MLmodel file, or a URI: `models:/NAME/VERSION`,
        `models:/NAME@ALIAS`, `runs:/…`. It runs in a worker process, as in production.

        `signature`: an MLflow ModelSignature; a function's input is then converted and checked by
        MLflow. `task`: "llm/v1/chat", "llm/v1/completions" or "llm/v1/embeddings", for functions.

        Raises TypeError for what cannot be served, NotReady when a model does not start.
        """
        if isinstance(what, (str, Path)):
            self._serve_uri(str(what), name)
        elif models.flavor_of(what) is not None:
            folder = self._session.new_folder()
            models.save(what, folder, signature=signature)
            self._serve_folder(folder, name)
        elif callable(what):
            address = self._session.join(what, name=name, signature=signature)
            joined = {"address": address, "task": task, "signature": _shown(signature)}
            self._replace({"name": name, "joined": joined})
        else:
            raise TypeError(
                f"{what!r} cannot be served: expected a function, a fitted model that MLflow has a "
                "flavor for, a folder with an MLmodel file, or a model's URI."
            )

    def chat(
        self,
        name: str,
        answers: Mapping[str, Any] | str | Path | None = None,
        *,
        default: str | None = None,
        task: str = "llm/v1/chat",
    ) -> None:
        """A scripted chat endpoint. `answers` maps what a user says to a reply, `{"hello": "Hi."}`;
        or it is a script, as a document with `rules`, or the path of a YAML file: docs/scripted.md.

        A text fits when the last user message contains it. `default`: the reply to all else.
        `task`: "llm/v1/embeddings" and "llm/v1/completions" are scripted alike.
        """
        self._replace({"name": name, "scripted": script_of(answers, default), "task": task})
        self._session.forget(name)

    def delete(self, name: str) -> None:
        """Take an endpoint away, however it came. Says nothing when there is none."""
        self._session.forget(name)
        with contextlib.suppress(NotFound):
            self._session.api.call("DELETE", f"{_ENDPOINTS}/{quote(name, safe='')}")

    def _replace(self, document: Mapping[str, Any]) -> None:
        """Make an endpoint of the server's own route for tests, whatever has its name."""
        try:
            self._session.api.call("POST", f"{_API}/endpoints", document)
        except LakeportError as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            # Made as applications make them, which that route leaves alone.
            name = quote(document["name"], safe="")
            self._session.api.call("DELETE", f"{_ENDPOINTS}/{name}")
            self._session.api.call("POST", f"{_API}/endpoints", document)

    def _serve_folder(self, folder: Path, name: str) -> None:
        self._replace({"name": name, "model": {"path": str(folder)}})
        self._session.forget(name)
        self._session.wait_until_ready(name, _PATIENCE)

    def _serve_uri(self, uri: str, name: str) -> None:
        folder = Path(uri)
        if folder.is_dir():
            self._serve_folder(folder.resolve(), name)
            return
        if ":/" not in uri:
            raise TypeError(f"{uri!r} cannot be served: it is no folder, and no model's URI.")
        if not uri.startswith("models:/") or _LOGGED.fullmatch(uri):
            from mlflow.artifacts import download_artifacts  # noqa: PLC0415  heavy

            fetched = download_artifacts(
                artifact_uri=uri, dst_path=str(self._session.new_folder()), tracking_uri=self.url
            )
            self._serve_folder(Path(fetched), name)
            return
        model, version = self._version_of(uri)
        entity = {
            "entity_name": model,
            "entity_version": version,
            "workload_size": "Small",
            "scale_to_zero_enabled": False,
        }
        self.delete(name)
        body = {"name": name, "config": {"served_entities": [entity]}}
        self._session.api.call("POST", _ENDPOINTS, body)
        self._session.wait_until_ready(name, _PATIENCE)

    def _version_of(self, uri: str) -> tuple[str, str]:
        path = uri.removeprefix("models:/")
        model, mark, alias = path.partition("@")
        if mark:
            asked = urlencode({"name": model, "alias": alias})
            found = self._session.api.call(
                "GET", f"/api/2.0/mlflow/registered-models/alias?{asked}"
            )
            return model, str(found["model_version"]["version"])
        model, _, version = path.rpartition("/")
        if not model or not version.isdigit():
            raise TypeError(
                f"{uri!r} cannot be served: expected models:/NAME/VERSION or models:/NAME@ALIAS."
            )
        return model, version

    # --- what was asked -------------------------------------------------------------------------

    def calls(self, name: str | None = None) -> list[Call]:
        """The calls of one endpoint, or of all, oldest first: since the test began, or `clear`."""
        asked = "" if name is None else f"?{urlencode({'endpoint': name})}"
        documents = self._session.api.call("GET", f"{_API}/calls{asked}")["calls"]
        return calls_of(documents, self._session.runs())

    # --- faults ---------------------------------------------------------------------------------

    def fault(
        self,
        name: str,
        status: int | None = None,
        *,
        kind: str = "status",
        times: int | None = None,
        probability: float | None = None,
        on: str | None = None,
        retry_after: int | None = None,
        error_code: str | None = None,
        message: str | None = None,
        **more: Any,
    ) -> Fault:
        """An endpoint fails until the returned fault is cleared, its `with` block or the test ends.

        `status`: 400, 401, 403, 404, 408, 413, 429, 500, 502, 503 or 504, worded as by Databricks
        unless `error_code` and `message` say otherwise; `retry_after`: seconds.
        `times`: the next N calls only. `probability`: of each call, 0 to 1, the same ones in every
        run. `on`: "get" has the endpoint's own details fail, instead of its invocations.
        `kind` and `more`: any fault of docs/faults.md.

        Raises BadRequest, which names the field.
        """
        given = {
            "endpoint": name,
            "kind": kind,
            "status": status,
            "times": times,
            "probability": probability,
            "on": on,
            "retry_after": retry_after,
            "error_code": error_code,
            "message": message,
            **more,
        }
        document = {field: value for field, value in given.items() if value is not None}
        made = self._session.api.call("POST", f"{_API}/faults", document)
        return Fault(made, look=self._session.faults, clear=self._session.clear_fault)

    def slow(self, name: str, seconds: float, **when: Any) -> Fault:
        """It answers as usual, after so many seconds. `when`: `times`, `probability`, `on`."""
        return self.fault(name, kind="slow", seconds=seconds, **when)

    def timeout(self, name: str, seconds: float | None = None, **when: Any) -> Fault:
        """It does not answer until `seconds` have passed (297, as any server's), then with 504. The
        client's own timeout comes first: the SDK's is bounded by the ini option
        `lakeport_http_timeout`."""
        return self.fault(name, kind="timeout", seconds=seconds, **when)

    def cut(self, name: str, after: int | None = None, **when: Any) -> Fault:
        """The connection breaks: before the answer, or `after` so many events of a stream, or bytes
        of a whole answer."""
        return self.fault(name, kind="cut", after=after, **when)

    def wake(self, name: str, seconds: float | None = None, **when: Any) -> Fault:
        """It takes its time, as an endpoint that was scaled to zero does, then answers."""
        return self.fault(name, kind="wake", seconds=seconds, **when)

    def bad_json(self, name: str, **when: Any) -> Fault:
        """It answers 200, with a body that is no JSON."""
        return self.fault(name, kind="bad_json", **when)

    def state(
        self,
        name: str,
        *,
        ready: bool | None = None,
        config_update: str | None = None,
        **when: Any,
    ) -> Fault:
        """Its details show this state: `ready=False` for NOT_READY, with which invocations are
        refused too; `config_update`: "IN_PROGRESS", "UPDATE_FAILED", "NOT_UPDATING" …"""
        shown = None if ready is None else "READY" if ready else "NOT_READY"
        return self.fault(name, kind="state", ready=shown, config_update=config_update, **when)

    def clear(self, name: str | None = None) -> None:
        """Faults and calls of one endpoint, or of all, are gone; endpoints stay."""
        asked = "" if name is None else f"?{urlencode({'endpoint': name})}"
        self._session.api.call("DELETE", f"{_API}/faults{asked}")
        self._session.forget_calls(name)


def script_of(answers: Mapping[str, Any] | str | Path | None, default: str | None) -> Any:
    """A script's document. Raises OSError, and ValueError for a file that is no YAML."""
    if isinstance(answers, (str, Path)):
        import yaml  # noqa: PLC0415  few tests need it

        try:
            script = yaml.safe_load(Path(answers).read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise ValueError(f"{answers} is no YAML: {error}") from error
    elif isinstance((answers or {}).get("rules"), list):
        script = dict(answers or {})
    else:
        script = {"rules": [_rule(text, reply) for text, reply in (answers or {}).items()]}
    if default is not None:
        script["default"] = default
    return script


def _rule(text: str, reply: Any) -> dict[str, Any]:
    if isinstance(reply, Mapping):
        said = dict(reply)
    else:
        said = {"reply": reply} if isinstance(reply, str) else {"replies": list(reply)}
    return {"match": re.escape(text), **said}


def _shown(signature: Any) -> dict[str, Any] | None:
    """An MLflow ModelSignature as the server shows it; MLflow writes each part as JSON text."""
    if signature is None:
        return None
    return {part: json.loads(text) for part, text in signature.to_dict().items() if text}
