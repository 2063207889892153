"""Where a PredictionLog writes: a logger, files of JSON lines or Parquet, a run of MLflow."""

import json
import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, NoReturn

from lakeport.client.encode import to_json

Record = Mapping[str, Any]


class LoggerSink:
    """One line of JSON a prediction to a logger of the standard library; the same values are in the
    log record's `prediction`, for structured formatters."""

    def __init__(
        self, logger: logging.Logger | str = "lakeport.predictions", level: int = logging.INFO
    ) -> None:
        self._logger = logging.getLogger(logger) if isinstance(logger, str) else logger
        self._level = level

    def write(self, records: Sequence[Record]) -> None:
        for record in records:
            self._logger.log(
                self._level, "%s", _line(record).decode(), extra={"prediction": dict(record)}
            )

    def close(self) -> None:
        """The logger is not ours."""


class JsonLines:
    """A file with one JSON object a line, rotated by size: PATH, PATH.1 (the newest full one) …"""

    def __init__(self, path: str | Path, *, max_bytes: int = 100_000_000, keep: int = 10) -> None:
        """`keep`: full files that are kept. Folders are made. One process may write a file.

        Raises ValueError for bounds that are none.
        """
        if max_bytes < 1 or keep < 1:
            raise ValueError(
                f"max_bytes={max_bytes}, keep={keep}: expected 1 at least; else nothing rotates."
            )
        file = Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = _Rotated(
            file, maxBytes=max_bytes, backupCount=keep, encoding="utf-8", delay=True
        )

    def write(self, records: Sequence[Record]) -> None:
        for record in records:
            self._file.emit(logging.makeLogRecord({"msg": _line(record).decode()}))

    def close(self) -> None:
        self._file.close()


class _Rotated(RotatingFileHandler):
    """Rotation as the standard library has it; a full disk is the caller's to hear of."""

    def handleError(self, record: logging.LogRecord) -> NoReturn:  # noqa: N802 -- its name
        raise  # noqa: PLE0704 -- called where the error is being handled


class _InParts:
    """Collects records and puts them away in parts of `rows`, or of `seconds` when more come."""

    def __init__(self, rows: int, seconds: float) -> None:
        self._rows = rows
        self._seconds = seconds
        self._part: list[Record] = []
        self._since = 0.0
        self._number = 0

    def write(self, records: Sequence[Record]) -> None:
        if not self._part:
            self._since = time.monotonic()
        self._part.extend(records)
        if len(self._part) >= self._rows or time.monotonic() - self._since >= self._seconds:
            self._put_away()

    def close(self) -> None:
        if self._part:
            self._put_away()

    def _put_away(self) -> None:
        # Taken out first: a part that cannot be written is lost, it must not grow for ever.
        part, self._part = self._part, []
        self._number += 1
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        # The last part: other processes may put theirs into the same folder at the same time.
        self._put(f"predictions-{stamp}-{self._number:06d}-{secrets.token_hex(4)}", part)

    def _put(self, name: str, part: Sequence[Record]) -> None:
        raise NotImplementedError


class ParquetFiles(_InParts):
    """Parquet files in a folder, a new one for each `rows` predictions, or `seconds` after the
    first when more come, and at the end. Requests and answers are columns of JSON text.

    What is not yet in a file is lost when the process is killed. Needs `lakeport[parquet]`.
    """

    def __init__(self, folder: str | Path, *, rows: int = 10_000, seconds: float = 300.0) -> None:
        super().__init__(rows, seconds)
        try:
            import pyarrow as pa  # noqa: PLC0415 -- heavy, and not every log needs it
            import pyarrow.parquet as pq  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "ParquetFiles needs pyarrow: pip install 'lakeport[parquet]'."
            ) from error
        self._table = pa.Table.from_pylist
        self._write_table = pq.write_table
        self._schema = pa.schema(
            [
                ("time", pa.timestamp("us", tz="UTC")),
                *((name, pa.string()) for name in ("endpoint", "served_entity", "request_id")),
                ("client_request_id", pa.string()),
                ("status", pa.string()),
                ("error", pa.string()),
                ("seconds", pa.float64()),
                ("attempts", pa.int64()),
                ("request", pa.string()),
                ("response", pa.string()),
            ]
        )
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)

    def _put(self, name: str, part: Sequence[Record]) -> None:
        rows = [
            {
                **record,
                "time": datetime.fromisoformat(record["time"]),
                "request": _text(record["request"]),
                "response": _text(record["response"]),
            }
            for record in part
        ]
        unfinished = self._folder / f".{name}.part"
        self._write_table(self._table(rows, schema=self._schema), unfinished)
        unfinished.rename(self._folder / f"{name}.parquet")


class MlflowRun(_InParts):
    """JSON lines as artifacts of an MLflow run, `predictions/predictions-….jsonl`, one for each
    `rows` predictions or `seconds`, and at the end.

    Needs mlflow; where it writes is MLflow's own setting (`MLFLOW_TRACKING_URI`).
    """

    def __init__(
        self,
        run_id: str | None = None,
        *,
        experiment: str = "predictions",
        rows: int = 1000,
        seconds: float = 60.0,
    ) -> None:
        """Without `run_id` a new run is made in `experiment`, and ended by `close`."""
        super().__init__(rows, seconds)
        try:
            from mlflow import MlflowClient  # noqa: PLC0415 -- seconds of imports
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "MlflowRun needs mlflow: pip install mlflow-skinny."
            ) from error
        self._client = MlflowClient()
        self._own = run_id is None
        self.run_id: str = run_id or self._new_run(experiment)

    def _new_run(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self._client.create_experiment(name)
        made: str = self._client.create_run(experiment, run_name="predictions").info.run_id
        return made

    def _put(self, name: str, part: Sequence[Record]) -> None:
        text = b"\n".join(_line(record) for record in part).decode() + "\n"
        self._client.log_text(self.run_id, text, f"predictions/{name}.jsonl")

    def close(self) -> None:
        try:
            super().close()
        finally:
            if self._own:
                self._client.set_terminated(self.run_id)


def _line(record: Record) -> bytes:
    try:
        return to_json(record)
    except (TypeError, ValueError):  # an object of the caller's: told as it prints itself
        return json.dumps(record, default=str).encode()


def _text(value: Any) -> str | None:
    return None if value is None else _line(value).decode()
