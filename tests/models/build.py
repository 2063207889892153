"""Tiny real models, trained and saved by MLflow: `python tests/models/build.py FOLDER [NAME ...]`.

`build(name, folder)` makes one. No tracking server is needed.
"""

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

CODE = Path(__file__).parent / "code"

#: Without pins: whatever environment runs the tests is good enough, and nothing is inferred by
#: loading the model in a process of its own, which takes MLflow long.
_SKLEARN = ["mlflow", "scikit-learn"]


def iris(path: Path) -> None:
    """Logistic regression on four columns; skops."""
    _iris(path, "skops")


def iris_pickle(path: Path) -> None:
    _iris(path, "pickle")


def iris_cloudpickle(path: Path) -> None:
    _iris(path, "cloudpickle")


def iris_proba(path: Path) -> None:
    """`predict_proba`: three numbers a row."""
    _iris(path, "skops", pyfunc_predict_fn="predict_proba")


def no_signature(path: Path) -> None:
    _iris(path, "skops", signature=None)


def _iris(path: Path, serialization_format: str, **more: Any) -> None:
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    data, target = load_iris(return_X_y=True, as_frame=True)
    model = LogisticRegression(max_iter=500).fit(data, target)
    _save_sklearn(model, path, data, serialization_format, **more)


def _save_sklearn(
    model: Any, path: Path, data: Any, serialization_format: str, **more: Any
) -> None:
    """What was fitted on `data`, with its signature unless `more` has another."""
    import mlflow.sklearn
    from mlflow.models import infer_signature

    needed = [] if serialization_format == "pickle" else [serialization_format]
    mlflow.sklearn.save_model(
        model,
        path,
        serialization_format=serialization_format,
        pip_requirements=[*_SKLEARN, *needed],
        **{"signature": infer_signature(data, model.predict(data))} | more,
    )


def mixed(path: Path) -> None:
    """A pipeline on two numbers, a string, an integer and a boolean, with a ColumnTransformer."""
    import pandas as pd
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    data = pd.DataFrame(
        {
            "age": [22.0, 38.0, 26.0, 35.0, 54.0, 2.0, 27.0, 14.0] * 5,
            "fare": [7.25, 71.28, 7.92, 53.1, 51.86, 21.07, 11.13, 30.07] * 5,
            "class": [3, 1, 3, 1, 1, 3, 3, 2] * 5,
            "port": ["S", "C", "S", "S", "Q", "S", "C", "C"] * 5,
            "alone": [False, False, True, False, True, False, False, True] * 5,
        }
    )
    target = ["no", "yes", "yes", "yes", "no", "no", "yes", "yes"] * 5
    model = Pipeline(
        [
            (
                "columns",
                ColumnTransformer(
                    [
                        ("numbers", StandardScaler(), ["age", "fare"]),
                        ("words", OneHotEncoder(handle_unknown="ignore"), ["port"]),
                    ],
                    remainder="passthrough",
                ),
            ),
            ("model", LogisticRegression(max_iter=500)),
        ]
    ).fit(data, target)
    _save_sklearn(model, path, data, "cloudpickle")


def forest(path: Path) -> None:
    """Trees that predict in two threads; pickle."""
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier

    data, target = load_iris(return_X_y=True, as_frame=True)
    model = RandomForestClassifier(n_estimators=8, n_jobs=2, random_state=0).fit(data, target)
    _save_sklearn(model, path, data, "pickle")


def starts_thread(path: Path) -> None:
    """A linear regression that starts a thread when it is loaded."""
    import threading

    from sklearn.datasets import load_diabetes
    from sklearn.linear_model import LinearRegression

    class Busy(LinearRegression):
        def __setstate__(self, state: dict[str, Any]) -> None:
            super().__setstate__(state)
            threading.Thread(target=threading.Event().wait, daemon=True).start()

    data, target = load_diabetes(return_X_y=True, as_frame=True)
    model = Busy().fit(data, target)
    _save_sklearn(model, path, data, "cloudpickle")


def regressor(path: Path) -> None:
    """A ridge regression on ten columns."""
    from sklearn.datasets import load_diabetes
    from sklearn.linear_model import Ridge

    data, target = load_diabetes(return_X_y=True, as_frame=True)
    model = Ridge().fit(data, target)
    _save_sklearn(model, path, data, "skops")


def xgboost(path: Path) -> None:
    import mlflow.xgboost
    from mlflow.models import infer_signature
    from sklearn.datasets import load_iris
    from xgboost import XGBClassifier

    data, target = load_iris(return_X_y=True, as_frame=True)
    model = XGBClassifier(n_estimators=5, max_depth=2, n_jobs=1).fit(data, target)
    mlflow.xgboost.save_model(
        model,
        path,
        signature=infer_signature(data, model.predict(data)),
        pip_requirements=[*_SKLEARN, "xgboost"],
    )


def lightgbm(path: Path) -> None:
    import mlflow.lightgbm
    from lightgbm import LGBMRegressor
    from mlflow.models import infer_signature
    from sklearn.datasets import load_diabetes

    data, target = load_diabetes(return_X_y=True, as_frame=True)
    model = LGBMRegressor(n_estimators=5, num_leaves=4, n_jobs=1, verbose=-1).fit(data, target)
    mlflow.lightgbm.save_model(
        model,
        path,
        signature=infer_signature(data, model.predict(data)),
        pip_requirements=[*_SKLEARN, "lightgbm"],
    )


