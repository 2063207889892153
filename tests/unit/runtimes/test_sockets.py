"""Sockets have short paths, wherever the home is."""

import os
import socket
from pathlib import Path

from lakeport.runtimes.local.sockets import LONGEST, SocketFolder


def listen(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def test_a_deep_home_gets_a_folder_elsewhere_which_goes_at_close(tmp_path: Path) -> None:
    sockets = SocketFolder(tmp_path / ("deep" * 30) / "run")
    sockets.open()

    path = sockets.socket("0" * 16)

    assert len(os.fsencode(path)) <= LONGEST
    assert path.parent.stat().st_mode & 0o777 == 0o700
    listen(path)
    sockets.close()
    assert not path.parent.exists()


def test_what_an_earlier_life_left_is_removed(tmp_path: Path) -> None:
    run = tmp_path / ("deep" * 30)
    killed = SocketFolder(run)
    killed.open()
    left = killed.socket("0" * 16)
    listen(left)

    later = SocketFolder(run)
    later.open()

    assert not left.parent.exists()
    later.close()


def test_a_note_cannot_make_it_remove_anything_else(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    precious = tmp_path / "precious"
    precious.mkdir()
    (run / "socket-folder").write_text(str(precious))

    sockets = SocketFolder(run)
    sockets.open()
    sockets.close()

    assert precious.is_dir()


def test_a_short_home_holds_its_own_sockets(tmp_path_factory: object) -> None:
    import tempfile

    with tempfile.TemporaryDirectory(dir="/tmp") as home:
        sockets = SocketFolder(Path(home) / "run")
        sockets.open()

        path = sockets.socket("0" * 16)

        assert path.is_relative_to(home)
        assert path.parent.stat().st_mode & 0o777 == 0o700
        sockets.close()
