from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from lakeport.cli.chat import Talk
from lakeport.cli.connection import Session
from lakeport.cli.output import Output
from lakeport.client.answers import ChatChunk
from lakeport.client.errors import LakeportError, NotFound, NotReady


class Pieces:
    """A stream of one answer: what `Client.stream_chat` gives."""

    def __init__(self, answer: str | BaseException) -> None:
        self._answer = answer

    def __enter__(self) -> "Pieces":
        return self

    def __exit__(self, *_: object) -> None: ...

    def __iter__(self) -> Iterator[ChatChunk]:
        if isinstance(self._answer, BaseException):
            yield ChatChunk(text="I am ")
            raise self._answer
        for word in self._answer.split(" "):
            yield ChatChunk(text=word + " ")


class Echo:
    """A client that answers with `answers`, one after the other, and notes what it was asked."""

    def __init__(self, *answers: str | BaseException) -> None:
        self._answers = iter(answers)
        self.asked: list[list[str]] = []

    def stream_chat(self, name: str, messages: list[dict[str, str]], **options: Any) -> Pieces:
        self.asked.append([message["content"] for message in messages])
        return Pieces(next(self._answers))


class Fixed(Session):
    """A session whose client is there already."""

    def __init__(self, client: Echo) -> None:
        super().__init__(Output(), None, None)
        self._client = cast(Any, client)


def typing(*lines: str | BaseException) -> Callable[[], str]:
    """What is typed, and then the end of the input."""
    each = iter([*lines, EOFError()])

    def read() -> str:
        line = next(each)
        if isinstance(line, BaseException):
            raise line
        return line

    return read


def talk(client: Echo, *lines: str | BaseException, system: str | None = None) -> None:
    start = [{"role": "system", "content": system}] if system else []
    Talk(Fixed(client), "helper", start, {}).run(typing(*lines))


def test_what_was_said_is_sent_again_until_it_is_cleared() -> None:
    client = Echo("one", "two", "three")

    talk(client, "first", "second", "", "/clear", "third", "/exit", "fourth", system="be brief")

    assert client.asked == [
        ["be brief", "first"],
        ["be brief", "first", "one ", "second"],
        ["be brief", "third"],
    ]


@pytest.mark.parametrize("failure", [NotReady("Not now.", status=503), KeyboardInterrupt()])
def test_a_question_without_an_answer_is_forgotten(
    failure: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    client = Echo(failure, "one")

    talk(client, "first", "again")

    said = capsys.readouterr()
    assert client.asked == [["first"], ["again"]]
    assert said.out == "I am \none \n"
    assert ("Not now." in said.err) or ("stopped" in said.err)


def test_a_talk_with_nobody_ends() -> None:
    with pytest.raises(LakeportError):
        talk(Echo(NotFound("No such endpoint."), "never"), "first", "second")


def test_an_interrupt_where_one_would_type_ends_it() -> None:
    with pytest.raises(KeyboardInterrupt):
        talk(Echo(), KeyboardInterrupt())