def params(path: Path) -> None:
    """A PythonModel with a param `temperature`, 0.5 unless given."""
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    _code(
        path,
        "params",
        inputs=Schema([ColSpec(DataType.double, "x")]),
        outputs=Schema([ColSpec(DataType.string)]),
        params=ParamSchema([ParamSpec("temperature", DataType.double, 0.5)]),
    )


def traced(path: Path) -> None:
    """A PythonModel that answers with the trace and the span that it runs in."""
    from mlflow.types import ColSpec, DataType, Schema

    _code(path, "traced", inputs=Schema([ColSpec(DataType.double, "x")]))


def tells(path: Path) -> None:
    """A PythonModel that tells of its process what column `x` asks for: a variable, or a word."""
    from mlflow.types import ColSpec, DataType, Schema

    _code(path, "tells", inputs=Schema([ColSpec(DataType.string, "x")]))


def frame(path: Path) -> None:
    """A PythonModel that answers with a DataFrame."""
    from mlflow.types import ColSpec, DataType, Schema

    _code(path, "frame", inputs=Schema([ColSpec(DataType.double, "x")]))


def hinted(path: Path) -> None:
    """A PythonModel whose signature comes from type hints: list[str]."""
    _code(path, "hinted")


def typed(path: Path) -> None:
    """A datetime, a binary and an optional long column."""
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec

    columns: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.datetime, "at"),
        ColSpec(DataType.binary, "raw"),
        ColSpec(DataType.long, "n", required=False),
    ]
    _code(path, "typed", inputs=Schema(columns))


def tensor(path: Path) -> None:
    """A tensor signature: float32 (-1, 2, 3)."""
    import numpy as np
    from mlflow.types import Schema, TensorSpec

    _code(path, "tensor", inputs=Schema([TensorSpec(np.dtype("float32"), (-1, 2, 3))]))


def slow(path: Path) -> None:
    from mlflow.types import ColSpec, DataType, Schema

    _code(path, "slow", inputs=Schema([ColSpec(DataType.double, "seconds")]))


def hostile(path: Path) -> None:
    """Does what its column `do` says: see code/hostile.py."""
    from mlflow.types import ColSpec, DataType, Schema

    _code(path, "hostile", inputs=Schema([ColSpec(DataType.string, "do")]))


def streams(path: Path) -> None:
    """Streams; without a signature, so that its input is a dict."""
    _code(path, "streams")


def chat(path: Path) -> None:
    _code(path, "chat")


def chat_python(path: Path) -> None:
    """Takes messages and streams, without a signature."""
    _code(path, "chat_python")


def chat_model(path: Path) -> None:
    """A ChatModel without usage, which also fails, hangs on and streams nothing when told to."""
    _code(path, "chat_model")


def chat_counts(path: Path) -> None:
    """A ChatModel with usage, a name and an id of its own."""
    _code(path, "chat_counts")


def chat_whole(path: Path) -> None:
    """A ChatModel that does not stream."""
    _code(path, "chat_whole")


def chat_agent(path: Path) -> None:
    """A ChatAgent with messages of tools."""
    _code(path, "chat_agent")


def responses_agent(path: Path) -> None:
    """A ResponsesAgent."""
    _code(path, "responses_agent")


def load_raises(path: Path) -> None:
    _code(path, "load_raises")


def load_hangs(path: Path) -> None:
    _code(path, "load_hangs")


def load_eats(path: Path) -> None:
    _code(path, "load_eats")


def _code(path: Path, name: str, **signature: Any) -> None:
    """A PythonModel from code/NAME.py."""
    import mlflow.pyfunc
    from mlflow.models import ModelSignature

    mlflow.pyfunc.save_model(
        path,
        python_model=str(CODE / f"{name}.py"),
        signature=ModelSignature(**signature) if signature else None,
        pip_requirements=["mlflow"],
    )


_BUILDERS: dict[str, Callable[[Path], None]] = {
    builder.__name__: builder
    for builder in (
        iris,
        iris_pickle,
        iris_cloudpickle,
        iris_proba,
        no_signature,
        mixed,
        forest,
        starts_thread,
        regressor,
        xgboost,
        lightgbm,
        params,
        tells,
        traced,
        frame,
        hinted,
        typed,
        tensor,
        slow,
        hostile,
        streams,
        chat,
        chat_python,
        chat_model,
        chat_counts,
        chat_whole,
        chat_agent,
        responses_agent,
        load_raises,
        load_hangs,
        load_eats,
    )
}
NAMES = tuple(_BUILDERS)


def build(name: str, folder: Path) -> Path:
    """Train the model `name` and save it in `folder`/`name`; the path with the MLmodel file."""
    path = folder / name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow would like examples and type hints
        _BUILDERS[name](path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", choices=[[], *NAMES], default=[])
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    for name in asked.names or NAMES:
        print(build(name, asked.folder))


if __name__ == "__main__":
    main()
