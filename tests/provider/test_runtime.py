"""External models as deployments: prepared, started, reached by their address alone."""

import json
from dataclasses import replace
from typing import Any

import pytest

from lakeport.providers.runtime import ExternalConnector, ExternalRuntime
from lakeport.runtimes.base import DeploymentSpec, Kind, ReplicaLost, StartFailed
from tests.provider.client import KEY, REFERENCE, FakeVault, answer_of, call, external, outside
from tests.provider.provider import running


def spec(model: dict[str, Any] | None) -> DeploymentSpec:
    return DeploymentSpec(
        id="d1",
        endpoint="chat",
        entity="m-7",
        model_name="m-7",
        model_version="",
        model_key="",
        path=None,
        workload_type="",
        concurrency=4,
        kind=Kind.EXTERNAL,
        external=model,
    )


@pytest.mark.parametrize("sealed", [True, False])
async def test_from_start_to_stop(sealed: bool) -> None:
    vault = FakeVault()
    async with running() as provider:
        model = external(provider.url)
        if sealed:
            auth = {"token_plaintext": vault.seal("key-in-clear-1")}
            model["custom_provider_config"]["bearer_token_auth"] = auth
        runtime = ExternalRuntime(vault, outside("127.0.0.1"))
        await runtime.open()
        await runtime.prepare(spec(model))
        replica = await runtime.start(spec(model), "r1")
        assert provider.connections == 0, "starting asks the server nothing"
        assert "is allowed" in runtime.build_logs("d1")
        assert (replica.id, replica.usage(), runtime.logs("d1")) == ("r1", None, "")
        assert runtime.signature(spec(model)) is None
        assert KEY not in replica.address
        assert "key-in-clear-1" not in replica.address

        link = await ExternalConnector(vault, outside("127.0.0.1"), idle_timeout=5).connect(
            replica.address
        )
        assert link.credit >= 1024
        assert (await answer_of(link, call())).status == 200  # type: ignore[arg-type]
        sent = provider.asked[0].headers["authorization"]
        assert sent == f"Bearer {'key-in-clear-1' if sealed else KEY}"
        link.close()

        assert not replica.exited.done()
        await replica.stop(grace=1)
        await replica.stop(grace=1)
        assert replica.exited.done()
        runtime.forget("d1")
        runtime.forget("d1")
        assert runtime.build_logs("d1") == ""
        await runtime.close()
        await provider.until_open(0)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (external("https://127.0.0.1/v1"), "its URL is not allowed: it is at a private"),
        (external("http://example.com/v1"), "its URL is not allowed: it is not https"),
        (external("https://2130706433/v1"), "its URL is not allowed: its host is a number"),
        (None, "its record is not one of an external model"),
        ({"provider": "x", "name": "x", "task": "x"}, "provider 'x' is not one"),
    ],
)
async def test_what_cannot_be_started(model: dict[str, Any] | None, said: str) -> None:
    runtime = ExternalRuntime(FakeVault(), outside())
    for begin in (runtime.prepare(spec(model)), runtime.start(spec(model), "r1")):
        with pytest.raises(StartFailed, match="external model m-7 cannot be asked: ") as caught:
            await begin
        assert said in str(caught.value)
    assert said in runtime.build_logs("d1")


async def test_a_key_that_is_not_there_and_comes() -> None:
    vault = FakeVault({})
    runtime = ExternalRuntime(vault, outside())
    model = external("https://llm.example.com/v1")
    with pytest.raises(StartFailed, match="its key cannot be had: there is no secret"):
        await runtime.start(spec(model), "r1")
    vault.secrets[REFERENCE] = KEY
    await runtime.start(spec(model), "r2")


async def test_a_deployment_without_a_models_name_is_told_by_its_servers() -> None:
    nameless = replace(spec(external("https://127.0.0.1/v1")), model_name="")

    with pytest.raises(StartFailed, match="external model m-7 cannot be asked: "):
        await ExternalRuntime(FakeVault(), outside()).prepare(nameless)


async def test_an_operators_own_server_passes_the_guard() -> None:
    runtime = ExternalRuntime(FakeVault(), outside())
    await runtime.start(spec(external("http://localhost:11434/v1", operator=True)), "r1")


@pytest.mark.parametrize("address", ["engine:/a#b", "external", ""])
async def test_what_is_no_address(address: str) -> None:
    with pytest.raises(ValueError, match="external:JSON"):
        await ExternalConnector(FakeVault(), outside(), idle_timeout=5).connect(address)


async def test_an_address_that_means_nothing() -> None:
    with pytest.raises(ReplicaLost, match="cannot be asked"):
        await ExternalConnector(FakeVault(), outside(), idle_timeout=5).connect(
            f"external:{json.dumps({'provider': 'x'})}"
        )
