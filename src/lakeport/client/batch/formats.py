"""Which file is read and written how: by how its name ends."""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from lakeport.client.batch import csv_file, jsonl_file
from lakeport.client.batch.files import Source, Target
from lakeport.client.errors import ConfigError, InvalidInput

_SUFFIXES = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}


def kind_of(path: Path) -> str:
    """ "parquet", "csv" or "jsonl". Raises InvalidInput."""
    kind = _SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise InvalidInput(f"{path.name}: expected a file that ends in {', '.join(_SUFFIXES)}.")
    return kind


def open_source(path: Path) -> Source:
    """Raises InvalidInput for a file that is not what its name says, FileNotFoundError."""
    kind = kind_of(path)
    if kind == "parquet":
        parquet: Source = _parquet().ParquetSource(path)
        return parquet
    return csv_file.CsvSource(path) if kind == "csv" else jsonl_file.JsonlSource(path)


def open_target(path: Path, kind: str, source: Source, names: Sequence[str]) -> Target:
    """A file of `kind` at `path`, with the columns of `source` and `names`: that of predictions,
    and that of errors where there are any."""
    if kind == "parquet":
        parquet: Target = _parquet().ParquetTarget(path, source, names)
        return parquet
    module = csv_file.CsvTarget if kind == "csv" else jsonl_file.JsonlTarget
    return module(path, source, names)


def check(path: Path) -> None:
    """That this Python can read or write such a file. Raises InvalidInput, ConfigError."""
    if kind_of(path) == "parquet":
        _parquet()


def _parquet() -> ModuleType:
    try:
        from lakeport.client.batch import parquet_file  # noqa: PLC0415 - pyarrow is an extra
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"Parquet files need {error.name}: pip install 'lakeport[parquet]'"
        ) from error
    return parquet_file
