"""DataFrames of request bodies without MLflow, whose import takes a second: longer, on a busy
machine, than a client waits for an answer."""

from typing import Any, Final

_SPLIT: Final = frozenset(("columns", "data", "index"))


def frame_of(form: str, value: Any) -> Any:
    """The frame that MLflow makes of a well-formed body for a model without a signature; None where
    MLflow itself must say what it makes of it. `form`: "dataframe_split" or "dataframe_records".
    """
    import pandas as pd  # noqa: PLC0415  a function that takes plain values needs none

    try:
        if form == "dataframe_records" and isinstance(value, list):
            return pd.DataFrame(data=value)
        if (
            form == "dataframe_split"
            and isinstance(value, dict)
            and "data" in value
            and value.keys() <= _SPLIT
        ):
            index, columns = value.get("index"), value.get("columns")
            return pd.DataFrame(index=index, columns=columns, data=value["data"])
    except Exception:  # noqa: BLE001  whatever pandas makes of it: MLflow words the refusal
        return None
    return None
