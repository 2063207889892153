"""What a child may see of the server's environment, and how uv learns of pip's indexes."""

from pathlib import Path

import pytest

from lakeport.processes.environment import scrubbed
from lakeport.processes.indexes import pip_options, uv_arguments, uv_environment

SECRETS = {
    "LAKEPORT_ADMIN_TOKEN": "t",
    "DATABRICKS_TOKEN": "t",
    "DATABRICKS_HOST": "h",
    "AWS_SECRET_ACCESS_KEY": "k",
    "AZURE_CLIENT_SECRET": "k",
    "MLFLOW_TRACKING_PASSWORD": "p",
    "MLFLOW_TRACKING_TOKEN": "p",
    "OPENAI_API_KEY": "k",
    "GITHUB_TOKEN": "g",
    "HOME": "/home/operator",
    "PYTHONPATH": "/somewhere",
    "LD_PRELOAD": "/somewhere.so",
}
PASSED = {
    "PATH": "/bin",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    "TMPDIR": "/tmp",
    "https_proxy": "http://proxy",
    "NO_PROXY": "localhost",
    "SSL_CERT_FILE": "/ca.pem",
    "OMP_NUM_THREADS": "2",
    "OPENBLAS_CORETYPE": "Haswell",
    "CUDA_VISIBLE_DEVICES": "0",
    "LD_LIBRARY_PATH": "/lib",
}
INDEXES = {
    "PIP_INDEX_URL": "https://u:p@index.example/simple",
    "UV_EXTRA_INDEX_URL": "https://more.example/simple",
}


def test_a_child_sees_what_is_listed_and_nothing_else() -> None:
    assert scrubbed(environ=SECRETS | PASSED | INDEXES) == PASSED


def test_what_is_given_on_purpose_wins() -> None:
    assert scrubbed({"TZ": "CET", "X": "1"}, environ={"TZ": "UTC"}) == {"TZ": "CET", "X": "1"}


def test_uv_sees_the_indexes_and_the_home_but_no_secret() -> None:
    env = uv_environment(environ=SECRETS | PASSED | {"UV_OFFLINE": "1"}, pip={})

    assert env == PASSED | {"HOME": "/home/operator", "UV_OFFLINE": "1"}


@pytest.mark.parametrize(
    ("pip", "uv"),
    [
        ({}, {}),
        ({"index-url": "https://a/simple"}, {"UV_DEFAULT_INDEX": "https://a/simple"}),
        (
            {"extra-index-url": "https://b/simple\nhttps://c/simple"},
            {
                "UV_INDEX": "https://b/simple https://c/simple",
                "UV_INDEX_STRATEGY": "unsafe-best-match",
            },
        ),
        ({"find-links": "/wheels /more"}, {"UV_FIND_LINKS": "/wheels,/more"}),
        ({"cert": "/ca.pem"}, {"SSL_CERT_FILE": "/ca.pem"}),
        ({"constraint": "/c.txt"}, {"UV_CONSTRAINT": "/c.txt"}),
        ({"trusted-host": "a b"}, {"UV_INSECURE_HOST": "a b"}),
        ({"timeout": "180"}, {"UV_HTTP_TIMEOUT": "180"}),
    ],
)
def test_pips_settings_become_uvs(pip: dict[str, str], uv: dict[str, str]) -> None:
    assert uv_environment(environ={}, pip=pip) == uv


def test_a_machine_without_an_index_stays_without_one() -> None:
    assert uv_arguments(environ={"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": "/dev/null"}) == [
        "--no-index"
    ]
    assert uv_arguments(environ={}, pip={}) == []


@pytest.mark.parametrize(
    "said",
    [
        {"UV_DEFAULT_INDEX": "https://own/simple"},
        {"UV_INDEX_URL": "https://own/simple"},
    ],
)
def test_uvs_own_settings_win(said: dict[str, str]) -> None:
    assert uv_environment(environ=said, pip={"index-url": "https://a/simple"}) == said


def test_pips_options_come_from_its_files_and_its_variables(tmp_path: Path) -> None:
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://file/simple\ncert = /file.pem\nno-index = false\n"
        "[install]\nfind-links =\n    /wheels\n    /more\n"
    )
    environ = {
        "PIP_CONFIG_FILE": str(config),
        "PIP_INDEX_URL": "https://variable/simple",
        "PIP_DEFAULT_TIMEOUT": "180",
    }

    options = pip_options(environ)

    assert options["index-url"] == "https://variable/simple"
    assert options["cert"] == "/file.pem"
    assert options["find-links"].split() == ["/wheels", "/more"]
    assert options["timeout"] == "180"
    assert "no-index" not in options


def test_a_broken_pip_conf_stops_nobody(tmp_path: Path) -> None:
    config = tmp_path / "pip.conf"
    config.write_bytes(b"\xff\xfe no section")

    pip_options({"PIP_CONFIG_FILE": str(config)})
