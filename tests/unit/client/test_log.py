"""The log of predictions: it never slows or fails one, and says what it dropped."""

import json
import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from lakeport.client.answers import Prediction
from lakeport.client.errors import BadRequest, NotFound
from lakeport.client.log import PredictionLog
from lakeport.client.recording import PredictionEvent
from lakeport.client.redaction import Redaction


class Kept:
    def __init__(self) -> None:
        self.records: list[Mapping[str, Any]] = []
        self.closed = False

    def write(self, records: Sequence[Mapping[str, Any]]) -> None:
        self.records += records

    def close(self) -> None:
        self.closed = True


class Broken(Kept):
    def write(self, records: Sequence[Mapping[str, Any]]) -> None:
        raise OSError("no space left")


class Stuck(Kept):
    """A sink that waits until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def write(self, records: Sequence[Mapping[str, Any]]) -> None:
        self.go.wait(10)
        super().write(records)


def event(number: int = 1) -> PredictionEvent:
    request = {"dataframe_split": {"columns": ["name", "age"], "data": [["Ann", number]]}}
    return PredictionEvent(
        endpoint="iris",
        body=json.dumps(request).encode(),
        answer=Prediction(
            endpoint="iris",
            body={"predictions": [number]},
            predictions=[number],
        ),
        served_entity="iris-1",
        request_id="r1",
        seconds=0.5,
        time=1_767_323_045.5,
    )


def test_a_prediction_becomes_a_record() -> None:
    kept = Kept()
    with PredictionLog(kept) as log:
        log.record(event(7))

    (record,) = kept.records
    assert record["time"].startswith("2026-01-02T03:04:05.5")
    assert (record["endpoint"], record["served_entity"]) == ("iris", "iris-1")
    assert (record["status"], record["error"], record["seconds"]) == ("ok", None, 0.5)
    assert record["request"]["dataframe_split"]["data"] == [["Ann", 7]]
    assert record["response"] == {"predictions": [7]}
    assert kept.closed


def test_a_failure_is_a_record_too() -> None:
    kept = Kept()
    gone = NotFound("no such endpoint", endpoint="iris", status=404, request_id="r2")
    failed = PredictionEvent(
        endpoint="iris", body=b"{}", error=gone, request_id="r2", seconds=0.1, time=0.0
    )
    with PredictionLog(kept) as log:
        log.record(failed)

    (record,) = kept.records
    assert (record["status"], record["error"]) == ("NotFound", "no such endpoint")
    assert record["request_id"] == "r2"
    assert record["response"] is None


def test_a_sample_is_a_share() -> None:
    kept = Kept()
    with PredictionLog(kept, sample=0.25, seed=1) as log:
        for number in range(2000):
            log.record(event(number))

    assert 400 < len(kept.records) < 600


def test_bodies_may_be_left_out() -> None:
    kept = Kept()
    with PredictionLog(kept, bodies=False) as log:
        log.record(event())

    assert kept.records[0]["request"] is kept.records[0]["response"] is None


def test_columns_and_fields_are_redacted() -> None:
    kept = Kept()
    with PredictionLog(kept, redact=["Name", "predictions"]) as log:
        log.record(event(7))

    assert kept.records[0]["request"]["dataframe_split"]["data"] == [["[redacted]", 7]]
    assert kept.records[0]["response"] == {"predictions": "[redacted]"}


@pytest.mark.parametrize(
    ("value", "without"),
    [
        ({"a": {"KEY": 1}}, {"a": {"KEY": "[redacted]"}}),
        ([{"key": 1}, 2, [{"key": [3]}]], [{"key": "[redacted]"}, 2, [{"key": "[redacted]"}]]),
        (
            {"columns": ["key"], "data": [[1], "odd"]},
            {"columns": ["key"], "data": [["[redacted]"], "odd"]},
        ),
        ({"columns": "key", "data": 1}, {"columns": "key", "data": 1}),
        ({"arguments": '{"Key": "é", "x": 1}'}, {"arguments": '{"Key": "[redacted]", "x": 1}'}),
        ({"arguments": '{"other": 1.50}'}, {"arguments": '{"other": 1.50}'}),
        ("{key", "{key"),
    ],
)
def test_what_is_redacted(value: object, without: object) -> None:
    assert Redaction(["key"]).value(value) == without


@pytest.mark.parametrize("bodies", [True, False])
def test_an_error_does_not_quote_what_is_redacted(bodies: bool) -> None:
    kept = Kept()
    name = "Ann\nO'Neil"
    refused = BadRequest(f"row 1, name: {name!r} and Annie, age 7: no number", status=400)
    body = {"dataframe_records": [{"name": name, "age": 7}, {"name": {"first": "Annie"}}]}
    with PredictionLog(kept, redact="name", bodies=bodies) as log:
        log.record(
            PredictionEvent(
                endpoint="iris",
                body=json.dumps(body).encode(),
                error=refused,
                seconds=0.1,
                time=0.0,
            )
        )

    (record,) = kept.records
    assert "Ann" not in str(record)
    assert "row 1, name: " in record["error"]
    assert "age 7: no number" in record["error"]
    assert (record["request"] is None) is not bodies


def test_a_broken_sink_costs_the_others_nothing(caplog: pytest.LogCaptureFixture) -> None:
    kept = Kept()
    with caplog.at_level(logging.WARNING), PredictionLog(Broken(), kept) as log:
        log.record(event())

    assert len(kept.records) == 1
    assert "Broken did not take 1 predictions: no space left" in caplog.text


def test_what_no_sink_took_is_counted_and_said(caplog: pytest.LogCaptureFixture) -> None:
    log = PredictionLog(Broken())
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            log.record(event())
        log.close()

    assert (log.dropped, log.written) == (3, 0)
    assert "3 predictions were not logged so far" in caplog.text


def test_a_stuck_sink_holds_up_nobody() -> None:
    stuck = Stuck()
    log = PredictionLog(stuck, queue=10)

    began = time.monotonic()
    for number in range(1000):
        log.record(event(number))
    assert time.monotonic() - began < 5  # the sink would have waited ten seconds
    assert log.dropped >= 1000 - 10 - 500
    stuck.go.set()
    log.close()

    assert log.written + log.dropped == 1000
    assert len(stuck.records) == log.written


def test_after_the_end_nothing_is_taken() -> None:
    kept = Kept()
    log = PredictionLog(kept)
    log.close()
    log.record(event())

    assert (kept.records, log.dropped) == ([], 1)


@pytest.mark.parametrize("sample", [-0.1, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(sample: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        PredictionLog(Kept(), sample=sample)


def test_a_log_wants_a_sink() -> None:
    with pytest.raises(ValueError, match="needs a sink"):
        PredictionLog()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_writes_its_own() -> None:
    sink = Kept()
    log = PredictionLog(sink)
    log.record(event(1))
    assert log.flush()

    child = os.fork()
    if child == 0:
        log.record(event(2))
        os._exit(0 if log.flush(5) and (log.written, log.dropped) == (1, 0) else 1)
    _, status = os.waitpid(child, 0)
    log.close()

    assert status == 0
    assert len(sink.records) == 1


def test_a_queue_has_room() -> None:
    with pytest.raises(ValueError, match="queue"):
        PredictionLog(Kept(), queue=0)
