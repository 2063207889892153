"""A PythonModel that takes messages and streams what OpenAI's clients want, and no more.

It notes what was said in a context variable, and tells what it found there. Told to be stubborn, it
raises when its stream is ended.
"""

from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

NOTED: ContextVar[str | None] = ContextVar("NOTED", default=None)


class Chat(PythonModel):
    def predict(self, context: Any, model_input: Any, params: Any = None) -> dict[str, Any]:
        noted = NOTED.get()
        NOTED.set(_said(model_input))
        message = {"role": "assistant", "content": _said(model_input)}
        return {
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "asked": sorted(model_input),
            "noted": noted,
        }

    def predict_stream(
        self, context: Any, model_input: Any, params: Any = None
    ) -> Iterator[dict[str, Any]]:
        said = _said(model_input)
        try:
            for word in said.split() * (10**6 if said.endswith("stubborn") else 1):
                yield {"choices": [{"index": 0, "delta": {"content": word}}]}
        except GeneratorExit:
            raise ValueError("does not like to be interrupted") from None


def _said(model_input: Any) -> str:
    return f"You said: {model_input['messages'][-1]['content']}"


set_model(Chat())
