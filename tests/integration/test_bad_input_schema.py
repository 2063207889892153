"""schemathesis against our OpenAPI document: what it allows and what it forbids, on a real server.

No 5xx but 501, no status, media type or body that the document does not tell of, and nothing that
it forbids is taken.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from lakeport.api.openapi import build_document
from tests.integration.hostile import assert_unharmed, control_plane, grant, make_token
from tests.integration.server import ServerProcess, closing
from tests.models.fixtures import SavedModel

CONFORMING = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
#: Of these only whether a request is taken counts, which depends on the things that it names.
REFUSING = [negative_data_rejection, unsupported_method]

Case = schemathesis.Case[Any]

#: An endpoint that may be changed and deleted; `iris` is there to be asked.
SCRATCH = "scratch"
#: Operations that are tried on `iris`.
ASKING = ("/invocations", "/logs", "/build-logs", "/metrics", "/openapi")

CONFIG = {
    "checks": {
        "not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", 501]},
        # The wire refuses what it cannot read with 400, in all these ways.
        "negative_data_rejection": {"expected-statuses": [400, 401, 403, 404, 405, 409, 415, 501]},
    },
    "generation": {
        "deterministic": True,
        # The sessions bring the token, and unknown parameters of a query are ignored on purpose.
        "with-security-parameters": False,
        "allow-extra-parameters": False,
    },
}
QUICK = settings(
    max_examples=25,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)


@dataclass(frozen=True, slots=True)
class Callers:
    """Those who send each request: the admin, and somebody who may only query `iris`."""

    server: ServerProcess
    sessions: tuple[requests.Session, requests.Session]


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, saved_model: SavedModel
) -> Iterator[ServerProcess]:
    home = tmp_path_factory.mktemp("schema") / "home"
    server = ServerProcess(home, models={"iris": saved_model("iris")}, registry="off")
    with closing(server):
        server.start().updated("iris")
        make_scratch(server)
        workers = server.workers()
        yield server
        assert_unharmed(server, workers)


@pytest.fixture(scope="module")
def callers(server: ServerProcess) -> Iterator[Callers]:
    grant(server, "iris", querier="CAN_QUERY")
    with requests.Session() as admin, requests.Session() as querier:
        admin.headers["Authorization"] = f"Bearer {server.token}"
        querier.headers["Authorization"] = f"Bearer {make_token(server, 'querier')}"
        yield Callers(server, (admin, querier))


def make_scratch(server: ServerProcess) -> None:
    """The scratch endpoint, which anybody may do anything with."""
    made = server.client.post("/api/2.0/serving-endpoints", json={"name": SCRATCH})
    assert made.status_code in {200, 409}, made.text
    grant(server, SCRATCH, querier="CAN_MANAGE")


def scratch_id(server: ServerProcess) -> str:
    id: str = server.get(SCRATCH)["id"]
    return id


def conforms(case: Case, callers: Callers) -> None:
    """As it was generated, and again with names of things that are there."""
    url = str(callers.server.client.base_url)
    for session in callers.sessions:
        case.call_and_validate(url, session=session, checks=[*CONFORMING, *REFUSING])
    if not case.path_parameters:
        return
    name = "iris" if case.operation.path.endswith(ASKING) else SCRATCH
    there = {
        "name": name,
        "entity": "iris-1",
        "endpoint": "iris",
        "served_entity": "iris-1",
        "id": scratch_id(callers.server),
        "model": "system.ai.smollm2-135m-instruct",
        "version": "1",
    }
    for session in callers.sessions:
        if case.method in {"DELETE", "PUT"}:
            make_scratch(callers.server)
            there["id"] = scratch_id(callers.server)
        case.path_parameters.update({key: there[key] for key in case.path_parameters})
        case.call_and_validate(url, session=session, checks=CONFORMING)
    if case.method == "DELETE":
        make_scratch(callers.server)


schema = schemathesis.openapi.from_dict(
    build_document(control_plane().routes), config=schemathesis.Config.from_dict(CONFIG)
)


@pytest.mark.timeout(300)
@schema.parametrize()
@QUICK
def test_answers_are_as_the_document_says(case: Case, callers: Callers) -> None:
    conforms(case, callers)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@schema.parametrize()
@settings(QUICK, max_examples=200)
def test_many_answers_are_as_the_document_says(case: Case, callers: Callers) -> None:
    conforms(case, callers)


def test_the_document_is_valid_and_the_one_that_is_tested(server: ServerProcess) -> None:
    from openapi_spec_validator import validate

    document = server.client.get("/openapi.json").json()

    validate(document)
    assert document == schema.raw_schema
