"""Sleeps for each row's `seconds`, and answers with them."""

import time
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Slow(PythonModel):
    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> list[float]:
        seconds = [float(value) for value in model_input["seconds"]]
        time.sleep(sum(seconds))
        return seconds


set_model(Slow())
