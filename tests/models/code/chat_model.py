"""A ChatModel without usage: says word by word what the user said last, or does what that says."""

# MLflow's own subclasses override so.
# mypy: disable-error-code="override"

import time
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
)


class Echo(ChatModel):
    def predict(
        self, context: Any, messages: list[ChatMessage], params: ChatParams
    ) -> ChatCompletionResponse:
        said = f"You said: {messages[-1].content}"
        message = ChatMessage(role="assistant", content=said)
        return ChatCompletionResponse(
            choices=[ChatChoice(message=message)], custom_outputs=params.custom_inputs
        )

    def predict_stream(
        self, context: Any, messages: list[ChatMessage], params: ChatParams
    ) -> Iterator[ChatCompletionChunk]:
        said = str(messages[-1].content)
        if said == "fail first":
            raise ValueError("/secret/path: told to fail")
        if said == "nothing":
            return
        yield _chunk("You")
        if said == "fail":
            raise ValueError("/secret/path: told to fail")
        if said == "for ever":
            yield from _for_ever()
        for word in f" said: {said}".split(" ")[1:]:
            yield _chunk(f" {word}")
        yield _chunk(None, finish_reason="stop")


def _for_ever() -> Iterator[ChatCompletionChunk]:
    try:
        while True:
            time.sleep(0.02)
            yield _chunk(" and")
    except GeneratorExit:
        print("the caller has gone", flush=True)
        raise


def _chunk(content: str | None, finish_reason: str | None = None) -> ChatCompletionChunk:
    delta = ChatChoiceDelta(role="assistant", content=content)
    return ChatCompletionChunk(choices=[ChatChunkChoice(delta, finish_reason=finish_reason)])


set_model(Echo())
