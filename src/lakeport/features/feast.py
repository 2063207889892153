"""Features in a Feast feature store."""

from collections.abc import Mapping, Sequence
from typing import Any

from lakeport.client.features import Features

#: Of `FieldStatus` in feast/protos/feast/serving/ServingService.proto: not found, outside of the
#: view's maximum age.
_GONE = frozenset({3, 4})


class FeastSource:
    """Features from Feast's online store.

    Names are Feast's short ones ("conv_rate" of "driver_stats:conv_rate"), or, with `full_names`,
    "driver_stats__conv_rate".
    """

    def __init__(
        self,
        store: Any,
        features: "Sequence[str] | Any",
        *,
        keys: Sequence[str] | str,
        full_names: bool = False,
    ) -> None:
        """`store`: a `feast.FeatureStore`, or the path of its repository. `features`: references
        such as "driver_stats:conv_rate", or a FeatureService. `keys`: the join keys of their
        entities.

        Raises ModuleNotFoundError when a path is given and Feast is not installed.
        """
        self._keys = (keys,) if isinstance(keys, str) else tuple(keys)
        if not self._keys:
            raise ValueError("keys: expected the name of a join key at least.")
        self._store = _opened(store) if isinstance(store, str) else store
        if isinstance(features, str):
            features = [features]
        self._features = list(features) if isinstance(features, (list, tuple)) else features
        self._full_names = full_names

    @property
    def keys(self) -> Sequence[str]:
        return self._keys

    def fetch(self, keys: Mapping[str, Sequence[Any]]) -> Features:
        response = self._store.get_online_features(
            features=self._features,
            entity_rows={name: list(keys[name]) for name in self._keys},
            full_feature_names=self._full_names,
        )
        columns = {
            name: values for name, values in response.to_dict().items() if name not in self._keys
        }
        names = response.proto.metadata.feature_names.val
        statuses = [
            list(result.statuses)
            for name, result in zip(names, response.proto.results, strict=True)
            if name in columns
        ]
        absent = [
            row
            for row, of_row in enumerate(zip(*statuses, strict=True))
            if _GONE.issuperset(of_row)
        ]
        return Features(columns, absent)


def _opened(path: str) -> Any:
    try:
        from feast import FeatureStore  # noqa: PLC0415 -- needs Feast
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "FeastSource needs Feast: pip install 'lakeport[features]', or feast alone."
        ) from error
    return FeatureStore(repo_path=path)
