"""How many cores there are."""

import os

import pytest

from lakeport.processes.cores import allowed, cores


@pytest.mark.parametrize(
    ("limit", "found"),
    [
        ("200000 100000", 2.0),
        ("50000 100000", 0.5),
        ("max 100000", None),
        ("-1 100000", None),
        ("100000 0", None),
        ("", None),
        (" ", None),
    ],
)
def test_a_containers_quota_is_read(limit: str, found: float | None) -> None:
    assert allowed(limit) == found


def test_there_are_no_more_than_the_machine_has() -> None:
    assert 1 <= cores() <= (os.cpu_count() or 1)
