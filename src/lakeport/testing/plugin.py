"""The pytest plugin: options and fixtures. Every run of pytest imports it, so it imports nothing
else of ours until a workspace is asked for."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from lakeport.testing.session import Session
    from lakeport.testing.workspace import Workspace

_SESSION = pytest.StashKey["Session"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("lakeport")
    group.addoption(
        "--lakeport",
        dest="lakeport_start",
        action="store_true",
        help="Start a Lakeport workspace before tests are collected, for applications that make "
        "their client when they are imported.",
    )
    parser.addini("lakeport", "Start a workspace before tests are collected.", type="bool")
    parser.addini(
        "lakeport_http_timeout",
        "Seconds that databricks-sdk waits for an answer of the workspace (10; an hour with --pdb "
        "or --trace, so that a breakpoint may be looked at).",
    )
    parser.addini(
        "lakeport_python",
        "A Python that has lakeport[server], where the tests' own environment has not.",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Before the first conftest.py, which may import the application."""
    _enter(early_config)


def pytest_configure(config: pytest.Config) -> None:
    """Before collection, where the plugin was named in a conftest.py only."""
    _enter(config)


def pytest_report_header(config: pytest.Config) -> str | None:
    session = config.stash.get(_SESSION, None)
    return None if session is None else f"lakeport: {session.url}"


@pytest.fixture(scope="session")
def _lakeport_session(pytestconfig: pytest.Config) -> "Session":
    try:
        return _session_of(pytestconfig)
    except pytest.UsageError as error:
        why = str(error)
    pytest.fail(why, pytrace=False)  # no traceback of ours before the server's own words


@pytest.fixture(scope="session")
def lakeport_session_workspace(_lakeport_session: "Session") -> "Iterator[Workspace]":
    """A live Lakeport workspace that all tests share; its environment stays from its first use."""
    from lakeport.testing.workspace import Workspace  # noqa: PLC0415

    with _lakeport_session.entered():
        workspace = Workspace(_lakeport_session)
        yield workspace
        workspace.close()


@pytest.fixture
def lakeport_workspace(
    _lakeport_session: "Session", monkeypatch: pytest.MonkeyPatch
) -> "Iterator[Workspace]":
    """A live Lakeport workspace, with a token, whose endpoints, faults, calls and environment are
    gone at the test's end."""
    from lakeport.testing.workspace import Workspace  # noqa: PLC0415

    with _lakeport_session.isolated(), _lakeport_session.entered(monkeypatch):
        workspace = Workspace(_lakeport_session)
        yield workspace
        workspace.close()


def _enter(config: pytest.Config) -> None:
    """Start a workspace for the whole run, with its environment, where that is wanted."""
    options = config.known_args_namespace
    wanted = options.lakeport_start or config.getini("lakeport")
    if not wanted or options.help or _SESSION in config.stash or _hands_tests_out(config):
        return
    session = _session_of(config)
    ends = ExitStack()
    ends.enter_context(session.entered())
    config.add_cleanup(ends.close)


def _session_of(config: pytest.Config) -> "Session":
    """The run's one server, started when it is first asked for. Raises UsageError."""
    found = config.stash.get(_SESSION, None)
    if found is not None:
        return found
    from lakeport.testing.server import ServerFailed  # noqa: PLC0415
    from lakeport.testing.session import Session  # noqa: PLC0415

    try:
        session = Session(
            python=config.getini("lakeport_python") or None, http_timeout=_http_timeout(config)
        )
    except ServerFailed as error:
        raise pytest.UsageError(str(error)) from None
    config.stash[_SESSION] = session
    config.add_cleanup(session.close)
    return session


def _http_timeout(config: pytest.Config) -> int:
    given = config.getini("lakeport_http_timeout")
    if given:
        if not given.isdigit() or int(given) < 1:
            raise pytest.UsageError(f"lakeport_http_timeout: expected seconds, not {given!r}.")
        return int(given)
    options = config.known_args_namespace
    return 3600 if options.usepdb or options.trace else 10


def _hands_tests_out(config: pytest.Config) -> bool:
    """Whether this process only hands tests to the workers of pytest-xdist, which have a workspace
    each."""
    options = config.known_args_namespace
    if "PYTEST_XDIST_WORKER" in os.environ or options.usepdb:  # pdb has xdist hand out nothing
        return False
    return bool(getattr(options, "numprocesses", None) or getattr(options, "tx", None))
