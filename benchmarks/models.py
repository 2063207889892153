"""The models that are measured, made with fixed seeds and saved by MLflow, and what to ask them."""

import json
import logging
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd

SEED = 7
#: How rows stand in a request: MLflow's form by columns, KServe's, and a bare one.
Form = Literal["dataframe_split", "instances", "input"]


@dataclass(frozen=True, slots=True)
class SavedModel:
    """A model's folder, and rows of its training data to ask it about."""

    name: str
    folder: Path
    rows: "pd.DataFrame"
    #: For servers that take no MLflow model: joblib's dump of what `apps/common.py` reads.
    estimator: Path
    #: Whether its input may be an array of numbers, without the names of columns.
    numbers: bool
    #: Whether a server may answer several requests by one predict.
    merged: bool = True
    #: Requests that it should work on at a time.
    concurrency: int = 4

    def asked(self, rows: int) -> "pd.DataFrame":
        """The rows of the request about `rows` rows: all different where there are as many."""
        return self.rows.iloc[[row * 37 % len(self.rows) for row in range(rows)]]

    def body(self, rows: int, form: Form = "dataframe_split") -> bytes:
        """That request."""
        asked = self.asked(rows)
        data = asked.to_numpy(object).tolist()
        if form == "dataframe_split":
            return json.dumps({form: {"columns": list(asked.columns), "data": data}}).encode()
        return json.dumps({form: data}).encode()

    def expected(self, rows: int) -> list[float]:
        """What the model itself says to it, without any server."""
        import joblib  # type: ignore[import-untyped]

        predict = _CODE.get(self.name) or joblib.load(self.estimator)["estimator"].predict
        return [float(value) for value in predict(self.asked(rows))]


def iris(folder: Path) -> "Made":
    """Logistic regression on four columns of numbers."""
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    flowers = load_iris(as_frame=True)
    data: pd.DataFrame = flowers.data
    model = LogisticRegression(max_iter=500, random_state=SEED)
    _save_sklearn(model, data, flowers.target, folder)
    return data, model


def mixed(folder: Path) -> "Made":
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
    return data, model


def forest(folder: Path) -> "Made":
    """A random forest of 100 trees on 20 columns."""
    from sklearn.ensemble import RandomForestClassifier

    data, target = _classes(20)
    model = RandomForestClassifier(n_estimators=100, random_state=SEED, n_jobs=1)
    _save_sklearn(model, data, target, folder)
    return data, model


def xgboost(folder: Path) -> "Made":
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
    return data, model


def python(folder: Path) -> "Made":
    """A PythonModel on pandas, whose requests nobody may merge: it adds up four columns."""
    return _save_python(_sum, folder)


def python_rows(folder: Path) -> "Made":
    """The same, whose metadata says that each row's answer is that row's alone."""
    return _save_python(_sum, folder, {"lakeport": {"row_wise": True}})


def sleep(folder: Path) -> "Made":
    """A PythonModel that waits 10 ms, as one that calls another service does."""
    return _save_python(_wait, folder)


def _sum(frame: "pd.DataFrame") -> list[float]:
    found: list[float] = frame.sum(axis=1).tolist()
    return found


def _wait(frame: "pd.DataFrame") -> list[float]:
    import time

    time.sleep(0.010)
    return [0.0] * len(frame)


#: Models that are code: the others predict by an estimator.
_CODE: Mapping[str, Callable[["pd.DataFrame"], list[float]]] = {
    "python": _sum,
    "python-rows": _sum,
    "sleep": _wait,
}
#: What is trained on, or asked about; and the estimator, if there is one.
Made = tuple["pd.DataFrame", Any]
MODELS: Mapping[str, Callable[[Path], Made]] = {
    "iris": iris,
    "forest": forest,
    "xgboost": xgboost,
    "mixed": mixed,
    "python-rows": python_rows,
    "python": python,
    "sleep": sleep,
}


def save(name: str, root: Path) -> SavedModel:
    """Train the model `name` and save it in a folder of its own under `root`."""
    import joblib
    import mlflow  # noqa: F401  before the next line: it sets the level itself

    logging.getLogger("mlflow").setLevel(logging.ERROR)  # it warns of pickles: these are our own
    folder = root / name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data, estimator = MODELS[name](folder)
    numbers = estimator is not None and all(kind.kind == "f" for kind in data.dtypes)
    columns = list(data.columns)
    plain = {"name": name, "estimator": estimator, "columns": columns, "numbers": numbers}
    joblib.dump(plain, root / f"{name}.joblib")
    return SavedModel(
        name,
        folder,
        data,
        root / f"{name}.joblib",
        numbers,
        merged=name not in {"python", "sleep"},
        concurrency=16 if name == "sleep" else 4,
    )


def _save_python(
    predict: Callable[["pd.DataFrame"], list[float]],
    folder: Path,
    metadata: dict[str, Any] | None = None,
) -> Made:
    import cloudpickle  # type: ignore[import-untyped]
    import mlflow.pyfunc
    from mlflow.models import infer_signature
    from mlflow.pyfunc.model import PythonModel
    from sklearn.datasets import load_iris

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # no server can import this file

    class Code(PythonModel):
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return predict(model_input)

    data: pd.DataFrame = load_iris(as_frame=True).data
    mlflow.pyfunc.save_model(
        folder,
        python_model=Code(),
        signature=infer_signature(data, predict(data)),
        pip_requirements=["mlflow"],
        metadata=metadata,
    )
    return data, None


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
