"""Reading a rotated file on from where one was: nothing twice, nothing left out unsaid."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeport.telemetry.rotated import HEAD, Position, RotatedFile

ROOM = 256 * 1024


def rows(numbers: range) -> list[bytes]:
    return [b"%06d %s" % (number, b"x" * (number % 7)) for number in numbers]


def write(file: RotatedFile, numbers: range) -> None:
    for row in rows(numbers):
        file.append(row + b"\n")


def everything(file: RotatedFile, after: Position | None, *, lines: int) -> list[bytes]:
    found: list[bytes] = []
    while (part := file.read(after, ROOM, lines=lines)).lines:
        assert not part.lost
        found += part.lines
        after = part.next
    return found


def test_an_empty_log_has_no_position_yet(tmp_path: Path) -> None:
    file = RotatedFile(tmp_path / "log")

    first = file.newest(ROOM, lines=10)
    write(file, range(2))

    assert first.next is None
    assert first.lines == ()
    assert list(file.read(first.next, ROOM, lines=10).lines) == rows(range(2))


def test_the_newest_lines_and_then_what_follows(tmp_path: Path) -> None:
    file = RotatedFile(tmp_path / "log")
    write(file, range(10))

    newest = file.newest(ROOM, lines=3)
    write(file, range(10, 12))
    rest = file.read(newest.next, ROOM, lines=10)

    assert list(newest.lines) == rows(range(7, 10))
    assert list(rest.lines) == rows(range(10, 12))
    assert file.read(rest.next, ROOM, lines=10).lines == ()
    assert file.newest(ROOM, lines=0).lines == ()


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.integers(0, 25), min_size=1, max_size=12),
    lines=st.integers(1, 40),
    room=st.integers(20, 400),
)
def test_a_reader_that_keeps_up_sees_every_line_once(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], lines: int, room: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    file = RotatedFile(path, limit=300, keep=3)
    at = None
    seen: list[bytes] = []
    written = 0
    for step in steps:
        write(file, range(written, written + step))
        written += step
        while (part := file.read(at, room, lines=lines)).lines:
            assert not part.lost
            seen += part.lines
            at = part.next
        file.close()
        file = RotatedFile(path, limit=300, keep=3)  # another life of the server
    file.close()

    assert seen == rows(range(written))


def test_a_position_stays_true_while_its_file_is_renamed(tmp_path: Path) -> None:
    file = RotatedFile(tmp_path / "log", limit=100, keep=3)
    write(file, range(5))
    at = file.newest(ROOM, lines=0).next

    write(file, range(5, 20))

    assert (tmp_path / "log.1").exists()
    assert everything(file, at, lines=4) == rows(range(5, 20))


def test_lines_that_were_removed_before_they_were_read_are_told(tmp_path: Path) -> None:
    file = RotatedFile(tmp_path / "log", limit=100, keep=2)
    write(file, range(3))
    at = file.newest(ROOM, lines=0).next

    write(file, range(3, 60))
    part = file.read(at, ROOM, lines=1000)

    assert part.lost
    assert list(part.lines) == rows(range(60 - len(part.lines), 60))
    assert not file.read(part.next, ROOM, lines=1000).lost


def test_an_unfinished_line_waits_for_its_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"1 whole\n2 beg")
    file = RotatedFile(path)

    first = file.read(None, ROOM, lines=10)
    newest = file.newest(ROOM, lines=10)
    with path.open("ab") as more:
        more.write(b"un\n")

    assert first.lines == newest.lines == (b"1 whole",)
    assert first.next == newest.next
    assert file.read(first.next, ROOM, lines=10).lines == (b"2 begun",)


def test_a_line_that_is_longer_than_the_room_is_cut_and_passed(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"1 " + b"y" * (2 * HEAD) + b"\n2 next\n")
    file = RotatedFile(path)

    at: Position | None = None
    found: list[bytes] = []
    while (part := file.read(at, HEAD, lines=10)).lines:
        found += part.lines
        at = part.next

    assert b"".join(found) == b"1 " + b"y" * (2 * HEAD) + b"2 next"


def test_files_that_begin_with_a_word_on_a_full_disk_are_told_apart(tmp_path: Path) -> None:
    lost = b"[lakeport] 5 bytes of output were lost: no room on the disk\n"
    (tmp_path / "log.1").write_bytes(lost + b"1 old\n")
    (tmp_path / "log").write_bytes(lost + b"2 new\n")
    file = RotatedFile(tmp_path / "log")

    assert everything(file, None, lines=1) == [
        lost.strip(),
        b"1 old",
        lost.strip(),
        b"2 new",
    ]
