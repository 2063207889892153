"""Answers a chat with what the user said last."""

from typing import Any

from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Chat(PythonModel):
    def predict(self, context: Any, model_input: Any, params: Any = None) -> dict[str, Any]:
        said = model_input["messages"][-1]["content"]
        message = {"role": "assistant", "content": f"You said: {said}"}
        return {
            "object": "chat.completion",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "asked": sorted(model_input),
        }


set_model(Chat())
