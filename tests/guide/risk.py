"""A model of two named columns, for the page on features."""

from typing import Any

from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Risk(PythonModel):
    def predict(self, context: Any, model_input: Any, params: Any = None) -> list[float]:
        risks: list[float] = (model_input["balance"] / 100 + model_input["age"]).tolist()
        return risks


set_model(Risk())
