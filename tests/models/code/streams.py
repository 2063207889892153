"""Streams `count` chunks; raises before the chunk `fail`, where it is given. `leave`: that chunk is
a GeneratorExit instead. `stubborn`: goes on when it is told to end.
"""

from collections.abc import Iterator
from typing import Any

from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Streams(PythonModel):
    def predict(self, context: Any, model_input: Any, params: Any = None) -> dict[str, Any]:
        return {"count": model_input["count"], "stream": model_input.get("stream")}

    def predict_stream(
        self, context: Any, model_input: Any, params: Any = None
    ) -> Iterator[dict[str, Any]]:
        for number in range(model_input["count"]):
            if number == model_input.get("fail"):
                raise GeneratorExit if model_input.get("leave") else ValueError("/secret/path: no")
            try:
                yield {"number": number, "text": "line\u2028end\u0085"}
            except GeneratorExit:
                if not model_input.get("stubborn"):
                    raise


set_model(Streams())
