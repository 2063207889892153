"""Answers a chat with what the user said last."""

from typing import Any

import mlflow


class Chat(mlflow.pyfunc.PythonModel):
    def predict(self, context: Any, model_input: Any, params: Any = None) -> dict[str, Any]:
        said = model_input["messages"][-1]["content"]
        message = {"role": "assistant", "content": f"You said: {said}"}
        return {
            "object": "chat.completion",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "asked": sorted(model_input),
        }


mlflow.models.set_model(Chat())
