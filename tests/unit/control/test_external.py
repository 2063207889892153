"""What is asked of an external model, and what is kept of it."""

from typing import Any

import pytest

from lakeport.control.external import check, operators_server
from lakeport.errors import InvalidParameter, NotImplementedYet
from lakeport.wire.chat import Operation, Task

REF = "{{secrets/llm/key}}"
AT = "served_entities[0].external_model"


def openai(**config: Any) -> dict[str, Any]:
    return {
        "provider": "openai",
        "name": "gpt-4o",
        "task": "llm/v1/chat",
        "openai_config": {"openai_api_key": REF} | config,
    }


def azure(**config: Any) -> dict[str, Any]:
    given = {
        "openai_api_type": "azure",
        "openai_api_base": "https://mine.openai.azure.com",
        "openai_api_version": "2024-10-21",
        "openai_deployment_name": "four-o",
    }
    return openai(**given | config)


def custom(url: str = "https://llm.example.com/v1", **config: Any) -> dict[str, Any]:
    return {
        "provider": "custom",
        "name": "llama3.2",
        "task": "llm/v1/chat",
        "custom_provider_config": {"custom_provider_url": url} | config,
    }


def databricks(**config: Any) -> dict[str, Any]:
    given = {"databricks_workspace_url": "https://adb-1.azuredatabricks.net"}
    return {
        "provider": "databricks-model-serving",
        "name": "other-endpoint",
        "task": "llm/v1/embeddings",
        "databricks_model_serving_config": given | {"databricks_api_token": REF} | config,
    }


@pytest.mark.parametrize(
    "given",
    [
        openai(),
        openai(openai_organization="org-1", openai_api_base="https://eu.api.openai.com/v1"),
        openai(openai_api_type="openai"),
        azure(),
        custom(),
        custom(bearer_token_auth={"token": REF}),
        custom(bearer_token_auth={"token_plaintext": "k-123"}),
        custom(api_key_auth={"key": "x-api-key", "value": REF}),
        custom("https://llm.example.com/v1/chat/completions?tenant=7"),
        databricks(),
    ],
)
def test_what_is_kept_is_what_was_given(given: dict[str, Any]) -> None:
    kept, target = check(given, AT)

    assert kept == given
    task = Task(given["task"])
    assert (target.task, target.operations) == (task, frozenset({task.operation}))
    assert (target.model, target.can, target.answers_as) == (given["name"], None, None)
    assert target.default_max_tokens is None
    assert target.asks_usage


def test_keys_in_clear_are_kept_for_the_vault_to_seal() -> None:
    given = openai(openai_api_key_plaintext="sk-1")
    del given["openai_config"]["openai_api_key"]

    kept, _ = check(given, AT)

    assert kept["openai_config"] == {"openai_api_key_plaintext": "sk-1"}


@pytest.mark.parametrize(
    ("given", "asks"),
    [
        (custom(), True),
        (custom() | {"stream_usage": False}, False),
        (azure(openai_api_version="2023-05-15"), False),
        (azure(openai_api_version="2023-05-15") | {"stream_usage": True}, True),
    ],
)
def test_whether_usage_is_asked_for(given: dict[str, Any], asks: bool) -> None:
    assert check(given, AT)[1].asks_usage is asks


