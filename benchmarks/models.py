"""The models that are measured, made with fixed seeds and saved by MLflow, and what to ask them."""

import json
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

SEED = 7


@dataclass(frozen=True, slots=True)
class SavedModel:
    """A model's folder, and rows of its training data to ask it about."""

    name: str
    folder: Path
    rows: "pd.DataFrame"

    def body(self, rows: int) -> bytes:
        """A request about `rows` rows, in MLflow's `dataframe_split` form."""
        asked = self.rows.iloc[[row * 37 % len(self.rows) for row in range(rows)]]
        split = {"columns": list(asked.columns), "data": asked.to_numpy(object).tolist()}
        return json.dumps({"dataframe_split": split}).encode()


def iris(folder: Path) -> "pd.DataFrame":
    """Logistic regression on four columns of numbers."""
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    flowers = load_iris(as_frame=True)
    data: pd.DataFrame = flowers.data
    model = LogisticRegression(max_iter=500, random_state=SEED)
    _save_sklearn(model, data, flowers.target, folder)
    return data


def mixed(folder: Path) -> "pd.DataFrame":
    """A pipeline on numbers, a string and a boolean, with a ColumnTransformer."""
    import numpy as np
    import pandas as pd
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    draw = np.random.default_rng(SEED)
    data = pd.DataFrame(
        {
            "age": draw.uniform(1, 90, 500).round(1),
            "fare": draw.exponential(30, 500).round(2),
            "port": draw.choice(["S", "C", "Q"], 500),
            "alone": draw.random(500) < 0.5,
        }
    )
    columns = ColumnTransformer(
        [
            ("numbers", StandardScaler(), ["age", "fare"]),
            ("words", OneHotEncoder(handle_unknown="ignore"), ["port"]),
        ],
        remainder="passthrough",
    )
    model = Pipeline([("columns", columns), ("model", LogisticRegression(max_iter=500))])
    _save_sklearn(model, data, data["fare"] > 20, folder)
    return data


def forest(folder: Path) -> "pd.DataFrame":
    """A random forest of 100 trees on 20 columns."""
    from sklearn.ensemble import RandomForestClassifier

    data, target = _classes(20)
    model = RandomForestClassifier(n_estimators=100, random_state=SEED, n_jobs=1)
    _save_sklearn(model, data, target, folder)
    return data


def xgboost(folder: Path) -> "pd.DataFrame":
    """XGBoost, 200 trees on 30 columns."""
    import mlflow.xgboost
    from mlflow.models import infer_signature
    from xgboost import XGBClassifier

    data, target = _classes(30)
    model = XGBClassifier(n_estimators=200, max_depth=6, random_state=SEED, n_jobs=1)
    model.fit(data, target)
    mlflow.xgboost.save_model(
        model,
        folder,
        signature=infer_signature(data, model.predict(data)),
        pip_requirements=["mlflow", "xgboost"],
    )
    return data


def python(folder: Path) -> "pd.DataFrame":
    """A PythonModel, whose requests nobody may merge: it adds up four columns."""
    import mlflow.pyfunc
    from mlflow.models import infer_signature
    from mlflow.pyfunc.model import PythonModel
    from sklearn.datasets import load_iris

    class Sum(PythonModel):
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return model_input.sum(axis=1).tolist()

    data: pd.DataFrame = load_iris(as_frame=True).data
    mlflow.pyfunc.save_model(
        folder,
        python_model=Sum(),
        signature=infer_signature(data, data.sum(axis=1).tolist()),
        pip_requirements=["mlflow"],
    )
    return data


MODELS: dict[str, Callable[[Path], "pd.DataFrame"]] = {
    "iris": iris,
    "mixed": mixed,
    "forest": forest,
    "xgboost": xgboost,
    "python": python,
}


def save(name: str, root: Path) -> SavedModel:
    """Train the model `name` and save it in a folder of its own under `root`."""
    import mlflow  # noqa: F401  before the next line: it sets the level itself

    logging.getLogger("mlflow").setLevel(logging.ERROR)  # it warns of pickles: these are our own
    folder = root / name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return SavedModel(name, folder, MODELS[name](folder))


def _save_sklearn(model: Any, data: "pd.DataFrame", target: Any, folder: Path) -> None:
    import mlflow.sklearn
    from mlflow.models import infer_signature

    model.fit(data, target)
    mlflow.sklearn.save_model(
        model,
        folder,
        # MLflow's newer default, skops, takes a list of trusted types for trees.
        serialization_format="cloudpickle",
        signature=infer_signature(data, model.predict(data)),
        pip_requirements=["mlflow", "scikit-learn", "cloudpickle"],
    )


def _classes(columns: int) -> tuple["pd.DataFrame", Any]:
    import pandas as pd
    from sklearn.datasets import make_classification

    values, target = make_classification(
        5000, columns, n_informative=columns // 2, random_state=SEED
    )
    return pd.DataFrame(values.round(4), columns=[f"f{i}" for i in range(columns)]), target
