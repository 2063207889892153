"""Never finishes loading."""

import threading
from typing import Any

from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class LoadHangs(PythonModel):
    def load_context(self, context: Any) -> None:
        threading.Event().wait()

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        return model_input


set_model(LoadHangs())
