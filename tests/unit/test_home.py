import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from lakeport.home import Home, HomeError, HomeInUse, write_private


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_folders_are_private_and_making_them_again_changes_nothing(tmp_path: Path) -> None:
    home = Home(tmp_path / "deep" / "home")

    home.make()
    (home.models / "kept").touch()
    home.models.chmod(0o755)
    home.make()

    folders = [home.path, home.artifacts, home.models, home.envs, home.logs, home.run]
    assert {mode(folder) for folder in folders} == {0o700}
    assert (home.models / "kept").exists()
    assert all(folder.parent == home.path for folder in folders[1:-1])


def test_sockets_get_a_short_path_whatever_the_homes() -> None:
    short, long = Home(Path("/srv/lakeport")), Home(Path("/srv") / ("x" * 200))

    assert short.run == Path("/srv/lakeport/run")
    assert len(os.fsencode(long.run)) < 50
    assert long.run == Home(Path("/srv") / ("x" * 200)).run
    assert long.run != Home(Path("/srv") / ("y" * 200)).run


def test_a_folder_that_everybody_may_write_to_is_refused(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)

    with pytest.raises(HomeError, match="Everybody may write"):
        Home(shared).make()

    assert list(shared.iterdir()) == []


def test_a_file_in_the_way_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "home").mkdir(mode=0o700)
    (tmp_path / "home" / "models").touch()

    with pytest.raises(HomeError, match="file"):
        Home(tmp_path / "file").make()
    with pytest.raises(HomeError, match="models"):
        Home(tmp_path / "home").make()


def test_a_second_server_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.make()

    with home.locked():
        with pytest.raises(HomeInUse, match=rf"pid {os.getpid()}\).*--home"), home.locked():
            pass
        assert mode(home.lock_file) == 0o600

    with home.locked():
        pass


def test_the_lock_goes_with_a_killed_server(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.make()
    code = (
        "import sys; from pathlib import Path; from lakeport.home import Home\n"
        "with Home(Path(sys.argv[1])).locked():\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(home.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"held\n"
        with pytest.raises(HomeInUse, match=f"pid {server.pid}"), home.locked():
            pass
        server.kill()
        server.wait()

    with home.locked():
        pass


def test_children_do_not_keep_the_lock(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.make()
    code = "import sys; print('up', flush=True); sys.stdin.read()"
    with home.locked():
        child = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"

    with child, home.locked():
        child.kill()


def test_a_private_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("old")
    file.chmod(0o644)
    (tmp_path / ".secret.part").write_text("left by a crash")

    write_private(file, "new")

    assert file.read_text() == "new"
    assert mode(file) == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_of_sockets_outside_the_home_is_removed_when_it_is_empty(tmp_path: Path) -> None:
    home = Home(tmp_path / ("x" * 120))
    home.make()
    left = home.run / "registry.sock"
    left.touch()

    home.tidy()
    assert left.exists()

    left.unlink()
    home.tidy()
    assert not home.run.exists()
    assert home.path.exists()
