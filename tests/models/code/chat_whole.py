"""A ChatModel without `predict_stream`."""

# MLflow's own subclasses override so.
# mypy: disable-error-code="override"

from typing import Any

from mlflow.models import set_model
from mlflow.pyfunc import ChatModel
from mlflow.types.llm import ChatChoice, ChatCompletionResponse, ChatMessage, ChatParams


class Whole(ChatModel):
    def predict(
        self, context: Any, messages: list[ChatMessage], params: ChatParams
    ) -> ChatCompletionResponse:
        message = ChatMessage(role="assistant", content="All at once")
        return ChatCompletionResponse(choices=[ChatChoice(message=message)])


set_model(Whole())
