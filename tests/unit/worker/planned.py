"""Models that plans call themselves, trained on one small table and saved by MLflow."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

COLUMNS = ["a", "b", "c"]
_DRAW = np.random.default_rng(3)
TABLE = pd.DataFrame(_DRAW.normal(size=(60, 3)).round(3), columns=COLUMNS)
CLASSES = (TABLE["a"] + TABLE["b"] > 0).astype(int) + (TABLE["c"] > 0.5)
NUMBERS = 3 * TABLE["a"] - TABLE["b"] ** 2 + 0.1
#: Enough columns for sums that depend on their order.
WIDE = pd.DataFrame(_DRAW.normal(size=(100, 30)), columns=[f"w{at}" for at in range(30)])
TWO = (TABLE["a"] > 0).astype(int)


def save(name: str, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _BUILDERS[name](path)


def _signature(data: Any) -> Any:
    from mlflow.models import infer_signature

    return infer_signature(data)


def _sklearn(path: Path, model: Any, data: Any, target: Any, **more: Any) -> None:
    import mlflow.sklearn

    mlflow.sklearn.save_model(
        model.fit(data, target),
        path,
        serialization_format="cloudpickle",
        pip_requirements=[],
        **{"signature": _signature(data)} | more,
    )


def _logistic(path: Path) -> None:
    from sklearn.linear_model import LogisticRegression

    _sklearn(path, LogisticRegression(), TABLE, CLASSES, pyfunc_predict_fn="predict_proba")


def _ridge(path: Path) -> None:
    from sklearn.linear_model import Ridge

    _sklearn(path, Ridge(), TABLE.astype("float32"), NUMBERS)


def _forest(path: Path) -> None:
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(7, max_depth=4, random_state=3)
    _sklearn(path, forest, TABLE, CLASSES, pyfunc_predict_fn="predict_proba")


def _several(path: Path) -> None:
    """Two outputs, for which `predict_proba` gives a list of two arrays."""
    from sklearn.tree import DecisionTreeClassifier

    tree = DecisionTreeClassifier(max_depth=4, random_state=3)
    target = np.c_[CLASSES, TWO]
    _sklearn(path, tree, TABLE, target, pyfunc_predict_fn="predict_proba")


def _drawn(path: Path) -> None:
    """Draws a number for each row, the same for the first one of each predict."""
    from sklearn.dummy import DummyClassifier

    _sklearn(path, DummyClassifier(strategy="uniform", random_state=3), TABLE, CLASSES)


def _partial(path: Path) -> None:
    """Code of an author's, which is no function."""
    from functools import partial

    from sklearn.compose import TransformedTargetRegressor
    from sklearn.linear_model import Ridge

    sums = partial(np.cumsum, axis=0)
    model = TransformedTargetRegressor(
        Ridge(), func=np.cbrt, inverse_func=sums, check_inverse=False
    )
    _sklearn(path, model, TABLE, NUMBERS)


def _boosting(path: Path) -> None:
    from sklearn.ensemble import HistGradientBoostingRegressor

    _sklearn(path, HistGradientBoostingRegressor(max_iter=5, random_state=3), TABLE, NUMBERS)


def _pipeline(path: Path) -> None:
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    data = TABLE.where(TABLE < 1.5)
    model = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression())
    _sklearn(path, model, data, CLASSES, pyfunc_predict_fn="predict_proba")


def _framed(path: Path) -> None:
    """A pipeline whose first step makes frames, which an array would not become."""
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().set_output(transform="pandas")
    _sklearn(path, make_pipeline(scaler, LinearRegression()), TABLE, NUMBERS)


def _voting(path: Path) -> None:
    """Hands what it is given to parts that remember names."""
    from sklearn.ensemble import VotingRegressor
    from sklearn.linear_model import LinearRegression, Ridge

    _sklearn(path, VotingRegressor([("l", LinearRegression()), ("r", Ridge())]), TABLE, NUMBERS)


def _renamed(path: Path) -> None:
    """Fitted with other names than its signature's: all frames are refused."""
    from sklearn.linear_model import LinearRegression

    renamed = TABLE.rename(columns={"c": "other"})
    _sklearn(path, LinearRegression(), renamed, NUMBERS, signature=_signature(TABLE))


def _whole(path: Path) -> None:
    from sklearn.tree import DecisionTreeRegressor

    data = (TABLE * 10).astype("int64")
    _sklearn(path, DecisionTreeRegressor(max_depth=4, random_state=3), data, NUMBERS)


def _unsigned(path: Path) -> None:
    from sklearn.linear_model import LinearRegression

    _sklearn(path, LinearRegression(), TABLE, NUMBERS, signature=None)


def _array(path: Path) -> None:
    """A tensor signature."""
    from sklearn.linear_model import LogisticRegression

    _sklearn(path, LogisticRegression(), TABLE.to_numpy(), CLASSES)


def _wide(path: Path) -> None:
    from sklearn.linear_model import LogisticRegression

    method = {"pyfunc_predict_fn": "predict_proba"}
    _sklearn(path, LogisticRegression(), WIDE, WIDE["w0"] > 0, **method)


def _wide_unsigned(path: Path) -> None:
    from sklearn.linear_model import Ridge

    _sklearn(path, Ridge(), WIDE, WIDE["w0"] * 2, signature=None)


