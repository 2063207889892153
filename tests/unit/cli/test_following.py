"""`events -w` and `logs -f`: each thing once, through whatever happens to the server."""

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from click.testing import CliRunner

from lakeport.cli.connection import CommandFailed
from lakeport.cli.events import PAGE, Lines, Seen, padded, row
from lakeport.cli.following import LONGEST_PAUSE, PAUSE, follow, stamp
from lakeport.cli.logs import Follower, last, shown
from lakeport.cli.main import lakeport
from lakeport.cli.output import Output
from lakeport.client.errors import ConnectionFailed, NotFound
from tests.unit.cli.workspace import answering

GONE = {"error_code": "ENDPOINT_NOT_FOUND", "message": "No API found for 'GET /lakeport/events'"}
NOON = 1767355200000


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABRICKS_TOKEN", "t")


class Stop(Exception):
    """Ends what goes on for ever."""


def event(id: int, **more: Any) -> dict[str, Any]:
    base = {"id": id, "at": NOON + id, "endpoint": "iris", "kind": "created", "actor": "ana"}
    return base | {"message": f"event {id}"} | more


def test_a_server_that_is_away_is_told_of_once_and_waited_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    pauses: list[float] = []
    looks: Iterator[bool | Exception] = iter(
        [
            False,
            ConnectionFailed("down.", sent=False),
            ConnectionFailed("down.", sent=False),
            True,
            Stop(),
        ]
    )
    backs: list[int] = []

    def look() -> bool:
        found = next(looks)
        if isinstance(found, Exception):
            raise found
        return found

    with pytest.raises(Stop):
        follow(Output(), look, back=lambda: backs.append(1), sleep=pauses.append)

    assert capsys.readouterr().err == "down. Waiting for it …\nIt is back.\n"
    assert len(backs) == 2  # before each try of one that was away
    assert pauses == [PAUSE, PAUSE, PAUSE * 1.5]
    assert LONGEST_PAUSE > PAUSE


def test_what_time_does_not_mend_ends_it() -> None:
    def look() -> bool:
        raise NotFound("no such endpoint")

    with pytest.raises(NotFound):
        follow(Output(), look, sleep=lambda _: None)


def test_time_is_written_as_in_the_logs() -> None:
    assert stamp(NOON + 45) == "2026-01-02T12:00:00.045Z"


def test_each_event_comes_once_in_order() -> None:
    stored = [event(id) for id in range(1, 2503)]

    def answer(path: str, query: dict[str, list[str]]) -> tuple[int, Any]:
        found = [e for e in stored if e["id"] > int(query.get("after", ["0"])[0])]
        limit = int(query["limit"][0])
        return 200, {"events": found[-limit:] if "newest" in query else found[:limit]}

    with answering(answer) as workspace:
        seen = Seen(workspace.session(), {"endpoint": "iris", "kind": ["created", "deleted"]})
        newest = seen.newest(3, None)
        stored.append(event(2503))
        follows = [seen.next(), seen.next()]
        everything = Seen(workspace.session(), {}).all(5)
        none = Seen(workspace.session(), {})

        assert [e["id"] for e in newest] == [2500, 2501, 2502]
        assert [[e["id"] for e in each] for each in follows] == [[2503], []]
        assert [e["id"] for e in everything] == list(range(1, 2504))
        assert none.newest(0, None) == []
        assert none.last == 2503
    path, query = workspace.asked[0]
    assert path == "/api/2.0/lakeport/events"
    assert query["endpoint"] == ["iris"]
    assert query["kind"] == ["created", "deleted"]
    assert len([1 for _, query in workspace.asked if query.get("since") == ["5"]]) == 3
    assert PAGE == 1000


def test_a_workspace_that_counts_anew_is_noticed(capsys: pytest.CaptureFixture[str]) -> None:
    stored = [event(70)]

    with answering(lambda *_: (200, {"events": stored})) as workspace:
        seen = Seen(workspace.session(), {})
        seen.next()
        seen.again()
        stored[:] = [event(69)]  # the last one is of an endpoint that may not be seen any more
        seen.again()
        same = seen.last
        stored[:] = [event(2, at=NOON + 10_000)]
        seen.again()

    assert (same, seen.last) == (70, 0)
    assert "begin anew" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["events"], ["top"], ["logs", "iris", "iris-1", "-f"]])
