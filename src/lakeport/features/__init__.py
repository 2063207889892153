"""Where features of primary keys come from: a DataFrame, a SQL table, Feast, or a source of yours.

    client.predict_with_features("risk", {"customer_id": [7, 9]}, source=DataFrameSource(...))

SQL and Feast need the extra `features` (or SQLAlchemy, feast alone); a frame needs only itself.
"""

from typing import TYPE_CHECKING

from lakeport.client.features import Features, FeatureSource
from lakeport.features.frames import DataFrameSource

if TYPE_CHECKING:
    from lakeport.features.feast import FeastSource
    from lakeport.features.sql import SqlSource

__all__ = ["DataFrameSource", "FeastSource", "FeatureSource", "Features", "SqlSource"]


def __getattr__(name: str) -> object:
    """Those that need a library load it when they are used."""
    if name == "SqlSource":
        from lakeport.features.sql import SqlSource  # noqa: PLC0415 -- needs SQLAlchemy

        return SqlSource
    if name == "FeastSource":
        from lakeport.features.feast import FeastSource  # noqa: PLC0415

        return FeastSource
    raise AttributeError(f"module 'lakeport.features' has no attribute '{name}'")