def _wide_array(path: Path) -> None:
    from sklearn.linear_model import Ridge

    _sklearn(path, Ridge(), WIDE.to_numpy(), WIDE["w0"] * 2)


def _unnamed(path: Path) -> None:
    """Columns without names."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from sklearn.linear_model import LinearRegression

    signature = ModelSignature(inputs=Schema([ColSpec(DataType.double)] * 3))
    _sklearn(path, LinearRegression(), TABLE.to_numpy(), NUMBERS, signature=signature)


def _xgboost(path: Path, model: Any) -> None:
    import mlflow.xgboost

    mlflow.xgboost.save_model(model, path, signature=_signature(TABLE), pip_requirements=[])


def _xgb_classes(path: Path) -> None:
    from xgboost import XGBClassifier

    _xgboost(path, XGBClassifier(n_estimators=6, max_depth=3, n_jobs=1).fit(TABLE, CLASSES))


def _xgb_numbers(path: Path) -> None:
    from xgboost import XGBRegressor

    _xgboost(path, XGBRegressor(n_estimators=6, max_depth=3, n_jobs=1).fit(TABLE, NUMBERS))


def _xgb_linear(path: Path) -> None:
    """No trees."""
    from xgboost import XGBRegressor

    model = XGBRegressor(booster="gblinear", n_estimators=6, n_jobs=1).fit(TABLE, NUMBERS)
    _xgboost(path, model)


def _xgb_booster(path: Path) -> None:
    import xgboost

    options = {"objective": "multi:softprob", "num_class": 3, "nthread": 1, "max_depth": 3}
    _xgboost(path, xgboost.train(options, xgboost.DMatrix(TABLE, CLASSES), 6))


def _lightgbm(path: Path, model: Any, data: pd.DataFrame = TABLE) -> None:
    import mlflow.lightgbm

    mlflow.lightgbm.save_model(model, path, signature=_signature(data), pip_requirements=[])


def _lgb_classes(path: Path) -> None:
    from lightgbm import LGBMClassifier

    model = LGBMClassifier(n_estimators=6, num_leaves=4, n_jobs=1, verbose=-1)
    names = CLASSES.map({0: "none", 1: "one", 2: "two"})
    _lightgbm(path, model.fit(TABLE, names))


def _lgb_whole(path: Path) -> None:
    from lightgbm import LGBMRegressor

    data = (TABLE * 10).astype("int64")
    model = LGBMRegressor(n_estimators=6, num_leaves=4, n_jobs=1, verbose=-1)
    _lightgbm(path, model.fit(data, NUMBERS), data)


def _lgb_booster(path: Path) -> None:
    import lightgbm

    options = {"objective": "binary", "num_leaves": 4, "num_threads": 1, "verbose": -1}
    _lightgbm(path, lightgbm.train(options, lightgbm.Dataset(TABLE, TWO), 6))


def _onnx(path: Path, model: Any, signature: Any, types: Any, **options: Any) -> None:
    import mlflow.onnx
    from skl2onnx import to_onnx  # type: ignore[import-untyped]

    made = to_onnx(model, initial_types=types, options=options or None)
    mlflow.onnx.save_model(made, path, signature=signature, pip_requirements=[])


def _onnx_classes(path: Path) -> None:
    from skl2onnx.common.data_types import FloatTensorType  # type: ignore[import-untyped]
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression().fit(TABLE.to_numpy(), CLASSES)
    _onnx(path, model, _signature(TABLE), [("x", FloatTensorType([None, 3]))])


def _onnx_numbers(path: Path) -> None:
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.ensemble import RandomForestRegressor

    model = RandomForestRegressor(5, max_depth=3, random_state=3).fit(TABLE.to_numpy(), NUMBERS)
    _onnx(path, model, _signature(TABLE), [("x", FloatTensorType([None, 3]))])


def _onnx_array(path: Path) -> None:
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression().fit(TABLE.to_numpy(), CLASSES)
    data = TABLE.to_numpy().astype("float32")
    types = [("x", FloatTensorType([None, 3]))]
    _onnx(path, model, _signature(data), types, zipmap=False)


def _onnx_inputs(path: Path) -> None:
    """A graph of two inputs, one a column each, whose sum it is."""
    import mlflow.onnx
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Add", ["a", "b"], ["sum"])],
        "added",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in "ba"],
        [helper.make_tensor_value_info("sum", TensorProto.FLOAT, [None])],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 9
    signature = _signature(TABLE[["a", "b"]])
    mlflow.onnx.save_model(made, path, signature=signature, pip_requirements=[])


_BUILDERS: dict[str, Callable[[Path], None]] = {
    builder.__name__.removeprefix("_"): builder
    for builder in (
        _logistic,
        _ridge,
        _forest,
        _several,
        _drawn,
        _partial,
        _boosting,
        _pipeline,
        _framed,
        _voting,
        _renamed,
        _whole,
        _unsigned,
        _array,
        _unnamed,
        _wide,
        _wide_unsigned,
        _wide_array,
        _xgb_classes,
        _xgb_numbers,
        _xgb_linear,
        _xgb_booster,
        _lgb_classes,
        _lgb_whole,
        _lgb_booster,
        _onnx_classes,
        _onnx_numbers,
        _onnx_array,
        _onnx_inputs,
    )
}
