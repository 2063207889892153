"""Cannot be loaded."""

from typing import Any

from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class LoadRaises(PythonModel):
    def load_context(self, context: Any) -> None:
        raise RuntimeError("the weights are not what they were")

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        return model_input


set_model(LoadRaises())
