"""The client where endpoints come, fail, stop and change hands, against a real Lakeport."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from lakeport import AsyncClient, Client, Conflict, Endpoint, NotReady, PermissionDenied
from lakeport.cli.main import lakeport
from lakeport.client import calls_signature
from tests.integration.conftest import Stock
from tests.integration.server import ServerProcess


@pytest.fixture(scope="module")
def client(shared: ServerProcess) -> Iterator[Client]:
    with Client(str(shared.client.base_url), shared.token) as client:
        yield client


def create(client: Client, name: str, *entities: dict[str, object]) -> None:
    """Without a wait."""
    routes = [
        {"served_entity_name": each["name"], "traffic_percentage": 0 if n else 100}
        for n, each in enumerate(entities)
    ]
    config = {"served_entities": entities, "traffic_config": {"routes": routes}}
    client.request("POST", "/api/2.0/serving-endpoints", {"name": name, "config": config})


def test_an_endpoint_from_its_creation_to_its_end(client: Client, stock: Stock) -> None:
    create(client, "life", stock.entity("one", "params"), stock.entity("two", "frame"))
    assert client.get("life").config_update == "IN_PROGRESS"

    endpoint = client.wait_until_ready("life", timeout=60)

    assert endpoint.ready
    assert endpoint.traffic == {"one": 100, "two": 0}
    assert endpoint.versions == {
        name: stock.versions[model] for name, model in (("one", "params"), ("two", "frame"))
    }
    assert client.query("life", records=[{"x": 1.0}], entity="two").served_entity == "two"
    assert client.signature("life", entity="one").params
    with pytest.raises(Conflict):
        create(client, "life", stock.entity("one", "params"))
    client.request("POST", "/api/2.0/serving-endpoints/life/config:stop")
    with pytest.raises(NotReady, match="stopped"):
        client.wait_until_ready("life")
    with pytest.raises(NotReady) as caught:
        client.query("life", records=[{"x": 1.0}])
    assert caught.value.status == 400
    with pytest.raises(NotReady) as caught:
        client.query("life", records=[{"x": 1.0}], check_state=True)
    assert caught.value.status is None
    client.request("DELETE", "/api/2.0/serving-endpoints/life")


def test_a_config_that_fails_tells_why(client: Client, stock: Stock) -> None:
    create(client, "broken", stock.entity("e", "load_raises"))

    async def wait() -> Endpoint:
        async with client.asynchronous() as other:
            return await other.wait_until_ready("broken", timeout=60)

    with pytest.raises(NotReady, match=r"its update failed \(e: ") as caught:
        asyncio.run(wait())

    assert caught.value.endpoint == "broken"
    client.request("DELETE", "/api/2.0/serving-endpoints/broken")


def test_a_signature_of_the_registry(client: Client, stock: Stock) -> None:
    """As for an endpoint that has no page: here it is not ready."""
    create(client, "unready", stock.entity("e", "load_hangs"), stock.entity("f", "iris"))

    signature = client._run(calls_signature._from_registry(client._context, "unready", "f", None))

    assert signature is not None
    assert len(signature.names) == 4
    assert signature.entity == "f"
    client.request("DELETE", "/api/2.0/serving-endpoints/unready")


def test_who_may_only_query(
    shared: ServerProcess, client: Client, stock: Stock, tmp_path: Path
) -> None:
    create(client, "granted", stock.entity("e", "params"))
    endpoint = client.wait_until_ready("granted", timeout=60)
    made = CliRunner().invoke(
        lakeport, ["token", "--home", str(shared.home), "--caller", "ann"], catch_exceptions=False
    )
    ann = client.with_token(made.output.strip())
    with pytest.raises(PermissionDenied):
        ann.query("granted", records=[{"x": 1.0}])

    client.request(
        "PATCH",
        f"/api/2.0/permissions/serving-endpoints/{endpoint.id}",
        {"access_control_list": [{"user_name": "ann", "permission_level": "CAN_QUERY"}]},
    )

    assert len(ann.predict("granted", records=[{"x": 1.0}])) == 1
    client.request("DELETE", "/api/2.0/serving-endpoints/granted")
    assert isinstance(client.asynchronous(), AsyncClient)
