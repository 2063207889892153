"""Following a served entity's log: over deployments, rotations and restarts."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from lakeport.auth.callers import AccessList, Caller, Level
from lakeport.control.log_pages import DEPLOYMENTS, LogPages, Page, formatted, parsed, shown
from lakeport.control.reconciler import Reconciler
from lakeport.errors import InvalidParameter, NotFound, PermissionDenied
from lakeport.runtimes.local.logs import Lines, LogReader, Logs
from lakeport.stores.records import ConfigRecord, EndpointRecord, EntityRecord
from lakeport.telemetry.rotated import Position, RotatedFile

ANA = Caller("1", "ana", frozenset())
BO = Caller("2", "bo", frozenset())
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def config(*since: int) -> ConfigRecord:
    entities = tuple(
        EntityRecord(
            name="iris-1",
            entity_name="iris",
            entity_version=str(version),
            resolved_version=str(version),
            model_key="key",
            since_version=version,
        )
        for version in since
    )
    return ConfigRecord(
        version=max(since), entities=entities, routes=(), created_at=0, created_by="ana"
    )


class Place:
    """An endpoint `iris` with the entity `iris-1`, its logs, and a clock for their lines."""

    def __init__(self, folder: Path) -> None:
        self.record = EndpointRecord(
            id="e",
            name="iris",
            creator="ana",
            created_at=0,
            updated_at=0,
            active=config(1),
            last_version=1,
            access=AccessList(users={"ana": Level.CAN_MANAGE, "bo": Level.CAN_QUERY}),
        )
        self.folder = folder
        self.logs = Logs(folder)
        self.clock = NOON
        reconciler = SimpleNamespace(record=lambda name: self.record if name == "iris" else None)
        self.pages = LogPages(cast(Reconciler, reconciler), LogReader(folder))

    def say(self, version: int, *texts: str, replica: str = "r1") -> None:
        file = RotatedFile(self.folder / f"e.iris-1.v{version}" / "replicas.log")
        lines = Lines(file, replica, now=lambda: self.clock)
        for text in texts:
            self.clock += timedelta(seconds=1)
            lines.say(text)

    def update(self, *, active: int | None = None, pending: int | None = None) -> None:
        last = max(active or 0, pending or 0, self.record.last_version)
        self.record = EndpointRecord(
            id="e",
            name="iris",
            creator="ana",
            created_at=0,
            updated_at=0,
            active=config(active) if active else None,
            pending=config(pending) if pending else None,
            last_version=last,
            access=self.record.access,
        )

    def page(self, after: str | None, *, limit: int = 100, build: bool = False) -> Page:
        return self.pages.page(ANA, "iris", "iris-1", after=after, limit=limit, build=build)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def texts(page: Page) -> list[str]:
    return [line.text for line in page.lines]


def test_the_newest_lines_then_what_follows_them(place: Place) -> None:
    place.say(1, *"abcd")

    first = place.page(None, limit=2)
    place.say(1, "e", replica="r2")
    second = place.page(first.next)

    assert texts(first) == ["c", "d"]
    assert texts(second) == ["e"]
    (line,) = second.lines
    assert (line.replica, line.config_version) == ("r2", 1)
    assert line.at == (NOON + timedelta(seconds=5)).timestamp() * 1000
    assert texts(place.page(second.next)) == []


def test_pages_are_bounded_and_follow_one_another(place: Place) -> None:
    place.say(1, *(str(number) for number in range(7)))

    page = place.page("", limit=3)
    assert page.more
    seen = texts(page)
    while page.lines:
        page = place.page(page.next, limit=3)
        assert len(page.lines) <= 3
        seen += texts(page)

    assert not page.more
    assert seen == [str(number) for number in range(7)]


def test_an_update_is_followed_from_the_old_replicas_to_the_new(place: Place) -> None:
    place.say(1, "old")
    page = place.page(None)

    place.update(active=1, pending=2)
    place.say(2, "loads")
    place.say(1, "still answers")
    during = place.page(page.next)
    place.update(active=2)
    place.say(1, "drained")
    place.logs.forget("e.iris-1.v1")
    place.say(2, "serves")
    after = place.page(during.next)
    later = place.page(after.next)

    assert [(line.config_version, line.text) for line in during.lines] == [
        (2, "loads"),
        (1, "still answers"),
    ]
    assert texts(after) == ["drained", "serves"]
    assert texts(later) == []
    assert set(parsed(after.next)) == {1, 2}
    assert set(parsed(later.next)) == {2}


def test_what_an_entity_wrote_before_it_was_removed_is_still_read(place: Place) -> None:
    place.say(1, "old")
    page = place.page(None)

    place.say(1, "last words")
    place.logs.forget("e.iris-1.v1")
    place.update()
    last = place.page(page.next)

    assert texts(last) == ["last words"]
    with pytest.raises(NotFound, match="iris-1"):
        place.page(last.next)


def test_a_failed_update_is_followed_too(place: Place) -> None:
    page = place.page(None)

    place.update(active=1, pending=2)
    place.say(2, "no such module")
    failed = place.page(page.next)

    assert texts(failed) == ["no such module"]


def test_a_build_has_a_log_of_its_own(place: Place) -> None:
    place.say(1, "runs")
    place.logs.build("e.iris-1.v1").say("[uv] resolved")

    page = place.page(None, build=True)

    assert [(line.replica, line.text) for line in page.lines] == [(None, "[uv] resolved")]


def test_a_line_without_a_time_has_that_of_the_one_before() -> None:
    lines = shown(
        (b"2026-01-02T12:00:00.000Z [r1] one", b"[lakeport] 5 bytes were lost", b"\xff"),
        3,
        build=False,
    )

    assert {line.at for line in lines} == {round(NOON.timestamp() * 1000)}
    assert [line.text for line in lines] == ["one", "[lakeport] 5 bytes were lost", "�"]


def test_who_may_not_manage_the_endpoint_sees_nothing(place: Place) -> None:
    with pytest.raises(PermissionDenied):
        place.pages.page(BO, "iris", "iris-1", after=None, limit=1)
    with pytest.raises(NotFound):
        place.pages.page(ANA, "rose", "iris-1", after=None, limit=1)
    with pytest.raises(NotFound):
        place.pages.page(ANA, "iris", "iris-9", after=None, limit=1)


def test_a_version_that_never_was_is_not_looked_for(place: Place) -> None:
    place.say(7, "of nobody")

    assert texts(place.page("7")) == []


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "1-2",
        "1-0123456789abcdef",
        "../etc",
        "1_",
        "-1",
        "_".join("12345"),
        "1-0123456789abcdeF-1",
    ],
)
def test_another_word_is_no_cursor(cursor: str) -> None:
    with pytest.raises(InvalidParameter, match="after"):
        parsed(cursor)


def test_a_cursor_is_read_as_it_was_written() -> None:
    places = {3: Position("0123456789abcdef", 77), 4: None}

    assert parsed(formatted(places)) == places
    assert parsed("") == {}
    assert len(places) <= DEPLOYMENTS
