"""`lakeport top`: what it shows, on wide and narrow terminals, and into pipes."""

import io
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from lakeport.cli.main import lakeport
from lakeport.cli.top import Screen
from lakeport.cli.top_table import (
    ENTITIES,
    SPARE,
    entities,
    fitting,
    memory,
    number,
    replicas,
    total,
)
from tests.unit.cli.workspace import answering


def entity(name: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "model": "iris",
        "version": "3",
        "scaled_to_zero": False,
        "replicas": [
            {
                "id": f"r{n}",
                "pid": 100 + n,
                "cpu_percent": 12.4,
                "memory_bytes": 61_000_000,
                "memory_limit_bytes": 4_000_000_000,
            }
            for n in (1, 2)
        ],
        "requests_per_second": 1234.5,
        "errors_per_second": 0.0,
        "p50_ms": 0.42,
        "p99_ms": 12.0,
        "queue": 3,
        "in_flight": 8,
        "provisioned_concurrency": 8,
        "cold_starts": 1,
    } | more


LIVE = {
    "at": 1767355200000,
    "endpoints": [
        {
            "name": "iris",
            "state": "READY",
            "entities": [
                entity("iris-1"),
                entity(
                    "iris-2", scaled_to_zero=True, replicas=[], p50_ms=None, p99_ms=None,
                    requests_per_second=0.0,
                ),
            ],
        },
        {"name": "empty", "state": "NOT_READY", "entities": []},
    ],
}  # fmt: skip


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABRICKS_TOKEN", "t")


def test_each_entity_is_a_row() -> None:
    first, second, third = entities(LIVE, None)

    assert first == (
        "iris", "iris-1", "iris 3", "READY", "2", "1,234", "0.0", "0.4",
        "12.0", "3", "8", "25%", "122 MB", "1",
    )  # fmt: skip
    assert second[2:9] == ("iris 3", "READY (zero)", "0", "0.0", "0.0", "", "")
    assert second[11:13] == ("", "")
    assert third == ("empty", "", "", "NOT_READY", *[""] * 10)
    assert {len(row) for row in (first, second, third)} == {len(ENTITIES)}


def test_replicas_that_were_not_measured_yet_are_no_error() -> None:
    unmeasured = dict.fromkeys(("pid", "cpu_percent", "memory_bytes", "memory_limit_bytes"))
    new = entity("e", replicas=[{"id": "r1", **unmeasured}])
    live = {"endpoints": [{"name": "a", "entities": [new]}]}

    assert replicas(live, None) == [("a", "e", "r1", "", "", "", "")]
    assert entities(live, None)[0][11:13] == ("", "")
    assert replicas(LIVE, "iris")[1] == ("iris", "iris-1", "r2", "102", "12%", "61 MB", "4.0 GB")
    assert replicas(LIVE, "empty") == []


def test_the_sum_is_one_line() -> None:
    assert total(LIVE, None) == "2 endpoints, 2 replicas, 1,234 requests/s, 6 waiting"
    assert total({"endpoints": []}, None) == "0 endpoints, 0 replicas, 0.0 requests/s, 0 waiting"


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 140])
def test_a_narrow_terminal_drops_what_it_can_do_without(width: int) -> None:
    rows = entities(LIVE, None)

    kept, cells = fitting(ENTITIES, rows, width)

    needed = [name for name in ENTITIES if name not in SPARE]
    fits = sum(max(len(name), *(len(row[n]) for row in cells)) + 2 for n, name in enumerate(kept))
    assert fits - 2 <= width or kept == needed
    assert kept == [name for name in ENTITIES if name in kept]
    assert set(needed) <= set(kept)
    assert (kept == list(ENTITIES)) == (width >= 140)


def test_numbers_are_short() -> None:
    assert [number(value) for value in (None, 0.0, 0.44, 99.94, 99.96, 12345.6)] == [
        "", "0.0", "0.4", "99.9", "100", "12,346",
    ]  # fmt: skip
    assert [memory(size) for size in (None, 0, 61_400_000, 1_240_000_000)] == [
        "", "0 MB", "61 MB", "1.2 GB",
    ]  # fmt: skip


def drawn(live: dict[str, Any], width: int, height: int, name: str | None = None) -> list[str]:
    with answering(lambda *_: (200, live)) as workspace:
        console = Console(width=width, height=height, file=io.StringIO())
        screen = Screen(workspace.session(), name)
        with console.capture() as captured:
            console.print(screen.drawn(live, "It is away.", width, height))
        return captured.get().splitlines()


@pytest.mark.parametrize(("width", "height"), [(200, 40), (60, 10), (24, 6), (10, 3)])
def test_the_screen_is_never_overdrawn(width: int, height: int) -> None:
    many = {"at": 0, "endpoints": [LIVE["endpoints"][0]] * 20}  # type: ignore[index]

    lines = drawn(many, width, height)

    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    if height >= 6:
        assert any(line.startswith("and ") for line in lines)


def test_the_screen_tells_of_the_server_the_replicas_and_the_trouble() -> None:
    lines = drawn(LIVE, 160, 40, "iris")

    assert "12:00:00 UTC  1 endpoint, 2 replicas" in lines[0]
    assert lines[1] == "It is away."
    assert "READY (zero)" in "".join(lines)
    assert any("101" in line and "61 MB" in line for line in lines)


def test_into_a_pipe_it_is_one_snapshot() -> None:
    with answering(lambda *_: (200, LIVE)) as workspace:
        call = ["top", "--host", workspace.url]
        text = CliRunner().invoke(lakeport, call).stdout
        one = CliRunner().invoke(lakeport, [*call, "iris"]).stdout
        document = CliRunner().invoke(lakeport, [*call, "-o", "json"]).stdout
        missing = CliRunner().invoke(lakeport, [*call, "rose"])

    assert [line.split("\t")[:2] for line in text.splitlines()] == [
        ["iris", "iris-1"],
        ["iris", "iris-2"],
        ["empty", ""],
    ]
    assert len(one.splitlines()) == 4
    assert json.loads(document) == LIVE
    assert missing.exit_code == 3
    assert "'rose'" in missing.stderr


def test_the_board_is_printed_or_written(tmp_path: Path) -> None:
    board = files("lakeport").joinpath("dashboards", "grafana.json").read_text("utf-8")
    file = tmp_path / "board.json"

    printed = CliRunner().invoke(lakeport, ["dashboards", "export", "grafana"])
    written = CliRunner().invoke(lakeport, ["dashboards", "export", "grafana", "--out", str(file)])
    nowhere = CliRunner().invoke(
        lakeport, ["dashboards", "export", "grafana", "--out", str(tmp_path / "no" / "x.json")]
    )

    assert json.loads(printed.stdout) == json.loads(board)
    assert (written.exit_code, written.stdout) == (0, "")
    assert file.read_text("utf-8") == board
    assert nowhere.exit_code == 1
    assert nowhere.stderr.startswith("Error: IO_ERROR: ")
    assert CliRunner().invoke(lakeport, ["dashboards", "export", "other"]).exit_code == 2
