"""The journal of a batch from file to file: what it keeps, and what it refuses."""

from pathlib import Path

import pytest

from lakeport.client.batch.journal import Journal, Outcome
from lakeport.client.errors import InvalidInput

HEADER = {"lakeport_batch": 1, "endpoint": "iris", "source": {"bytes": 5}}


def opened(path: Path, *, anew: bool = False, changes: dict[str, object] | None = None) -> Journal:
    return Journal(path, HEADER | (changes or {}), anew=anew)


def summary(entries: object) -> list[tuple[int, int, int]]:
    return [(e.start, e.rows, e.failed) for e in entries]  # type: ignore[attr-defined]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "out.csv.lakeport-batch"
    with opened(file) as journal:
        journal.add(2, Outcome([{"a": 1}, None], {1: "bad"}))
        journal.add(0, Outcome(["x", 1.5], {}))
    return file


def test_entries_come_in_the_order_of_their_rows(path: Path) -> None:
    with opened(path) as journal:
        entries = list(journal.entries())
        outcomes = [journal.read(entry) for entry in entries]

    assert summary(entries) == [(0, 2, 0), (2, 2, 1)]
    assert outcomes == [Outcome(["x", 1.5], {}), Outcome([{"a": 1}, None], {1: "bad"})]


def test_a_later_line_replaces_an_earlier_one(path: Path) -> None:
    with opened(path) as journal:
        journal.add(2, Outcome([{"a": 1}, 7], {}))
        entries = list(journal.entries())

        assert summary(entries) == [(0, 2, 0), (2, 2, 0)]
        assert journal.read(entries[1]).predictions == [{"a": 1}, 7]


@pytest.mark.parametrize("torn", [b'{"start":4,"ro', b'{"start":4,"rows":2,"failed":0,"p'])
def test_a_torn_line_is_cut_off_and_what_follows_is_whole(path: Path, torn: bytes) -> None:
    with path.open("ab") as file:
        file.write(torn)

    with opened(path) as journal:
        assert summary(journal.entries()) == [(0, 2, 0), (2, 2, 1)]
        journal.add(4, Outcome([1], {}))
    with opened(path) as journal:
        assert summary(journal.entries()) == [(0, 2, 0), (2, 2, 1), (4, 1, 0)]


def test_every_cut_leaves_whole_lines(path: Path) -> None:
    whole = path.read_bytes()
    ends = [at + 1 for at, byte in enumerate(whole) if byte == ord("\n")]

    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        with opened(path) as journal:
            assert len(journal.entries()) == max(0, sum(end <= length for end in ends) - 1)


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"source": {"bytes": 6}}, "source has changed"), ({"endpoint": "other"}, "endpoint")],
)
def test_another_batch_is_refused(path: Path, changes: dict[str, object], said: str) -> None:
    before = path.read_bytes()

    with pytest.raises(InvalidInput, match=said), opened(path, changes=changes):
        pass

    assert path.read_bytes() == before


@pytest.mark.parametrize("notes", ["my notes\n", "my notes", '{"a": 1}'])
def test_what_is_no_journal_is_left_alone(path: Path, notes: str) -> None:
    path.write_text(notes)

    with pytest.raises(InvalidInput, match="not the journal"), opened(path):
        pass

    assert path.read_text() == notes


def test_anew_forgets(path: Path) -> None:
    with opened(path, anew=True, changes={"endpoint": "other"}) as journal:
        assert not len(journal.entries())


def test_two_runs_at_once_are_refused(path: Path) -> None:
    with opened(path), pytest.raises(InvalidInput, match="Another run"), opened(path):
        pass


def test_anew_does_not_empty_the_journal_of_a_run(path: Path) -> None:
    before = path.read_bytes()

    with opened(path), pytest.raises(InvalidInput, match="Another run"), opened(path, anew=True):
        pass

    assert path.read_bytes() == before
