"""A ChatModel that counts its own tokens and has a name and an id; it calls a tool when offered."""

# MLflow's own subclasses override so.
# mypy: disable-error-code="override"

from collections.abc import Iterator
from typing import Any

from mlflow.models import set_model
from mlflow.pyfunc import ChatModel
from mlflow.types.llm import (
    ChatChoice,
    ChatChoiceDelta,
    ChatChunkChoice,
    ChatCompletionChunk,
    ChatCompletionResponse,
    ChatMessage,
    ChatParams,
    FunctionToolCallArguments,
    TokenUsageStats,
    ToolCall,
)

USAGE = TokenUsageStats(prompt_tokens=5, completion_tokens=2, total_tokens=7)
ABOUT = {"id": "chat-1", "model": "counter", "created": 1}


class Counts(ChatModel):
    def predict(
        self, context: Any, messages: list[ChatMessage], params: ChatParams
    ) -> ChatCompletionResponse:
        if params.tools and messages[-1].role != "tool":
            function = FunctionToolCallArguments(name="height", arguments='{"of": "tower"}')
            message = ChatMessage(
                role="assistant", tool_calls=[ToolCall(function=function, id="call_1")]
            )
            choice = ChatChoice(message=message, finish_reason="tool_calls")
        else:
            choice = ChatChoice(message=ChatMessage(role="assistant", content="Well counted"))
        return ChatCompletionResponse(choices=[choice], usage=USAGE, **ABOUT)  # type: ignore[arg-type]

    def predict_stream(
        self, context: Any, messages: list[ChatMessage], params: ChatParams
    ) -> Iterator[ChatCompletionChunk]:
        for content, more in (("Well", {}), (" counted", {"finish_reason": "stop"})):
            choice = ChatChunkChoice(ChatChoiceDelta(role="assistant", content=content), **more)  # type: ignore[arg-type]
            yield ChatCompletionChunk(choices=[choice], **ABOUT)  # type: ignore[arg-type]
        yield ChatCompletionChunk(choices=[], usage=USAGE, **ABOUT)  # type: ignore[arg-type]


set_model(Counts())
