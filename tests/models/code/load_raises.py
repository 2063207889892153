"""Cannot be loaded."""

from typing import Any

import mlflow


class LoadRaises(mlflow.pyfunc.PythonModel):
    def load_context(self, context: Any) -> None:
        raise RuntimeError("the weights are not what they were")

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        return model_input


mlflow.models.set_model(LoadRaises())
