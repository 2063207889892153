"""What a model takes: learned from the endpoint's OpenAPI page, or from the model registry."""

import base64
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from lakeport.client import signature as signatures
from lakeport.client.cache import Kept
from lakeport.client.calls import Context, get_json, named, send
from lakeport.client.calls_inspect import ENDPOINTS, check_state, get
from lakeport.client.endpoint import ServedEntity
from lakeport.client.errors import (
    ApiError,
    BadAnswer,
    LakeportError,
    NotFound,
    PermissionDenied,
    Unauthenticated,
)
from lakeport.client.flow import Flow, Request
from lakeport.client.readings import loads
from lakeport.client.retry import Retry
from lakeport.client.signature import Signature

_MLFLOW = "/api/2.0/mlflow"
_ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
#: References that are followed from a model version to its files.
_HOPS = 4
#: A signature that a query would like to know is not worth a wait.
_ONCE = Retry(attempts=1)
#: Seconds for which a signature that was looked up again, and is the same, is not looked up again.
_FRESH = 2.0
_SERVED = re.compile(r"/served-models/([^/]+)/invocations")

#: Of the served entities that may answer, in the order in which the endpoint shows them.
Signatures = tuple[Signature, ...]


def signature(
    context: Context, name: str, *, entity: str | None = None, refresh: bool = False
) -> Flow[Signature]:
    known = None if refresh else _kept(context, name, entity)
    found: Signatures = known.value if known else ()
    if not found:
        found = yield from _learn(context, name, entity, registry=True, retry=None)
    if not found:
        with suppress(PermissionDenied):  # one that is still starting has yet to tell
            yield from check_state(context, name)
        which = f"'{entity}' of endpoint '{name}'" if entity else f"endpoint '{name}'"
        raise NotFound(
            f"The model of {which} has no signature: log it with one "
            "(mlflow.models.infer_signature), or give the request's body yourself.",
            endpoint=name,
        )
    return found[0]


def for_query(
    context: Context, name: str, entity: str | None, *, registry: bool, refresh: bool = False
) -> Flow[Signatures]:
    """Where they can be had without trouble. (): there is none, the caller may not see them, or the
    server does not tell them now; the query goes on without.

    `registry`: ask there too, which takes several requests.
    """
    before = _kept(context, name, entity)
    known = None if refresh else before
    asked = known if not registry else context.cache.get("registry", name, entity)
    if known is not None and (known.value or asked is not None):
        kept: Signatures = known.value
        return kept
    try:
        found = yield from _learn(context, name, entity, registry=registry, retry=_ONCE)
    except Unauthenticated:
        raise
    except LakeportError:
        context.cache.put((), "signature", name, entity)
        context.cache.put(True, "registry", name, entity)
        found = ()
    if refresh and before is not None and before.value == found:
        context.cache.put(True, "confirmed", name, entity)
    return found


def may_be_old(context: Context, name: str, entity: str | None, began: float) -> bool:
    """Whether the signature in use was learned before the call that `began` then; one that was
    looked up in vain a moment ago counts as new, so that many bad inputs ask once."""
    known = _kept(context, name, entity)
    if known is None or known.age <= context.clock() - began:
        return False
    confirmed = context.cache.get("confirmed", name, entity)
    return confirmed is None or confirmed.age > _FRESH


def _kept(context: Context, name: str, entity: str | None) -> Kept | None:
    return context.cache.get("signature", named(name), entity)


def _learn(
    context: Context, name: str, entity: str | None, *, registry: bool, retry: Retry | None
) -> Flow[Signatures]:
    found = yield from _from_page(context, name, entity, retry)
    if not found and registry:
        registered = yield from _from_registry(context, name, entity, retry)
        found = () if registered is None else (registered,)
        context.cache.put(True, "registry", name, entity)
    context.cache.put(found, "signature", name, entity)
    return found


def _from_page(
    context: Context, name: str, entity: str | None, retry: Retry | None
) -> Flow[Signatures]:
    path = f"{ENDPOINTS}/{quote(named(name), safe='')}/openapi"
    try:
        page = yield from get_json(context, path, endpoint=name, retry=retry)
    except (ApiError, BadAnswer) as error:
        # No page for such a model, or none for this caller: the registry may know.
        if error.status in (400, 403, 404, 501, 200):
            return ()
        raise
    paths = page.get("paths") if isinstance(page, Mapping) else None
    served = [found[1] for path in paths or () if (found := _SERVED.fullmatch(str(path)))]
    read = (signatures.from_openapi(page, one) for one in served if entity in (None, one))
    return tuple(each for each in read if each is not None)


