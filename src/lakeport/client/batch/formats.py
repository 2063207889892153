"""Which file is read and written how: by how its name ends."""

from collections.abc import Callable, Sequence
from pathlib import Path

from lakeport.client.batch.csv_file import CsvSource, CsvTarget
from lakeport.client.batch.files import Source, Target
from lakeport.client.batch.jsonl_file import JsonlSource, JsonlTarget
from lakeport.client.errors import ConfigError, InvalidInput

#: How a file is read, and how one is written.
_Format = tuple[Callable[[Path], Source], Callable[[Path, Source, Sequence[str]], Target]]

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
    read, _ = _format(kind_of(path))
    return read(path)


def open_target(path: Path, kind: str, source: Source, names: Sequence[str]) -> Target:
    """A file of `kind` at `path`, with the columns of `source` and `names`: that of predictions,
    and that of errors where there are any."""
    _, write = _format(kind)
    return write(path, source, names)


def check(path: Path) -> None:
    """That this Python can read or write such a file. Raises InvalidInput, ConfigError."""
    _format(kind_of(path))


def _format(kind: str) -> _Format:
    if kind == "csv":
        return CsvSource, CsvTarget
    if kind == "jsonl":
        return JsonlSource, JsonlTarget
    try:
        from lakeport.client.batch.parquet_file import (  # noqa: PLC0415 - pyarrow is an extra
            ParquetSource,
            ParquetTarget,
        )
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"Parquet files need {error.name}: pip install 'lakeport[parquet]'"
        ) from error
    return ParquetSource, ParquetTarget
