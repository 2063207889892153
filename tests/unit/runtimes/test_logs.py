"""Logs: marked, rotated, kept past the replica, and harmless when the disk is full."""

import errno
import os
import time
from datetime import UTC, datetime
from pathlib import Path

from lakeport.runtimes.local.logs import FORGOTTEN, KEEP_DAYS, NEWEST, Lines, Logs
from lakeport.telemetry.rotated import RotatedFile

NOON = datetime(2026, 1, 2, 12, 0, 0, 345000, UTC)


class Disk:
    """Writes as `os.write` does while it has room."""

    def __init__(self) -> None:
        self.room = 1 << 40

    def write(self, descriptor: int, data: bytes) -> int:
        if self.room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = os.write(descriptor, data[: self.room])
        self.room -= written
        return written


def test_lines_carry_time_and_writer(tmp_path: Path) -> None:
    file = RotatedFile(tmp_path / "log")
    lines = Lines(file, "r1", now=lambda: NOON)

    lines.feed(b"one\ntw")
    lines.feed(b"o\nthr")
    lines.end()

    assert file.tail(NEWEST).decode().splitlines() == [
        "2026-01-02T12:00:00.345Z [r1] one",
        "2026-01-02T12:00:00.345Z [r1] two",
        "2026-01-02T12:00:00.345Z [r1] thr",
    ]


def test_a_progress_bar_is_one_line_without_colours(tmp_path: Path) -> None:
    lines = Lines(RotatedFile(tmp_path / "log"))

    lines.feed(b"10%\r50%\r\x1b[32m100%\x1b[0m\r\nbad \xff byte\n")

    assert list(lines.last) == ["100%", "bad � byte"]


def test_a_line_without_end_is_cut(tmp_path: Path) -> None:
    lines = Lines(RotatedFile(tmp_path / "log"))

    for _ in range(40):
        lines.feed(b"x" * 4096)

    assert len(lines.last) == 2


def test_the_newest_lines_come_over_all_files_up_to_a_bound(tmp_path: Path) -> None:
    file = RotatedFile(tmp_path / "log", limit=1000, keep=3)

    for number in range(500):
        file.append(b"%09d\n" % number)

    kept = file.tail(NEWEST).split()
    assert [int(line) for line in kept] == list(range(500 - len(kept), 500))
    assert 200 <= len(kept) <= 300
    assert file.tail(55).split() == kept[-5:]
    assert file.tail(1500).split() == kept[-150:] or file.tail(1500).split() == kept[-149:]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.1", "log.2"]


def test_a_full_disk_loses_lines_and_nothing_else(tmp_path: Path) -> None:
    disk = Disk()
    file = RotatedFile(tmp_path / "log", write=disk.write)
    file.append(b"before\n")

    disk.room = 4
    file.append(b"lost\n")
    file.append(b"lost too\n")
    disk.room = 1 << 20
    file.append(b"after\n")
    file.append(b"and on\n")

    assert file.tail(NEWEST).decode().splitlines() == [
        "before",
        "lost",
        "[lakeport] 14 bytes of output were lost: no room on the disk",
        "after",
        "and on",
    ]


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    file = RotatedFile(tmp_path / "file" / "log")

    file.append(b"lost\n")

    assert file.lost == 5
    assert file.tail(NEWEST) == b""


def test_logs_outlive_the_replica_and_the_server(tmp_path: Path) -> None:
    logs = Logs(tmp_path)
    logs.open()
    first = logs.replica("d", "r1")
    first.feed(b"from one\n")
    first.end()
    second = logs.replica("d", "r2")
    second.feed(b"from two\nnot ended")
    logs.build("d").say("built")

    text = logs.text("d")

    assert [line.split(" ", 1)[1] for line in text.splitlines()] == [
        "[r1] from one",
        "[r2] from two",
        "[r2] not ended",
    ]
    second.end()
    logs.close()
    again = Logs(tmp_path)
    assert "[r1] from one" in again.text("d")
    assert again.build_text("d").endswith(" built\n")
    assert again.text("unknown") == ""


def test_forgotten_logs_go_after_a_month(tmp_path: Path) -> None:
    logs = Logs(tmp_path)
    for name in ("old", "young", "living"):
        logs.build(name).say("x")
    logs.forget("old")
    logs.forget("young")
    logs.forget("never was")
    long_ago = time.time() - (KEEP_DAYS + 1) * 24 * 3600
    os.utime(tmp_path / "old" / FORGOTTEN, (long_ago, long_ago))

    Logs(tmp_path).open()

    assert sorted(path.name for path in tmp_path.iterdir()) == ["living", "young"]


def test_an_id_never_leads_out_of_the_folder(tmp_path: Path) -> None:
    logs = Logs(tmp_path / "logs")

    for id in ("../escaped", "a/b", "..", ".", "x" * 300, "name with space", "\x00"):
        logs.build(id).say("x")
        assert logs.build_text(id).endswith("x\n")

    assert [path.name for path in tmp_path.iterdir()] == ["logs"]
