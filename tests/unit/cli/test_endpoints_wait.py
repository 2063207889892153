from collections.abc import Callable, Iterator
from typing import Any

import click
import pytest

from lakeport.cli.connection import CommandFailed
from lakeport.cli.endpoints_wait import AWAY, LAST_PAUSE, going, progress, reasons, wait
from lakeport.cli.output import Output
from lakeport.client.errors import ConnectionFailed, NotFound


def endpoint(update: str, *entities: tuple[str, str, str], config: str = "pending_config") -> Any:
    return {
        "name": "iris",
        "state": {"ready": "NOT_READY", "config_update": update},
        config: {
            "served_entities": [
                {
                    "name": name,
                    "state": {"deployment": deployment, "deployment_state_message": message},
                }
                for name, deployment, message in entities
            ]
        },
    }


BUSY = endpoint("IN_PROGRESS", ("iris-2", "DEPLOYMENT_CREATING", "Loading.\nMore."))
DONE = endpoint("NOT_UPDATING", ("iris-2", "DEPLOYMENT_READY", ""), config="config")
FAILED = endpoint(
    "UPDATE_FAILED",
    ("iris-1", "DEPLOYMENT_READY", ""),
    ("iris-2", "DEPLOYMENT_FAILED", "No module named 'x'"),
    ("iris-3", "DEPLOYMENT_ABORTED", ""),
)


class Clock:
    """Time that passes only while one sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def looks(*found: Any) -> Callable[[], Any]:
    each: Iterator[Any] = iter(found)

    def look() -> Any:
        answer = next(each)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    return look


def waited(*found: Any, timeout: float = 600, clock: Clock | None = None) -> Any:
    clock = clock or Clock()
    first, *others = found
    look = looks(*others)
    return wait(Output(), "iris", first, look, timeout=timeout, clock=clock, sleep=clock.sleep)


def test_an_update_goes_on_until_it_has_ended() -> None:
    assert going(BUSY)
    assert not going(DONE)
    assert waited(BUSY, BUSY, DONE) == DONE
    assert waited(DONE) == DONE


def test_a_failed_update_gives_each_failed_entitys_reason() -> None:
    with pytest.raises(CommandFailed) as failure:
        waited(BUSY, FAILED)

    assert failure.value.code == "UPDATE_FAILED"
    assert failure.value.message.splitlines() == [
        "the update of iris failed.",
        "  iris-2: No module named 'x'",
        "  iris-3: no reason is given",
    ]
    assert [one["name"] for one in failure.value.more["entities"]] == ["iris-2", "iris-3"]


def test_where_no_entity_says_that_it_failed_all_are_named() -> None:
    silent = endpoint("UPDATE_FAILED", ("iris-2", "", ""), config="config")

    assert [reason.entity for reason in reasons(silent)] == ["iris-2"]
    assert reasons({"name": "iris"}) == []


def test_the_wait_ends_in_time_and_says_that_the_update_goes_on() -> None:
    clock = Clock()

    with pytest.raises(CommandFailed, match="the update goes on") as failure:
        waited(*[BUSY] * 100, timeout=30, clock=clock)

    assert failure.value.status == 5
    assert clock.now == pytest.approx(30)
    assert max(clock.slept) <= LAST_PAUSE


def test_a_server_that_is_away_for_a_while_ends_no_wait() -> None:
    away = ConnectionFailed("Refused.", sent=False)

    assert waited(BUSY, away, away, away, DONE) == DONE
    clock = Clock()
    with pytest.raises(ConnectionFailed):
        waited(BUSY, *[away] * 100, clock=clock)
    assert AWAY < clock.now < AWAY + 2 * LAST_PAUSE
    with pytest.raises(NotFound):
        waited(BUSY, NotFound("Deleted."))


def test_an_interrupt_says_that_the_update_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(click.exceptions.Exit) as ended:
        waited(BUSY, KeyboardInterrupt())

    assert ended.value.exit_code == 130
    assert "the update of iris goes on" in capsys.readouterr().err


def test_progress_is_one_line_about_what_is_on_its_way() -> None:
    assert progress(BUSY, 12.3) == "iris: 12 s: iris-2 creating (Loading.)"
    assert progress({"name": "iris"}, 0) == "iris: 0 s: updating"


def test_without_a_terminal_only_news_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    other = endpoint("IN_PROGRESS", ("iris-2", "DEPLOYMENT_CREATING", "Starting."))

    waited(BUSY, BUSY, BUSY, other, other, DONE)

    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" s: ")[2] for line in lines] == [
        "iris-2 creating (Loading.)",
        "iris-2 creating (Starting.)",
    ]
