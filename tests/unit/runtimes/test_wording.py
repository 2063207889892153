"""What programs print is made fit for people."""

import pytest

from lakeport.runtimes.local.wording import exception_line, for_people, gigabytes


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31merror\x1b[0m: no", "error: no"),
        (
            "from https://user:pass@index.example/simple/x",
            "from https://***@index.example/simple/x",
        ),
        ("No such file: '/home/me/models/x.pkl'", "No such file: 'x.pkl'"),
        ("in file:///opt/wheels/a-1.whl", "in a-1.whl"),
        ("a ratio of 1/2 and /x", "a ratio of 1/2 and /x"),
        ("see https://example.com/a/b", "see https://example.com/a/b"),
    ],
)
def test_paths_passwords_and_colours_go(text: str, shown: str) -> None:
    assert for_people(text) == shown


def test_a_long_text_keeps_its_end() -> None:
    shown = for_people("x" * 5000 + "the end")

    assert len(shown) == 1500
    assert shown.startswith("...x")
    assert shown.endswith("the end")


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["Traceback (most recent call last):", "  File", "ValueError: no"], "ValueError: no"),
        (["KeyError", "bye"], "KeyError"),
        (["sklearn.exceptions.NotFittedError: x", ""], "sklearn.exceptions.NotFittedError: x"),
        (["Error while loading", "all is well"], None),
        ([], None),
    ],
)
def test_the_line_that_tells_why(lines: list[str], found: str | None) -> None:
    assert exception_line(lines) == found


def test_sizes() -> None:
    assert [gigabytes(n << 20) for n in (4096, 1536, 300)] == ["4.0 GB", "1.5 GB", "300 MB"]
