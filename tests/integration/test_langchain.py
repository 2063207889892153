"""LangChain's own standard tests, on a server's endpoints.

What is skipped, and why (`pytest -rs` lists it):

- images, audio and PDF, in messages and in answers of tools: no endpoint here takes them, and the
  standard tests fetch them from the internet;
- Anthropic's forms of content: they are another wire;
- tool calls, and JSON of a form that is asked for, by the small model: it has no template for
  tools, and it fills JSON without an end. The scripted endpoint is asked instead;
- `test_stream_time`: it measures against a recorded server.

Expected to fail: `test_serdes`, which compares LangChain's own form with a file of LangChain's.
"""

from typing import Any, ClassVar

import openai
import pytest
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langchain_tests.integration_tests import ChatModelIntegrationTests, EmbeddingsIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests, EmbeddingsUnitTests

from tests.integration.language import EMBEDDINGS, SCRIPTED, TINY
from tests.integration.server import ServerProcess

# LangChain keeps one asynchronous HTTP client for all, and so the loop of its first use.
pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore:The test .* is marked with '@pytest.mark.asyncio'"),
    # LangChain's and the openai SDK's own.
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings"),
    pytest.mark.filterwarnings("ignore:Received a Pydantic BaseModel V1 schema"),
]


def parameters(url: str, token: str, model: str) -> dict[str, Any]:
    return {
        "base_url": f"{url}/serving-endpoints",
        "api_key": token,
        "model": model,
        "max_retries": 0,
    }


def of(server: ServerProcess, model: str) -> dict[str, Any]:
    return parameters(str(server.client.base_url).rstrip("/"), server.token, model)


NOWHERE = parameters("http://localhost:1", "a-token", TINY)


class TestChatModelAlone(ChatModelUnitTests):
    """What needs no server."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return NOWHERE

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        url = "http://localhost:1/serving-endpoints"
        return (
            {"OPENAI_API_KEY": "a-token", "OPENAI_API_BASE": url},
            {"model": TINY},
            {"openai_api_key": "a-token", "openai_api_base": url},
        )

    @pytest.mark.xfail(reason="compares LangChain's own form with a file of LangChain's")
    def test_serdes(self, model: BaseChatModel, snapshot: Any) -> None:
        super().test_serdes(model, snapshot)


class OnServer(ChatModelIntegrationTests):
    """The standard tests on an endpoint of the server."""

    endpoint: ClassVar[str]
    #: Where `model` is given with the call.
    other: ClassVar[str]
    more: ClassVar[dict[str, Any]]
    __test__ = False
    _server: ServerProcess

    @pytest.fixture(autouse=True)
    def _on_server(self, chats: ServerProcess) -> None:
        self._server = chats

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return of(self._server, self.endpoint) | self.more

    @property
    def model_override_value(self) -> str:
        return self.other

    @property
    def supports_image_inputs(self) -> bool:
        return False


class TestSmallModel(OnServer):
    """A real model; answers are kept short, since any will do."""

    __test__ = True
    endpoint = TINY
    other = SCRIPTED
    # LangChain asks no server but OpenAI's own for usage, unless told to.
    more: ClassVar = {"max_tokens": 16, "temperature": 0, "stream_usage": True}

    @property
    def has_tool_calling(self) -> bool:
        return False

    @property
    def has_structured_output(self) -> bool:
        return False


class TestScripted(OnServer):
    """What the small model cannot do: tools, and JSON in a form that is asked for."""

    __test__ = True
    endpoint = SCRIPTED
    other = TINY
    more: ClassVar = {"stream_usage": True}

    @property
    def supports_json_mode(self) -> bool:
        return True


class TestEmbeddingsAlone(EmbeddingsUnitTests):
    """What needs no server."""

    @property
    def embeddings_class(self) -> type[Embeddings]:
        return OpenAIEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return NOWHERE


class TestEmbeddings(EmbeddingsIntegrationTests):
    _server: ServerProcess

    @pytest.fixture(autouse=True)
    def _on_server(self, chats: ServerProcess) -> None:
        self._server = chats

    @property
    def embeddings_class(self) -> type[Embeddings]:
        return OpenAIEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        # Without this it sends the token ids of OpenAI's own tokenizer.
        return of(self._server, EMBEDDINGS) | {"check_embedding_ctx_length": False}


def test_token_ids_are_refused_with_the_option_that_sends_texts(chats: ServerProcess) -> None:
    body = {"model": EMBEDDINGS, "input": [[9906, 1917]], "encoding_format": "base64"}

    refused = chats.client.post("/serving-endpoints/embeddings", json=body)

    assert refused.status_code == 400
    assert refused.json()["error_code"] == "BAD_REQUEST"
    assert "check_embedding_ctx_length=False" in refused.json()["message"]


def test_langchain_shows_that_option_to_its_user(
    chats: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    embeddings = OpenAIEmbeddings(**of(chats, EMBEDDINGS))
    # Its tokenizer would be fetched from the internet.
    monkeypatch.setattr(
        embeddings, "_tokenize", lambda texts, size: ([0], [[9906, 1917]], [0], [2])
    )

    with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False"):
        embeddings.embed_query("hello world")
