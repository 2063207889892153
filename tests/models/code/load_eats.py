"""Takes more memory to load than it gets."""

from typing import Any

from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class LoadEats(PythonModel):
    def load_context(self, context: Any) -> None:
        self.eaten = bytearray(64 * 2**40)

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        return model_input


set_model(LoadEats())
