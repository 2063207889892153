from pathlib import Path

import pytest

from lakeport.cli.settings_page import page
from lakeport.settings import Settings, SettingsError, is_loopback

TOKEN = "a-token-of-some-length"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


def load(
    home: Path,
    flags: dict[str, object] | None = None,
    environ: dict[str, str] | None = None,
    toml: str | None = None,
) -> Settings:
    if toml is not None:
        (home / "lakeport.toml").write_text(toml)
    return Settings.load({"home": str(home), **(flags or {})}, environ=environ or {})


def problems(
    home: Path,
    flags: dict[str, object] | None = None,
    environ: dict[str, str] | None = None,
    toml: str | None = None,
) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as refused:
        load(home, flags, environ, toml)
    return refused.value.problems


def test_flags_count_before_the_environment_and_that_before_the_file(home: Path) -> None:
    file = "port = 1\nmax_entities = 1\nqueue_requests = 1\n"
    environ = {"LAKEPORT_PORT": "2", "LAKEPORT_MAX_ENTITIES": "2"}

    settings = load(home, {"port": "3", "auth": None}, environ, file)

    assert (settings.port, settings.max_entities, settings.queue_requests) == (3, 2, 1)
    assert settings.auth == "on"


def test_an_empty_variable_counts_as_not_set(home: Path) -> None:
    settings = load(home, {}, {"LAKEPORT_PORT": "", "LAKEPORT_ADMIN_TOKEN": ""}, "port = 1")

    assert (settings.port, settings.admin_token) == (1, None)


def test_the_home_may_come_from_anywhere_but_its_own_file(home: Path) -> None:
    other = home / "other.toml"
    other.write_text('home = "~/somewhere"\nport = 5')

    from_file = Settings.load({}, other, environ={})
    from_environ = Settings.load({}, environ={"LAKEPORT_HOME": str(home)})
    by_default = Settings.load({}, environ={})

    assert (from_file.home, from_file.port) == (Path("~/somewhere").expanduser(), 5)
    assert from_environ.home == home
    assert by_default.home == Path("~/.lakeport").expanduser()
    (said,) = problems(home, toml='home = "/elsewhere"')
    assert said.startswith("home (")
    assert "--home, LAKEPORT_HOME or --config" in said


def test_a_relative_home_is_made_absolute(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)

    assert Settings.load({"home": "here"}, environ={}).home == home / "here"


@pytest.mark.parametrize(
    ("flags", "environ", "toml"),
    [
        ({"model": ("a=./x,y", "b=models:/b/1")}, {}, None),
        ({}, {"LAKEPORT_MODEL": "a=./x,b=models:/b/1"}, None),
        ({}, {"LAKEPORT_MODEL": " a=./x , b=models:/b/1,"}, None),
        ({}, {}, 'model = ["a=./x", "b=models:/b/1"]'),
    ],
)
def test_models_are_repeated_or_with_commas(
    home: Path, flags: dict[str, object], environ: dict[str, str], toml: str | None
) -> None:
    first = "a=./x,y" if flags else "a=./x"

    assert load(home, flags, environ, toml).model == [first, "b=models:/b/1"]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("port", "80x", "'80x' is not valid: input should be a valid integer"),
        ("port", "65536", "less than or equal to 65535"),
        ("port", "-1", "greater than or equal to 0"),
        ("host", "", "at least 1 character"),
        ("auth", "maybe", "'maybe' is not valid: input should be 'on' or 'off'"),
        ("registry", "OFF", "'lazy', 'eager' or 'off'"),
        ("request_timeout", "nan", "finite number"),
        ("request_timeout", "inf", "finite number"),
        ("request_timeout", "0", "greater than 0"),
        ("model", ["iris"], "'iris' is not of the form NAME=URI"),
        ("model", ["=./x"], "NAME=URI"),
        ("model", ["iris="], "NAME=URI"),
        ("model", ["a=x", "a=y"], "'a' is named twice"),
        ("chat", ["writer"], "'writer' is not of the form NAME=TARGET; expected something like"),
        ("chat", ["a=x", "a=y"], "'a' is named twice"),
        ("embeddings", ["=x"], "expected something like minilm=system.ai.all-minilm-l6-v2"),
        ("mlflow_tracking_uri", "localhost:5000", "http:// or https://"),
        ("mlflow_tracking_uri", "http://u:p@mlflow", "credentials go to MLFLOW_TRACKING_TOKEN"),
        (
            "egress_allow",
            "10.0.0.0/33",
            "'10.0.0.0/33' is not a host name, an address or a network",
        ),
        ("egress_allow", "a.internal, http://b", "'http://b' is not a host name"),
        ("home", "~nobody-of-this-name/x", "home"),
    ],
)
def test_a_bad_value_is_named_with_what_was_expected(
    home: Path, name: str, value: object, said: str
) -> None:
    (line,) = problems(home, {name: value})

    assert line.startswith(f"{name} (--{name.replace('_', '-')}): ")
    assert said in line


