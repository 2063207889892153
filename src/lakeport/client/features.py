"""Features of primary keys, fetched where they are kept and joined to what a model takes.

The sources are in `lakeport.features`; anything with `keys` and `fetch` is one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from lakeport.client.errors import InvalidInput, Problem
from lakeport.client.signature import Signature

#: Missing keys that a message names.
_NAMED = 5


@dataclass(frozen=True, slots=True)
class Features:
    """What a source found, in the order of the keys that it was asked for."""

    #: Columns of one value for each key; None where the key is not known.
    columns: Mapping[str, Sequence[Any]]
    #: Positions of the keys that the source does not know.
    missing: Sequence[int] = ()


class FeatureSource(Protocol):
    """Where features are kept."""

    @property
    def keys(self) -> Sequence[str]:
        """The primary key's columns."""

    def fetch(self, keys: Mapping[str, Sequence[Any]]) -> Features:
        """The features of all `keys` (columns of one length, no row twice), in one look-up,
        however many there are. It may block: the async client calls it in a thread."""


def feature_columns(
    keys: Mapping[str, Any],
    source: FeatureSource,
    signature: Signature | None,
    *,
    endpoint: str | None = None,
    missing: str = "error",
) -> dict[str, list[Any]]:
    """The columns to send for `keys`, in signature order.

    `keys`: a value or a sequence for each primary key of the source, all of one length. Further
    columns in it are sent as they are, and win over a feature of that name, as on Databricks.
    `missing`: "error" refuses keys that the source does not know, "null" sends None for their
    features.

    Raises InvalidInput, which names the keys or the columns.
    """
    if missing not in ("error", "null"):
        raise InvalidInput(f"missing={missing!r}: expected 'error' or 'null'.", endpoint=endpoint)
    if not hasattr(keys, "items"):
        raise InvalidInput(
            f"keys: expected columns, as in {{'customer_id': [7, 9]}}; got {type(keys).__name__}.",
            endpoint=endpoint,
        )
    if not hasattr(source, "fetch"):
        raise InvalidInput(
            f"source: expected one of lakeport.features, got {type(source).__name__}.",
            endpoint=endpoint,
        )
    given = {name: _sequence(values) for name, values in keys.items()}
    _check_keys(given, source.keys, endpoint)
    wanted = list(zip(*(given[name] for name in source.keys), strict=True))
    try:
        distinct = list(dict.fromkeys(wanted))
    except TypeError:
        raise InvalidInput(
            f"A primary key must be a plain value; {', '.join(source.keys)} hold others.",
            endpoint=endpoint,
        ) from None
    if not distinct:
        raise InvalidInput("keys: there are none; expected one at least.", endpoint=endpoint)
    columns = zip(source.keys, zip(*distinct, strict=True), strict=True)
    fetched = source.fetch({name: list(values) for name, values in columns})
    _check_fetched(fetched, len(distinct))
    if missing == "error" and len(fetched.missing):
        unknown = {distinct[position] for position in fetched.missing}
        _refuse_missing(source.keys, unknown, wanted, endpoint)
    place = {key: position for position, key in enumerate(distinct)}
    order = [place[key] for key in wanted]
    found = {
        name: [values[position] for position in order]
        for name, values in ((name, list(each)) for name, each in fetched.columns.items())
        if name not in given
    }
    return _in_order(found, given, source.keys, signature, endpoint)


def _sequence(values: Any) -> list[Any]:
    """One value is a column of one row."""
    one = isinstance(values, (str, bytes)) or not hasattr(values, "__iter__")
    return [_plain(value) for value in ([values] if one else values)]


def _plain(value: Any) -> Any:
    """Python's own value for one of numpy's, which no database and no dict takes for the same."""
    if type(value).__name__ == "datetime64":
        return value.astype("datetime64[us]").item()
    return value.item() if type(value).__module__ == "numpy" else value


def _check_fetched(fetched: Any, keys: int) -> None:
    """Raises TypeError, ValueError for what a source must not answer."""
    if not isinstance(fetched, Features):
        raise TypeError(f"The source's fetch gave a {type(fetched).__name__}, not Features.")
    for name, values in fetched.columns.items():
        if len(values) != keys:
            raise ValueError(
                f"The source's fetch gave {len(values)} values of {name!r} for {keys} keys."
            )


def _check_keys(
    given: Mapping[str, Sequence[Any]], keys: Sequence[str], endpoint: str | None
) -> None:
    absent = [name for name in keys if name not in given]
    if absent:
        raise InvalidInput(
            f"Missing primary key: {', '.join(absent)}. The source's keys are {', '.join(keys)}; "
            f"given were {', '.join(given) or 'none'}.",
            problems=[Problem(name, None, "a primary key of the source") for name in absent],
            endpoint=endpoint,
        )
    lengths = {name: len(values) for name, values in given.items()}
    if len(set(lengths.values())) > 1:
        counted = ", ".join(f"{name}: {length}" for name, length in lengths.items())
        raise InvalidInput(f"Keys must have one length; these have {counted}.", endpoint=endpoint)


def _refuse_missing(
    keys: Sequence[str],
    unknown: set[tuple[Any, ...]],
    wanted: Sequence[tuple[Any, ...]],
    endpoint: str | None,
) -> NoReturn:
    places = [(row, key) for row, key in enumerate(wanted) if key in unknown]
    named = [
        ", ".join(f"{name}={value!r}" for name, value in zip(keys, key, strict=True))
        for key in dict.fromkeys(key for _, key in places)
    ]
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    raise InvalidInput(
        f"The source has no features for {'; '.join(named[:_NAMED])}{more}. "
        "missing='null' sends empty ones instead.",
        problems=[Problem(keys[0], row, "no features for this key") for row, _ in places[:20]],
        endpoint=endpoint,
    )


def _in_order(
    found: Mapping[str, list[Any]],
    given: Mapping[str, list[Any]],
    keys: Sequence[str],
    signature: Signature | None,
    endpoint: str | None,
) -> dict[str, list[Any]]:
    """What the model takes, of features and of what the caller gave, in the model's order."""
    if signature is None or not signature.names:
        extra = {name: values for name, values in given.items() if name not in keys}
        return {**found, **extra}
    all_of_it = {**found, **given}
    absent = [
        column.name
        for column in signature.inputs
        if column.name is not None and column.required and column.name not in all_of_it
    ]
    if absent:
        raise InvalidInput(
            f"The model takes {', '.join(absent)}, which neither the source nor the keys have. "
            f"The source has {', '.join(found) or 'nothing'}.",
            problems=[Problem(name, None, "missing from the features") for name in absent],
            endpoint=endpoint,
        )
    return {name: all_of_it[name] for name in signature.names if name in all_of_it}
