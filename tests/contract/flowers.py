"""The workspace's `iris`, as code: by two petal measures it tells the three kinds of Iris apart.

A model that needs no scikit-learn starts in half the time, and the contract tests start many.
"""

from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext


class Flowers(PythonModel):
    """0, 1 or 2 for each flower; the classes turned round where `turned` is configured."""

    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> np.ndarray:
        small = model_input["petal length (cm)"] < 2.5
        narrow = model_input["petal width (cm)"] < 1.7
        kinds = np.where(small, 0, np.where(narrow, 1, 2))
        return 2 - kinds if context.model_config["turned"] else kinds


set_model(Flowers())
