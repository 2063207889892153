"""What is committed installs anywhere: the locks name packages and hashes, no host and no path."""

import re
from pathlib import Path

import pytest

LOCKS = sorted((Path(__file__).parents[2] / "requirements").glob("*.txt"))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_names_no_host_and_no_path(lock: Path) -> None:
    lines = lock.read_text(encoding="utf-8").splitlines()
    places = [line for line in lines if re.search(r"://|index-url|find-links|^-e|\.\./|= ?/", line)]

    assert not places


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_everything_in_a_lock_has_hashes(lock: Path) -> None:
    pins = re.findall(r"^[\w.-]+==(?:.*\\\n)*.*", lock.read_text(encoding="utf-8"), re.MULTILINE)

    assert pins
    assert all("--hash=sha256:" in pin for pin in pins)
