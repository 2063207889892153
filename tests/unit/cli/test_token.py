"""`lakeport token`, on a home with a server's own parts open beside it."""

import asyncio
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lakeport.auth.tokens import Tokens
from lakeport.cli.main import lakeport
from lakeport.home import Home
from lakeport.stores.sql import SqlStore
from lakeport.stores.sqlite import sqlite_url


async def run(*arguments: str, **environ: str) -> Result:
    """In a thread, as the command has an event loop of its own."""
    return await asyncio.to_thread(CliRunner(env=environ).invoke, lakeport, ["token", *arguments])


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.make()
    return made


@pytest.fixture
async def server(home: Home) -> AsyncIterator[Tokens]:
    """Tokens as a running server holds them, with the home locked."""
    with home.locked():
        store = SqlStore(sqlite_url(home.database))
        await store.open()
        tokens = Tokens(store, changes=home.token_changes)
        await tokens.start(home.admin_token)
        yield tokens
        await store.close()


async def test_it_prints_just_a_token_that_the_running_server_knows(
    home: Home, server: Tokens
) -> None:
    result = await run("--home", str(home.path))

    assert result.exit_code == 0
    assert result.stderr == ""
    token = result.stdout.removesuffix("\n")
    assert token.isalnum()
    who = await server.refresh_authenticate(b"Bearer " + token.encode())
    assert (who.name, who.admin) == ("admin", True)


async def test_it_is_for_whom_one_says(home: Home, server: Tokens) -> None:
    result = await run(
        "--caller", "ada@example.com", "--group", "a", "--group", "b", "--comment", "notebook",
        "--lifetime-seconds", "60",
        LAKEPORT_HOME=str(home.path),
    )  # fmt: skip

    who = await server.refresh_authenticate(b"Bearer " + result.stdout.strip().encode())
    assert who.name == "ada@example.com"
    assert who.groups == {"a", "b", "users"}
    assert not who.admin
    (record,) = await server.list(who)
    assert record.comment == "notebook"
    assert record.expires_at == record.created_at + 60_000


async def test_it_leaves_nothing_that_others_may_read(home: Home, server: Tokens) -> None:
    result = await run("--home", str(home.path))

    files = [path for path in home.path.iterdir() if path.is_file()]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert not any(result.stdout.strip().encode() in file.read_bytes() for file in files)


async def test_a_home_that_is_none_is_told_and_left_alone(tmp_path: Path) -> None:
    result = await run("--home", str(tmp_path / "none"))

    assert result.exit_code == 1
    assert "start `lakeport serve` once" in result.stderr
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--caller", ""], 1, "1 to 255 printable characters"),
        (["--group", "a\nb"], 1, "1 to 255 printable characters"),
        (["--lifetime-seconds", "0"], 2, "0 is not in the range"),
        (["--lifetime-seconds", "9" * 30], 1, "lifetime_seconds must be between"),
    ],
)
async def test_what_cannot_be_is_told_in_one_line(
    home: Home, server: Tokens, arguments: list[str], status: int, said: str
) -> None:
    result = await run("--home", str(home.path), *arguments)

    assert (result.exit_code, result.stdout) == (status, "")
    assert said in result.stderr
