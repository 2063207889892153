"""Endpoints, as they are shown; waiting for one."""

from dataclasses import replace
from urllib.parse import quote

from lakeport.client.calls import Context, get_json, named
from lakeport.client.endpoint import Endpoint, ServedEntity, read_endpoint
from lakeport.client.errors import BadAnswer, NotReady, TimedOut
from lakeport.client.flow import Flow, Sleep
from lakeport.client.retry import Retry

ENDPOINTS = "/api/2.0/serving-endpoints"
#: Seconds between two looks at an endpoint that is waited for: at first, and at most.
_LOOK, _LOOK_MOST = 0.5, 10.0
_PATIENT = 1_000_000
_ENDED = {"UPDATE_FAILED": "failed", "UPDATE_CANCELED": "was cancelled"}
#: States of served entities from which nothing comes by waiting.
_GONE = frozenset({"DEPLOYMENT_FAILED", "DEPLOYMENT_ABORTED"})


def list_endpoints(context: Context) -> Flow[list[Endpoint]]:
    shown = yield from get_json(context, ENDPOINTS)
    found = shown.get("endpoints", []) if isinstance(shown, dict) else None
    if not isinstance(found, list):
        raise BadAnswer("The list of endpoints has not the form that was expected.")
    return [read_endpoint(each, context.host) for each in found]


def get(
    context: Context, name: str, *, refresh: bool = True, retry: Retry | None = None
) -> Flow[Endpoint]:
    if not refresh and (kept := context.cache.get("endpoint", named(name))):
        known: Endpoint = kept.value
        return known
    path = f"{ENDPOINTS}/{quote(named(name), safe='')}"
    shown = yield from get_json(context, path, endpoint=name, retry=retry)
    endpoint = read_endpoint(shown, context.host)
    context.cache.put(endpoint, "endpoint", name)
    return endpoint


def wait_until_ready(context: Context, name: str, *, timeout: float = 1200.0) -> Flow[Endpoint]:
    until = context.clock() + timeout
    pause, rule = _LOOK, context.retry
    while True:
        endpoint = yield from get(context, name, retry=rule)
        if endpoint.config_update in _ENDED:
            reason = reason_of(endpoint)
            raise not_ready(endpoint, f"its update {_ENDED[endpoint.config_update]}{reason}")
        if endpoint.config_update == "NOT_UPDATING":
            if endpoint.ready:
                return endpoint
            if endpoint.entities and all(_gone(entity) for entity in endpoint.entities):
                raise not_ready(endpoint, f"it is stopped or failed{reason_of(endpoint)}")
        left = until - context.clock()
        if left <= 0:
            raise TimedOut(
                f"'{name}' was not ready within {timeout:g} s: it is {endpoint.state}, "
                f"{endpoint.config_update}{reason_of(endpoint)}.",
                endpoint=name,
            )
        yield Sleep(min(pause, left))
        pause = min(pause * 1.5, _LOOK_MOST)
        # It was there once: a server that is away for a while is waited for too.
        rule = replace(context.retry, attempts=_PATIENT, deadline=left)


def check_state(context: Context, name: str) -> Flow[None]:
    """Raises NotReady when the endpoint does not serve. What is kept is enough to say yes; a no is
    looked up."""
    kept = context.cache.get("endpoint", name)
    endpoint = yield from get(context, name, refresh=False)
    if kept and not endpoint.ready:
        endpoint = yield from get(context, name)
    if not endpoint.ready:
        raise not_ready(
            endpoint, f"it is {endpoint.state}, {endpoint.config_update}{reason_of(endpoint)}"
        )


def not_ready(endpoint: Endpoint, why: str) -> NotReady:
    return NotReady(f"'{endpoint.name}' does not serve: {why}.", endpoint=endpoint.name)


def reason_of(endpoint: Endpoint) -> str:
    """What its served entities say, as far as they do not serve; "" when nothing."""
    shown = read_all(endpoint)
    said = [
        f"{entity.name}: {entity.state_message or entity.state}".rstrip(".")
        for entity in shown
        if entity.state not in (None, "DEPLOYMENT_READY")
    ]
    return f" ({'; '.join(dict.fromkeys(said))})" if said else ""


def read_all(endpoint: Endpoint) -> tuple[ServedEntity, ...]:
    """Its served entities, and those of a config that is not in force yet or failed."""
    raw = dict(endpoint.raw)
    pending = raw.get("pending_config")
    if not raw.get("config") or not isinstance(pending, dict):
        return endpoint.entities
    coming = read_endpoint({**raw, "config": pending}, "")
    return (*endpoint.entities, *coming.entities)


def _gone(entity: ServedEntity) -> bool:
    return entity.state in _GONE
