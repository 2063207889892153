"""Sleeps for each row's `seconds`, and answers with them."""

import time
from typing import Any

import mlflow
import pandas as pd


class Slow(mlflow.pyfunc.PythonModel):
    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> list[float]:
        seconds = [float(value) for value in model_input["seconds"]]
        time.sleep(sum(seconds))
        return seconds


mlflow.models.set_model(Slow())
