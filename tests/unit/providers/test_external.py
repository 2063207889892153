"""From an external model's record to URLs and headers."""

from typing import Any

import pytest

from lakeport.providers.external import BadExternalModel, Key, target_of
from lakeport.wire.chat import Operation

REF = "{{secrets/llm/key}}"
MODEL = {"name": "m", "task": "llm/v1/chat"}


def custom(url: str, **config: Any) -> dict[str, Any]:
    given = {"custom_provider_url": url} | config
    return MODEL | {"provider": "custom", "custom_provider_config": given}


def openai(**config: Any) -> dict[str, Any]:
    given = {"openai_api_key": REF} | config
    return MODEL | {"provider": "openai", "openai_config": given}


@pytest.mark.parametrize(
    ("url", "chat", "embeddings"),
    [
        ("https://h/v1", "https://h/v1/chat/completions", "https://h/v1/embeddings"),
        ("https://h/v1/", "https://h/v1/chat/completions", "https://h/v1/embeddings"),
        ("https://h", "https://h/v1/chat/completions", "https://h/v1/embeddings"),
        ("https://h/", "https://h/v1/chat/completions", "https://h/v1/embeddings"),
        ("https://h:8/a/b", "https://h:8/a/b/chat/completions", "https://h:8/a/b/embeddings"),
        (
            "https://h/v1/chat/completions",
            "https://h/v1/chat/completions",
            "https://h/v1/embeddings",
        ),
        ("https://h/embeddings/", "https://h/chat/completions", "https://h/embeddings"),
        ("https://h/v1?a=1", "https://h/v1/chat/completions?a=1", "https://h/v1/embeddings?a=1"),
    ],
)
def test_urls_below_a_base(url: str, chat: str, embeddings: str) -> None:
    target = target_of(custom(url))

    assert target.urls[Operation.CHAT] == chat
    assert target.urls[Operation.EMBEDDINGS] == embeddings
    assert target.key is None
    assert not target.own


def test_completions_are_not_chat_completions() -> None:
    target = target_of(custom("https://h/v1/completions"))

    assert target.urls[Operation.COMPLETIONS] == "https://h/v1/completions"
    assert target.urls[Operation.CHAT] == "https://h/v1/chat/completions"


@pytest.mark.parametrize(
    ("external", "key"),
    [
        (custom("https://h", bearer_token_auth={"token": REF}), Key(REF)),
        (custom("https://h", bearer_token_auth={"token_plaintext": "sealed:x"}), Key("sealed:x")),
        (
            custom("https://h", api_key_auth={"key": "x-api-key", "value": REF}),
            Key(REF, "x-api-key", ""),
        ),
        (openai(), Key(REF)),
        (openai(openai_api_key=None, openai_api_key_plaintext="sealed:y"), Key("sealed:y")),
    ],
)
def test_keys(external: dict[str, Any], key: Key) -> None:
    assert target_of(external).key == key


def test_openai() -> None:
    target = target_of(openai(openai_organization="org-1"))

    assert target.urls[Operation.CHAT] == "https://api.openai.com/v1/chat/completions"
    assert target.headers == {"OpenAI-Organization": "org-1"}


@pytest.mark.parametrize(
    "base", ["https://a.azure.com", "https://a.azure.com/", "https://a.azure.com/openai"]
)
def test_azure(base: str) -> None:
    target = target_of(
        openai(
            openai_api_type="azure",
            openai_api_base=base,
            openai_api_version="2024-10-21",
            openai_deployment_name="four/o",
        )
    )

    assert target.urls[Operation.EMBEDDINGS] == (
        "https://a.azure.com/openai/deployments/four%2Fo/embeddings?api-version=2024-10-21"
    )
    assert target.key == Key(REF, "api-key", "")


def test_another_workspace() -> None:
    config = {"databricks_workspace_url": "https://w.example/", "databricks_api_token": REF}
    external = {"provider": "databricks-model-serving", "name": "a/b", "task": "llm/v1/chat"}
    target = target_of(external | {"databricks_model_serving_config": config})

    assert set(target.urls.values()) == {"https://w.example/serving-endpoints/a%2Fb/invocations"}
    assert target.key == Key(REF)


def test_the_operators_own() -> None:
    assert target_of(custom("http://localhost:11434") | {"operator": True}).own


@pytest.mark.parametrize(
    "external", [{}, MODEL | {"provider": "anthropic"}, openai(openai_api_key=None)]
)
def test_what_is_no_external_model(external: dict[str, Any]) -> None:
    with pytest.raises(BadExternalModel):
        target_of(external)
