"""A ChatAgent that asks a tool of its own before it answers; "ask me" makes it ask its caller's."""

# MLflow's own subclasses override so.
# mypy: disable-error-code="override"

from collections.abc import Iterator
from typing import Any

from mlflow.models import set_model
from mlflow.pyfunc import ChatAgent
from mlflow.types.agent import (
    ChatAgentChunk,
    ChatAgentMessage,
    ChatAgentResponse,
    ChatContext,
)
from mlflow.types.chat import ChatUsage

CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "height", "arguments": '{"of": "tower"}'},
}
USAGE = ChatUsage(prompt_tokens=11, completion_tokens=4, total_tokens=15)


class Agent(ChatAgent):
    def predict(
        self,
        messages: list[ChatAgentMessage],
        context: ChatContext | None = None,
        custom_inputs: dict[str, Any] | None = None,
    ) -> ChatAgentResponse:
        about = {"custom_inputs": custom_inputs, "user": context.user_id if context else None}
        asks, answers, says = _steps(messages)
        if messages[-1].content == "ask me":
            return ChatAgentResponse(messages=[asks], custom_outputs=about)
        return ChatAgentResponse(
            messages=[asks, answers, says], finish_reason="stop", custom_outputs=about, usage=USAGE
        )

    def predict_stream(
        self,
        messages: list[ChatAgentMessage],
        context: ChatContext | None = None,
        custom_inputs: dict[str, Any] | None = None,
    ) -> Iterator[ChatAgentChunk]:
        asks, answers, says = _steps(messages)
        yield ChatAgentChunk(delta=asks)
        if messages[-1].content == "ask me":
            return
        yield ChatAgentChunk(delta=answers)
        for word in ("It is", " 330 m", " high."):
            yield ChatAgentChunk(delta=says.model_copy(update={"content": word}))
        if messages[-1].content == "fail":
            raise ValueError("told to fail")


def _steps(messages: list[ChatAgentMessage]) -> tuple[ChatAgentMessage, ...]:
    return (
        ChatAgentMessage(role="assistant", content="", id="m1", tool_calls=[CALL]),
        ChatAgentMessage(role="tool", content="330", name="height", tool_call_id="call_1", id="m2"),
        ChatAgentMessage(role="assistant", content="It is 330 m high.", id="m3"),
    )


set_model(Agent())