@pytest.mark.parametrize("given", ["a.internal, 10.1.0.0/16", ["a.internal,10.1.0.0/16"]])
def test_hosts_may_be_written_with_commas_in_a_flag_too(home: Path, given: object) -> None:
    settings = Settings.load({"home": str(home), "egress_allow": given}, environ={})

    assert settings.egress_allow == ["a.internal", "10.1.0.0/16"]


def test_an_address_with_a_password_is_not_repeated(home: Path) -> None:
    (line,) = problems(home, {"mlflow_tracking_uri": "http://user:hunter2@mlflow"})

    assert "hunter2" not in line


def test_each_bad_setting_is_one_line_that_names_its_source(home: Path) -> None:
    lines = problems(
        home, {"port": "x"}, {"LAKEPORT_AUTH": "x", "LAKEPORT_MODEL": "a,b"}, "max_body = -1"
    )

    assert {line.partition(":")[0] for line in lines} == {
        "port (--port)",
        "auth (LAKEPORT_AUTH)",
        "model (LAKEPORT_MODEL)",
        f"max_body ({home / 'lakeport.toml'})",
    }


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("prot", "did you mean port?"),
        ("queue-requests", "did you mean queue_requests?"),
        ("admin_tokn", "did you mean admin_token?"),
        ("zzz", "docs/settings.md"),
    ],
)
def test_an_unknown_key_of_the_file_is_refused_with_a_suggestion(
    home: Path, key: str, hint: str
) -> None:
    (line,) = problems(home, toml=f'{key} = "{TOKEN}"')

    assert line == f"{key} ({home / 'lakeport.toml'}): there is no such setting; " + (
        hint if hint.startswith("did") else "docs/settings.md lists all settings"
    )


@pytest.mark.parametrize("content", [b"port = = 1", b"\xff\xfe", b"port = 1\nport = 2"])
def test_a_file_that_is_no_toml_is_refused_by_name(home: Path, content: bytes) -> None:
    (home / "lakeport.toml").write_bytes(content)

    (line,) = problems(home)

    assert "lakeport.toml is not valid TOML" in line


def test_a_file_that_was_named_must_be_there(home: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml does not exist"):
        Settings.load({}, home / "none.toml", environ={})


# Secrets


@pytest.mark.parametrize("token", ["x" * 16, "!~" * 8, "p@ss:w0rd/with=all+kinds"])
def test_a_strong_admin_token_is_taken(home: Path, token: str) -> None:
    settings = load(home, {}, {"LAKEPORT_ADMIN_TOKEN": token})

    assert settings.admin_token is not None
    assert settings.admin_token.get_secret_value() == token


@pytest.mark.parametrize(
    "token", ["x" * 15, "with spaces in the middle", "x" * 16 + "\n", "ü" * 16]
)
def test_a_weak_admin_token_is_refused_without_showing_it(home: Path, token: str) -> None:
    (line,) = problems(home, {}, {"LAKEPORT_ADMIN_TOKEN": token})

    assert line == (
        "admin_token (LAKEPORT_ADMIN_TOKEN): 16 or more printable ASCII characters without spaces "
        "are needed"
    )


def test_a_secret_of_the_wrong_type_is_not_shown(home: Path) -> None:
    (line,) = problems(home, toml="admin_token = 123456789012345678")

    assert "1234" not in line


def test_no_secret_shows_in_any_form_of_the_settings(home: Path) -> None:
    settings = load(home, {}, {"LAKEPORT_ADMIN_TOKEN": TOKEN})

    assert TOKEN not in f"{settings!r} {settings} {settings.model_dump()}"


# Without authentication


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost"])
def test_authentication_may_be_off_on_this_machine(home: Path, host: str) -> None:
    assert load(home, {"auth": "off", "host": host}).auth == "off"


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.168.1.2", "example.com", "127.0.0.1.nip.io"]
)
def test_authentication_cannot_be_off_where_others_reach_it(home: Path, host: str) -> None:
    (line,) = problems(home, {"host": host}, {"LAKEPORT_AUTH": "off"})

    assert line.startswith("auth (LAKEPORT_AUTH): 'off' is not valid: without authentication")
    assert host in line
    assert not is_loopback(host)


# The page


def test_the_page_of_settings_is_up_to_date() -> None:
    file = Path(__file__).parents[2] / "docs" / "settings.md"

    assert file.read_text() == page(), (
        "run: python -m lakeport.cli.settings_page > docs/settings.md"
    )
