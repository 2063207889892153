"""The machine's package indexes, as `uv` takes them.

`uv` has settings of its own and reads none of pip's. A machine on which `pip install` works by
pip's variables or its `pip.conf` must build model environments too, so those are translated.
What is said in uv's own words wins.
"""

import configparser
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from lakeport.processes.environment import scrubbed

#: pip's option, uv's variable, and what separates the values of a list there.
TRANSLATED = (
    ("index-url", "UV_DEFAULT_INDEX", ""),
    ("extra-index-url", "UV_INDEX", " "),
    ("find-links", "UV_FIND_LINKS", ","),
    ("constraint", "UV_CONSTRAINT", " "),
    ("trusted-host", "UV_INSECURE_HOST", " "),
    ("timeout", "UV_HTTP_TIMEOUT", ""),
    ("cert", "SSL_CERT_FILE", ""),
)
#: uv's older names: given, they are the machine's word as well.
OLDER = {"UV_DEFAULT_INDEX": "UV_INDEX_URL", "UV_INDEX": "UV_EXTRA_INDEX_URL"}
#: uv finds its cache, its settings and credentials for indexes by these.
OWN = ("HOME", "NETRC", "XDG_CACHE_HOME", "XDG_CONFIG_DIRS", "XDG_CONFIG_HOME", "XDG_DATA_HOME")


def uv_environment(
    extra: Mapping[str, str] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    pip: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The environment for `uv`, scrubbed, with the machine's settings for package indexes.

    `pip` is pip's options (`pip_options(environ)`).
    """
    own = os.environ if environ is None else environ
    env = scrubbed(environ=own)
    env |= {name: own[name] for name in own if name in OWN or name.startswith("UV_")}
    options = pip_options(own) if pip is None else pip
    for option, name, separator in TRANSLATED:
        value = options.get(option, "").split()
        if value and name not in env and OLDER.get(name, "") not in env:
            env[name] = separator.join(value) if separator else value[0]
            if name == "UV_INDEX":
                # As pip does: every index counts the same, and the best release is taken.
                env.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    return env | dict(extra or {})


def uv_arguments(
    *, environ: Mapping[str, str] | None = None, pip: Mapping[str, str] | None = None
) -> list[str]:
    """What of pip's settings uv takes as an argument of `uv pip install` only."""
    own = os.environ if environ is None else environ
    options = pip_options(own) if pip is None else pip
    return ["--no-index"] if options.get("no-index") else []


def pip_options(environ: Mapping[str, str]) -> dict[str, str]:
    """pip's options by their long names, from its files and, above them, its `PIP_` variables."""
    options: dict[str, str] = {}
    for file in _pip_files(environ):
        parser = configparser.RawConfigParser()
        try:
            parser.read(file, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue  # pip itself would refuse to run; uv can do without it
        for section in ("global", "install"):
            if parser.has_section(section):
                options |= {name.replace("_", "-"): v for name, v in parser.items(section)}
    for name, value in environ.items():
        if name.startswith("PIP_") and value:
            options[name.removeprefix("PIP_").lower().replace("_", "-")] = value
    if "default-timeout" in options:
        options.setdefault("timeout", options["default-timeout"])
    if options.get("no-index", "").lower() in {"0", "false", "no", "off"}:
        del options["no-index"]
    return options


def _pip_files(environ: Mapping[str, str]) -> Iterator[Path]:
    """Where pip looks, lowest precedence first."""
    if environ.get("PIP_CONFIG_FILE") == os.devnull:
        return
    home = Path(environ.get("HOME") or "/nonexistent")
    for folder in environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":"):
        yield Path(folder) / "pip/pip.conf"
    yield Path("/etc/pip.conf")
    if sys.platform == "darwin":
        yield Path("/Library/Application Support/pip/pip.conf")
        yield home / "Library/Application Support/pip/pip.conf"
    yield home / ".pip/pip.conf"
    yield Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "pip/pip.conf"
    yield Path(sys.prefix) / "pip.conf"
    if environ.get("PIP_CONFIG_FILE"):
        yield Path(environ["PIP_CONFIG_FILE"])