def _from_registry(
    context: Context, name: str, entity: str | None, retry: Retry | None
) -> Flow[Signature | None]:
    """Raises NotFound when there is no such endpoint or served entity."""
    try:
        endpoint = yield from get(context, name, refresh=False, retry=retry)
    except ApiError as error:
        if error.status == 403:
            return None
        raise
    if entity is not None and entity not in {each.name for each in endpoint.entities}:
        raise NotFound(
            f"Endpoint '{name}' has no served entity '{entity}'; it has "
            f"{', '.join(each.name for each in endpoint.entities) or 'none'}.",
            endpoint=name,
        )
    served = next((e for e in endpoint.entities if entity in (None, e.name)), None)
    if served is None or not served.model or not served.version:
        return None
    for registry in _registries(context.host, retry):
        try:
            model = yield from _mlmodel(context, registry, served)
        except (ApiError, BadAnswer, ValueError):  # that registry does not know it
            continue
        if model is not None:
            return model
    return None


@dataclass(frozen=True, slots=True)
class _Registry:
    """An MLflow server's REST API: the workspace's own, or the one that MLflow's variables name."""

    #: None: the workspace.
    origin: str | None
    headers: Mapping[str, str]
    retry: Retry | None

    def get(self, context: Context, path: str, query: Mapping[str, str] | None = None) -> Flow[Any]:
        return loads((yield from self.read(context, path, query)))

    def read(
        self, context: Context, path: str, query: Mapping[str, str] | None = None
    ) -> Flow[bytes]:
        request = Request("GET", path, query=query or {}, headers=self.headers, origin=self.origin)
        reply = yield from send(context, request, self.retry)
        return reply.response.body


def _registries(host: str, retry: Retry | None) -> list[_Registry]:
    found = [_Registry(None, {}, retry)]
    named_one = os.environ.get("MLFLOW_REGISTRY_URI") or os.environ.get("MLFLOW_TRACKING_URI") or ""
    parts = urlsplit(named_one)
    origin = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    if parts.scheme in ("http", "https") and parts.netloc and origin != host:
        found.append(_Registry(origin, _mlflow_signs(), retry))
    return found


def _mlflow_signs() -> dict[str, str]:
    """As MLflow's own client signs in."""
    user = os.environ.get("MLFLOW_TRACKING_USERNAME")
    if user:
        password = os.environ.get("MLFLOW_TRACKING_PASSWORD", "")
        pair = base64.b64encode(f"{user}:{password}".encode()).decode()
        return {"authorization": f"Basic {pair}"}
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    return {"authorization": f"Bearer {token}"} if token else {}


def _mlmodel(context: Context, registry: _Registry, served: ServedEntity) -> Flow[Signature | None]:
    """From the MLmodel file of a model version. None: it has no signature, or lies elsewhere."""
    version = {"name": served.model or "", "version": served.version or ""}
    path = f"{_MLFLOW}/model-versions/get-download-uri"
    answer = yield from registry.get(context, path, version)
    uri = _field(answer, "artifact_uri")
    for _ in range(_HOPS):
        scheme, _, rest = uri.partition(":")
        where = rest.strip("/")
        if scheme == "models" and where.startswith("m-") and "/" not in where:
            path = f"{_MLFLOW}/logged-models/{quote(where, safe='')}"
            answer = yield from registry.get(context, path)
            uri = _field(answer, "model", "info", "artifact_uri")
        elif scheme == "runs":
            run, _, inside = where.partition("/")
            path = f"{_MLFLOW}/runs/get"
            answer = yield from registry.get(context, path, {"run_id": run})
            uri = f"{_field(answer, 'run', 'info', 'artifact_uri').rstrip('/')}/{inside}"
        elif scheme == "mlflow-artifacts":
            folder = urlsplit(uri).path.strip("/")
            return (yield from _read_mlmodel(context, registry, folder, served.name))
        else:
            return None
    return None


def _read_mlmodel(
    context: Context, registry: _Registry, folder: str, entity: str
) -> Flow[Signature | None]:
    import yaml  # noqa: PLC0415 -- only for models whose endpoint has no page

    path = f"{_ARTIFACTS}/{quote(folder)}"
    file = yield from registry.read(context, f"{path}/MLmodel")
    try:
        model = yaml.safe_load(file)
    except yaml.YAMLError as error:
        raise BadAnswer("The model's MLmodel file is no YAML.") from error
    if not isinstance(model, Mapping) or not isinstance(model.get("signature"), Mapping):
        return None
    example = None
    if isinstance(model.get("saved_input_example_info"), Mapping):
        try:
            example = loads(
                (yield from registry.read(context, f"{path}/serving_input_example.json"))
            )
        except (LakeportError, ValueError):
            example = None
    return signatures.from_mlmodel(model["signature"], example, entity=entity)


def _field(document: Any, *names: str) -> str:
    """Raises BadAnswer when it is not there."""
    for name in names:
        document = document.get(name) if isinstance(document, Mapping) else None
    if not isinstance(document, str):
        raise BadAnswer(f"The model registry's answer lacks '{names[-1]}'.")
    return document
