"""Never finishes loading."""

import threading
from typing import Any

import mlflow


class LoadHangs(mlflow.pyfunc.PythonModel):
    def load_context(self, context: Any) -> None:
        threading.Event().wait()

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        return model_input


mlflow.models.set_model(LoadHangs())