def test_a_workspace_that_is_no_lakeport_is_told_so(command: list[str]) -> None:
    with answering(lambda *_: (404, GONE)) as workspace:
        result = CliRunner().invoke(lakeport, [*command, "--host", workspace.url])

    assert result.exit_code == 3
    assert result.stderr.startswith("Error: ENDPOINT_NOT_FOUND: ")
    assert "Databricks has nothing like it" in result.stderr


def test_an_unknown_endpoint_is_another_matter() -> None:
    error = {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no rose"}

    with answering(lambda *_: (404, error)) as workspace:
        result = CliRunner().invoke(lakeport, ["events", "rose", "--host", workspace.url])

    assert result.exit_code == 3
    assert result.stderr == "Error: RESOURCE_DOES_NOT_EXIST: no rose\n"


def test_an_answer_of_another_server_is_no_crash() -> None:
    reply: Any = {"events": [{"id": "x"}], "lines": []}
    with answering(lambda *_: (200, reply)) as workspace:
        for command in (["events"], ["top"], ["logs", "iris", "x", "-f"]):
            result = CliRunner().invoke(lakeport, [*command, "--host", workspace.url])

            assert result.exit_code == 1
            assert "is not what the API gives" in result.stderr


def test_events_are_lines_of_tsv_or_documents(capsys: pytest.CaptureFixture[str]) -> None:
    nasty = event(1, entity="iris-1", message="two\nlines\t\x1b[31mred")

    Lines(Output()).show([nasty])
    Lines(Output("json")).show([nasty, event(2)])
    Lines(Output("yaml")).show([event(3)])

    out = capsys.readouterr().out.splitlines()
    assert out[0] == "2026-01-02T12:00:00.001Z\tiris\tiris-1\tcreated\tana\ttwo lines red"
    assert [json.loads(line)["id"] for line in out[1:3]] == [1, 2]
    assert out[3] == "---"


def test_trouble_is_red_and_columns_are_aligned() -> None:
    cells = row(event(1, kind="start_failed", entity="iris-1"))

    line = padded(cells, [24, 6, 8, 14, 5, 3], colour=True)

    assert "\x1b[31mstart_failed  \x1b[0m  ana    event 1" in line
    assert "\x1b" not in padded(cells, [0] * 6, colour=False)
    assert row({"id": 1}) == ("", "", "", "", "", "")


def line(text: str, **more: Any) -> dict[str, Any]:
    return {"at": NOON, "replica": "r1", "config_version": 1, "text": text} | more


class Endpoint:
    """An endpoint whose entities print what a test says."""

    def __init__(self, *entities: str) -> None:
        self.entities = list(entities)
        self.pages: dict[str, list[dict[str, Any]]] = {}

    def answer(self, path: str, query: dict[str, list[str]]) -> tuple[int, Any]:
        if path == "/api/2.0/serving-endpoints/iris":
            served = [{"name": name} for name in self.entities]
            return 200, {"name": "iris", "config": {"served_entities": served}}
        entity = path.rpartition("/")[2]
        if entity not in self.entities:
            return 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such entity"}
        at = int(query.get("after", ["0"])[0] or 0)
        pages = self.pages.get(entity, [])
        page = pages[at] if at < len(pages) else {"lines": []}
        return 200, {"lost": False, "next": str(min(at + 1, len(pages)))} | page


def followed(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, only: str | None = None, *, looks: int = 4
) -> list[dict[str, list[str]]]:
    """Follow for so many looks; the queries for pages."""
    pauses = iter([None] * looks)

    def pause(_: float) -> None:
        try:
            next(pauses)
        except StopIteration:
            raise Stop from None

    def briefly(*given: Any, **more: Any) -> None:
        follow(*given, **more, sleep=pause)

    monkeypatch.setattr("lakeport.cli.logs.follow", briefly)
    with answering(endpoint.answer) as workspace:
        with suppress(Stop):
            Follower(workspace.session(), "iris", only, build=False).run(2)
        return [query for path, query in workspace.asked if "/lakeport/logs/" in path]


def test_lines_follow_one_another_from_cursor_to_cursor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint = Endpoint("iris-1")
    endpoint.pages["iris-1"] = [
        {"lines": [line("a"), line("b"), line("c")], "more": True},
        {"lines": [line("d", config_version=2, replica="r4")], "lost": True},
        {"lines": [line("e", config_version=1)]},
    ]

    queries = followed(endpoint, monkeypatch)

    said = capsys.readouterr()
    assert said.out == "".join(
        f"2026-01-02T12:00:00.000Z [{replica}] {text}\n"
        for replica, text in [("r1", "b"), ("r1", "c"), ("r4", "d"), ("r1", "e")]
    )
    assert said.err.splitlines() == [
        "iris-1: lines were removed before they were read; the files are bounded.",
        "iris-1: config version 2",
    ]
    assert queries[0] == {"limit": ["2"]}
    assert [query["after"] for query in queries[1:4]] == [["1"], ["2"], ["3"]]


def test_several_entities_are_told_apart_and_may_come_and_go(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lakeport.cli.logs.LOOKS", 2)
    endpoint = Endpoint("old", "new")
    endpoint.pages = {"old": [{"lines": [line("a")]}], "late": [{"lines": [line("z")]}]}
    true_answer = endpoint.answer
    asked = 0

    def answer(path: str, query: dict[str, list[str]]) -> tuple[int, Any]:
        nonlocal asked
        asked += 1
        if asked == 6:
            endpoint.entities = ["new", "late"]
        return true_answer(path, query)

    monkeypatch.setattr(endpoint, "answer", answer)
    followed(endpoint, monkeypatch, looks=8)

    said = capsys.readouterr()
    assert said.out.splitlines() == [
        "2026-01-02T12:00:00.000Z old [r1] a",
        "2026-01-02T12:00:00.000Z late [r1] z",
    ]
    assert said.err == "old: no longer served.\n"


def test_what_takes_an_entitys_place_is_followed_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint = Endpoint("old")
    endpoint.pages = {"old": [{"lines": [line("a")]}], "new": [{"lines": [line("z")]}]}
    pages = endpoint.answer

    def answer(path: str, query: dict[str, list[str]]) -> tuple[int, Any]:
        if "after" in query:
            endpoint.entities = ["new"]
        return pages(path, query)

    monkeypatch.setattr(endpoint, "answer", answer)
    followed(endpoint, monkeypatch, looks=1)

    said = capsys.readouterr()
    assert said.out.splitlines() == [
        "2026-01-02T12:00:00.000Z [r1] a",
        "2026-01-02T12:00:00.000Z new [r1] z",
    ]
    assert said.err == "old: no longer served.\n"


def test_the_one_entity_that_was_asked_for_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFound):
        followed(Endpoint("iris-1"), monkeypatch, "iris-2")
    with pytest.raises(CommandFailed, match="no served entity"):
        followed(Endpoint(), monkeypatch)


def test_a_line_is_shown_as_the_file_has_it() -> None:
    assert shown(line("x"), None) == "2026-01-02T12:00:00.000Z [r1] x\n"
    assert shown({"at": NOON, "text": "built"}, "e") == "2026-01-02T12:00:00.000Z e built\n"


def test_the_newest_lines_of_a_whole_log() -> None:
    assert last({"logs": "a\nb\nc\n"}, 2) == "b\nc\n"
    assert last({"logs": "a\nb"}, 1) == "b"
    assert last({"logs": None}, 3) == last({"logs": "a\n"}, 0) == ""


def test_one_entity_is_named_once() -> None:
    result = CliRunner().invoke(lakeport, ["logs", "iris", "a", "--entity", "b"])

    assert result.exit_code == 2
    assert "name one" in result.stderr