def test_each_task_has_its_operation() -> None:
    for task, operation in zip(Task, Operation, strict=True):
        assert check(custom() | {"task": task.value}, AT)[1].operations == {operation}


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, "provider: expected, and missing"),
    (custom() | {"provider": "mistral"}, "provider: 'mistral' is unknown; expected one of openai"),
    (custom() | {"provider": 7}, "provider: expected a valid string"),
    (custom() | {"task": "chat"}, "task: 'chat' is unknown; expected one of llm/v1/chat"),
    (custom() | {"name": ""}, "name: expected the model's name"),
    (custom() | {"name": "a\nb"}, "name: expected the model's name"),
    (custom() | {"operator": True}, "operator: there is no such field"),
    (custom() | {"extra": 1}, "extra: there is no such field"),
    (custom(extra=1), "custom_provider_config.extra: there is no such field"),
    (custom() | {"provider": "openai"}, "openai_config: expected with provider 'openai'"),
    (
        custom() | {"openai_config": {"openai_api_key": REF}},
        "openai_config: expected only custom_provider_config",
    ),
    (custom() | {"cohere_config": {}}, "cohere_config: expected only custom_provider_config"),
    (openai(openai_api_key=None), "openai_api_key: expected either openai_api_key or"),
    (openai(openai_api_key_plaintext="k"), "openai_api_key: expected either openai_api_key or"),
    (openai(openai_api_key="sk-in-clear"), "openai_api_key: expected a reference of the form"),
    (openai(openai_api_key="{{secrets/a}}"), "openai_api_key: expected a reference of the form"),
    (
        openai(openai_api_key=None, openai_api_key_plaintext=REF),
        "openai_api_key_plaintext: holds a reference to a secret",
    ),
    (
        openai(openai_api_key=None, openai_api_key_plaintext="a\nb"),
        "openai_api_key_plaintext: expected a key of printable ASCII",
    ),
    (
        openai(openai_api_key=None, openai_api_key_plaintext=" "),
        "openai_api_key_plaintext: expected a key of printable ASCII",
    ),
    (openai(openai_api_type="vertex"), "openai_api_type: 'vertex' is unknown"),
    (openai(openai_deployment_name="d"), "openai_deployment_name: goes with openai_api_type"),
    (openai(openai_organization="a\r\nX: 1"), "openai_organization: expected printable ASCII"),
    (azure(openai_api_base=None), "openai_api_base: expected with openai_api_type 'azure'"),
    (azure(openai_api_version=None), "openai_api_version: expected with openai_api_type"),
    (azure(openai_deployment_name=""), "openai_deployment_name: expected with openai_api_type"),
    (openai(openai_api_base="https://h/v1?x=1"), "openai_api_base: expected a URL such as"),
    (custom("llm.example.com"), "custom_provider_url: expected a URL such as"),
    (custom("ftp://llm.example.com"), "custom_provider_url: expected a URL such as"),
    (custom("https://"), "custom_provider_url: expected a URL such as"),
    (custom("https://h:port/"), "custom_provider_url: expected a URL such as"),
    (custom("https://a:b@h/"), "without a user or a password"),
    (custom("https://h/#m"), "without a query or a fragment"),
    (custom("https://h/a b"), "custom_provider_url: expected a URL such as"),
    (custom("https://h/" + "a" * 2048), "custom_provider_url: expected a URL such as"),
    (custom(bearer_token_auth={}), "bearer_token_auth.token: expected either token or"),
    (
        custom(bearer_token_auth={"token": REF}, api_key_auth={"key": "k", "value": REF}),
        "api_key_auth: give either bearer_token_auth or api_key_auth, not both",
    ),
    (custom(api_key_auth={"value": REF}), "api_key_auth.key: expected, and missing"),
    (custom(api_key_auth={"key": "a: b", "value": REF}), "api_key_auth.key: expected the name of"),
    (custom(api_key_auth={"key": "Host", "value": REF}), "api_key_auth.key: expected the name of"),
    (custom(api_key_auth={"key": "x"}), "api_key_auth.value: expected either value or"),
    (databricks(databricks_api_token=None), "databricks_api_token: expected either"),
    (databricks(databricks_workspace_url="adb-1"), "databricks_workspace_url: expected a URL"),
]


@pytest.mark.parametrize(("given", "message"), REFUSED)
def test_refused_by_field(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        check(given, AT)
    assert caught.value.message.startswith(f"{AT}.")
    assert message in caught.value.message
    assert "sk-in-clear" not in caught.value.message


@pytest.mark.parametrize(
    ("given", "field"),
    [
        *(
            ({"provider": provider, "name": "m", "task": "llm/v1/chat"}, "provider")
            for provider in (
                "anthropic", "amazon-bedrock", "cohere", "ai21labs", "google-cloud-vertex-ai",
                "palm",
            )
        ),
        (openai(openai_api_type="azuread"), "openai_config.openai_api_type"),
        (openai(microsoft_entra_tenant_id="t"), "openai_config.microsoft_entra_tenant_id"),
    ],
)  # fmt: skip
def test_not_yet(given: dict[str, Any], field: str) -> None:
    with pytest.raises(NotImplementedYet) as caught:
        check(given, AT)
    assert caught.value.message.startswith(f"{AT}.{field}: ")


@pytest.mark.parametrize("given", [custom(), azure(), databricks()])
def test_a_url_that_the_guard_refuses(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter, match="the URL is not allowed: it is private"):
        check(given, AT, lambda url: "it is private")


def test_openais_own_url_is_not_asked_about() -> None:
    check(openai(), AT, lambda url: "never asked")


# --- the operator's own ---------------------------------------------------------------------------


def test_a_server_of_the_operator() -> None:
    kept, target = operators_server("http://localhost:11434/v1", "llama3.2", Task.CHAT)

    assert kept == custom("http://localhost:11434/v1") | {"operator": True}
    assert target.model == "llama3.2"


def test_a_server_of_the_operator_with_a_key() -> None:
    kept, _ = operators_server(f"https://{REF}@api.example.com/v1", "m", Task.EMBEDDINGS)

    assert kept["custom_provider_config"] == {
        "custom_provider_url": "https://api.example.com/v1",
        "bearer_token_auth": {"token": REF},
    }


@pytest.mark.parametrize("url", ["https://sk-1@h/v1", "https://{{secrets/x}}@h/v1", "https://", ""])
def test_a_server_that_is_none(url: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        operators_server(url, "m", Task.CHAT)
    assert "sk-1" not in caught.value.message
