"""Where host and token come from. What databricks-sdk makes of the same is compared with it."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from lakeport.client import config
from lakeport.client.config import Auth, Config, clean_host, load
from lakeport.client.errors import ConfigError

TOKEN = "dapi-secret-1"
OTHER = "dapi-secret-2"
PROFILES = f"""
[DEFAULT]
host = https://default.example.com
token = {TOKEN}

[staging]
host = https://staging.example.com/
token = {OTHER}
; a % is no interpolation
note = 100%

[bare]
host = https://bare.example.com

[machine]
host = https://machine.example.com
client_id = c1
client_secret = s1
"""


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """A file of profiles and nothing else."""
    file = tmp_path / "cfg"
    file.write_text(PROFILES, encoding="utf-8")
    return {"DATABRICKS_CONFIG_FILE": str(file)}


def token_of(found: Config) -> str:
    return found.auth.headers()["authorization"].removeprefix("Bearer ")


@pytest.mark.parametrize(
    ("arguments", "variables", "host", "token"),
    [
        ({"host": "https://a.example.com", "token": "t1"}, {}, "https://a.example.com", "t1"),
        ({}, {"DATABRICKS_HOST": "a.example.com", "DATABRICKS_TOKEN": "t1"},
         "https://a.example.com", "t1"),
        ({"token": "t2"}, {"DATABRICKS_HOST": "a.example.com", "DATABRICKS_TOKEN": "t1"},
         "https://a.example.com", "t2"),
        ({}, {}, "https://default.example.com", TOKEN),
        ({"profile": "staging"}, {}, "https://staging.example.com", OTHER),
        ({}, {"DATABRICKS_CONFIG_PROFILE": "staging"}, "https://staging.example.com", OTHER),
        ({"profile": "staging"}, {"DATABRICKS_CONFIG_PROFILE": "bare"},
         "https://staging.example.com", OTHER),
        ({"profile": "staging"}, {"DATABRICKS_TOKEN": "t1"}, "https://staging.example.com", "t1"),
        ({"profile": "bare", "token": "t1"}, {}, "https://bare.example.com", "t1"),
        ({}, {"DATABRICKS_HOST": "a.example.com", "DATABRICKS_TOKEN": "t1",
              "DATABRICKS_CLIENT_ID": "c", "DATABRICKS_CLIENT_SECRET": "s"},
         "https://a.example.com", "t1"),
        ({}, {"DATABRICKS_HOST": "a.example.com", "DATABRICKS_TOKEN": "t1",
              "DATABRICKS_AUTH_TYPE": "pat"}, "https://a.example.com", "t1"),
    ],
)  # fmt: skip
def test_arguments_then_environment_then_profile(
    arguments: Mapping[str, str],
    variables: Mapping[str, str],
    host: str,
    token: str,
    environ: dict[str, str],
) -> None:
    found = load(**arguments, environ={**environ, **variables})

    assert (found.host, token_of(found)) == (host, token)


@pytest.mark.parametrize("name", [None, "staging"])
def test_databricks_sdk_reads_the_same(
    name: str | None, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sdk = pytest.importorskip("databricks.sdk.config")
    for variable in ("DATABRICKS_HOST", "DATABRICKS_TOKEN", "DATABRICKS_CONFIG_PROFILE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(sdk.Config, "_resolve_host_metadata", lambda _: None, raising=False)
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", environ["DATABRICKS_CONFIG_FILE"])

    theirs = sdk.Config(profile=name)
    ours = load(profile=name, environ=environ)

    assert ours.host == theirs.host.rstrip("/")
    assert ours.auth.headers()["authorization"] == theirs.authenticate()["Authorization"]


def test_a_default_that_the_file_names(environ: dict[str, str]) -> None:
    file = Path(environ["DATABRICKS_CONFIG_FILE"])
    file.write_text("[__settings__]\ndefault_profile = staging\n" + PROFILES, encoding="utf-8")

    assert load(environ=environ).host == "https://staging.example.com"


def test_an_unknown_profile_names_those_that_there_are(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="'prod'; there are: DEFAULT, staging, bare, machine"):
        load(profile="prod", environ=environ)


def test_a_profile_without_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        load(profile="x", environ={"DATABRICKS_CONFIG_FILE": str(tmp_path / "none")})


def test_a_broken_file_shows_its_line_and_no_token(environ: dict[str, str]) -> None:
    file = Path(environ["DATABRICKS_CONFIG_FILE"])
    file.write_text(f"[DEFAULT]\nhost = x\n{TOKEN}\n", encoding="utf-8")

    with pytest.raises(ConfigError, match="no file of profiles") as caught:
        load(environ=environ)

    assert TOKEN not in str(caught.value)
    assert caught.value.__cause__ is None


def test_nothing_at_all(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"DATABRICKS_HOST and DATABRICKS_TOKEN"):
        load(environ={"DATABRICKS_CONFIG_FILE": str(tmp_path / "none")})


def test_a_file_with_a_byte_order_mark(environ: dict[str, str]) -> None:
    file = Path(environ["DATABRICKS_CONFIG_FILE"])
    file.write_text(PROFILES.lstrip(), encoding="utf-8-sig")

    assert token_of(load(environ=environ)) == TOKEN


def test_an_empty_token_is_named_at_once(environ: dict[str, str]) -> None:
    environ |= {"DATABRICKS_HOST": "a.example.com", "DATABRICKS_TOKEN": ""}

    with pytest.raises(ConfigError, match="DATABRICKS_TOKEN is empty"):
        load(environ=environ)
    # It is no more than a missing one where there is another.
    assert token_of(load(token="t1", environ=environ)) == "t1"
    assert token_of(load(profile="staging", environ=environ)) == OTHER


def test_a_token_without_a_host() -> None:
    with pytest.raises(ConfigError, match="DATABRICKS_HOST"):
        load(token="t", environ={})


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"DATABRICKS_RUNTIME_VERSION": "17.3"}, "No token"),
        ({"DATABRICKS_HOST": "a.example.com"}, "No token"),
        ({"DATABRICKS_HOST": "a.example.com", "DATABRICKS_CLIENT_ID": "c"}, "without a token"),
        ({"DATABRICKS_CONFIG_PROFILE": "machine"}, "without a token"),
        ({"DATABRICKS_HOST": "a.example.com", "ARM_CLIENT_ID": "c"}, "without a token"),
    ],
)
def test_without_databricks_sdk_the_message_says_how_to_get_it(
    variables: dict[str, str],
    says: str,
    environ: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "databricks.sdk.config", None)
    if "DATABRICKS_CONFIG_PROFILE" not in variables:
        environ = {"DATABRICKS_CONFIG_FILE": str(tmp_path / "none")}

    with pytest.raises(ConfigError, match=says) as caught:
        load(environ=environ | variables)

    assert "pip install 'lakeport[databricks]'" in str(caught.value)


@pytest.mark.parametrize(
    ("given", "host"),
    [
        ("adb-1.2.azuredatabricks.net", "https://adb-1.2.azuredatabricks.net"),
        ("https://adb-1.2.azuredatabricks.net/", "https://adb-1.2.azuredatabricks.net"),
        ("https://x.example.com/?o=123#secrets", "https://x.example.com"),
        ("http://127.0.0.1:8765", "http://127.0.0.1:8765"),
        ("http://[::1]:8765/", "http://[::1]:8765"),
        ("HTTP://LocalHost:80", "http://localhost:80"),
        ("  x.example.com:8443 ", "https://x.example.com:8443"),
    ],
)
def test_hosts(given: str, host: str) -> None:
    assert clean_host(given) == host


@pytest.mark.parametrize(
    "given",
    ["https://", "ftp://x", "http://x:port", "http://x:99999", "x y", "http://ü.example.com",
     "http://x:", "http://[::1", "https://me:secret-3@x.example.com"],
)  # fmt: skip
def test_hosts_that_are_none(given: str) -> None:
    with pytest.raises(ConfigError, match="host") as caught:
        clean_host(given)

    assert "secret-3" not in str(caught.value)


@pytest.mark.parametrize("token", ["", "two words", "line\nbreak", "ü", "\x00"])
def test_tokens_that_are_none_are_not_shown(token: str) -> None:
    with pytest.raises(ConfigError, match="token") as caught:
        Auth.of(token)

    assert not token or token not in str(caught.value)


def test_a_callable_is_asked_for_each_request() -> None:
    tokens = iter(["t1", "t2"])
    auth = Auth.of(lambda: next(tokens))

    assert [auth.headers()["authorization"] for _ in range(2)] == ["Bearer t1", "Bearer t2"]


def test_a_coroutine_function_is_for_the_async_client() -> None:
    async def token() -> str:
        return "t"

    assert Auth.of(token).waits
    with pytest.raises(ConfigError, match="AsyncClient"):
        Auth.of(token).headers()


def test_nothing_shows_a_token() -> None:
    found = load("https://x.example.com", TOKEN, environ={})

    assert TOKEN not in repr(found)
    assert TOKEN not in repr(found.auth)


def test_the_sdk_is_asked_for_the_headers_of_each_request(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sdk = pytest.importorskip("databricks.sdk.config")

    class Fake:
        host = "https://machine.example.com/"
        given: Mapping[str, object] = {}
        asked = 0

        def __init__(self, **given: object) -> None:
            type(self).given = given

        def authenticate(self) -> dict[str, str]:
            type(self).asked += 1
            return {"Authorization": f"Bearer t{self.asked}", "X-Extra": "1"}

    monkeypatch.setattr(sdk, "Config", Fake)

    found = load(profile="machine", environ=environ)

    assert found.host == "https://machine.example.com"
    assert Fake.given["profile"] == "machine"
    assert [found.auth.headers() for _ in range(2)] == [
        {"authorization": f"Bearer t{n}", "x-extra": "1"} for n in (1, 2)
    ]


def test_what_the_sdk_says_is_told_without_its_dump(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sdk = pytest.importorskip("databricks.sdk.config")

    def fail(**_: object) -> object:
        raise ValueError("no way. Config: host=x, token=***. Env: DATABRICKS_HOST")

    monkeypatch.setattr(sdk, "Config", fail)

    with pytest.raises(ConfigError, match="no way") as caught:
        load(profile="machine", environ=environ)

    assert "***" not in str(caught.value)


def test_the_module_reads_the_environment_when_it_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABRICKS_HOST", "late.example.com")
    monkeypatch.setenv("DATABRICKS_TOKEN", "t")

    assert config.load().host == "https://late.example.com"
