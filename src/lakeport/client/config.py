"""Where the workspace is, and as whom to ask: from arguments, the environment, and profiles.

Tokens are read here. What needs more (OAuth, Azure, a browser …) is databricks-sdk's own matter:
its `Config` is asked for the headers of each request.
"""

import configparser
import inspect
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lakeport.client.errors import ConfigError, Unauthenticated

#: A token, or what gives one.
Token = str | Callable[[], str] | Callable[[], Awaitable[str]]

_FILE = "~/.databrickscfg"
#: Fields of a profile that databricks-sdk needs to sign in without a token.
_OTHER_WAYS = (
    "auth_type", "azure_client_id", "azure_client_secret", "azure_tenant_id",
    "azure_workspace_resource_id", "client_id", "client_secret", "google_credentials",
    "google_service_account", "metadata_service_url", "password", "username",
)  # fmt: skip
#: Set where databricks-sdk finds host and identity by itself: notebooks and served models.
_PLACES = (
    "DATABRICKS_RUNTIME_VERSION",
    "IS_IN_DATABRICKS_MODEL_SERVING_ENV",
    "IS_IN_DB_MODEL_SERVING_ENV",
)
#: Seconds for databricks-sdk to find the host; its own 300 would hold up whoever mistyped it.
_PATIENCE = 20
_TOKEN = re.compile(r"[\x21-\x7e]+")
_HOST = re.compile(r"[A-Za-z0-9._:%-]+")
_INSTALL = "pip install 'lakeport[databricks]'"


@dataclass(frozen=True, slots=True)
class Auth:
    """What signs requests: headers that stay, or what is asked before each. Shows no token."""

    fixed: Mapping[str, str] = field(default_factory=dict, repr=False)
    ask: Callable[[], Any] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, token: Token) -> "Auth":
        """Raises ConfigError for a token that no header can carry."""
        return cls(ask=token) if callable(token) else cls(fixed=_bearer(token))

    def headers(self) -> Mapping[str, str]:
        """Of one request. May block. Raises ConfigError, Unauthenticated, and what a callable of
        the application's raises."""
        if self.ask is None:
            return self.fixed
        given = self.ask()
        if inspect.isawaitable(given):
            if inspect.iscoroutine(given):
                given.close()
            raise ConfigError("The token's function is asynchronous: use AsyncClient with it.")
        return signed(given)

    @property
    def waits(self) -> bool:
        """It is a coroutine function: to be awaited, not called in a thread."""
        return self.ask is not None and inspect.iscoroutinefunction(self.ask)


def signed(given: Any) -> Mapping[str, str]:
    """Headers of what was given for a request: a token, or headers. Raises ConfigError."""
    return given if isinstance(given, Mapping) else _bearer(given)


@dataclass(frozen=True, slots=True)
class Config:
    """A workspace, and who asks it."""

    #: "https://adb-1.2.azuredatabricks.net", without a slash at the end.
    host: str
    auth: Auth


def load(
    host: str | None = None,
    token: Token | None = None,
    profile: str | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
) -> Config:
    """Arguments come first, then the environment, then the profile, each for what is still missing.

    A profile is read when it is named (here or in DATABRICKS_CONFIG_PROFILE), and the one called
    DEFAULT when neither a host nor a way to sign in is known without it, as databricks-sdk does. A
    token is used before anything else that may be set, unless DATABRICKS_AUTH_TYPE names another
    way. Raises ConfigError.
    """
    found_host = host or environ.get("DATABRICKS_HOST")
    found_token: Token | None = token or environ.get("DATABRICKS_TOKEN")
    profile = profile or environ.get("DATABRICKS_CONFIG_PROFILE")
    way = environ.get("DATABRICKS_AUTH_TYPE")
    section: Mapping[str, str] = {}
    if profile or not (found_host or found_token or _signs_in_by_environment(environ)):
        section = _section(profile, environ)
        found_host = found_host or section.get("host")
        found_token = found_token or section.get("token")
        way = way or section.get("auth_type")
    if token or (found_token and way in (None, "", "pat")):
        assert found_token is not None
        if not found_host:
            raise ConfigError(
                "No host: give host=, set DATABRICKS_HOST, or name a profile that has one."
            )
        return Config(clean_host(found_host), Auth.of(found_token))
    other_way = any(map(section.get, _OTHER_WAYS)) or _signs_in_by_environment(environ)
    if environ.get("DATABRICKS_TOKEN") == "" and not (profile or way or other_way):
        # What should have filled it did not; databricks-sdk would try all its ways, for half a
        # minute.
        raise ConfigError(
            "DATABRICKS_TOKEN is empty: set it to a token, or unset it to sign in another way."
        )
    if not (found_host or other_way or any(map(environ.get, _PLACES))):
        raise ConfigError(
            "No host and no token: set DATABRICKS_HOST and DATABRICKS_TOKEN, name a profile of "
            f"{_FILE}, or, in Python, give host= and token=."
        )
    return _of_sdk(found_host, profile, other_way)


def clean_host(host: str) -> str:
    """`https://` where no scheme is given; nothing behind host and port. Raises ConfigError."""
    text = host.strip()
    try:
        parts = urlsplit(text if "://" in text else f"https://{text}")
        name, port = parts.hostname or "", parts.port
    except ValueError:
        raise _no_host() from None
    if parts.username or parts.password:
        raise ConfigError("The host must not hold a user name or password: give token= instead.")
    whole = parts.scheme in ("http", "https") and not parts.netloc.endswith(":")
    if not whole or not _HOST.fullmatch(name):
        raise _no_host()
    name = f"[{name}]" if ":" in name else name
    return f"{parts.scheme}://{name}" + (f":{port}" if port is not None else "")


def _no_host() -> ConfigError:
    return ConfigError(
        "The host is no address: expected one like https://adb-1.2.azuredatabricks.net."
    )


def _bearer(token: Any) -> Mapping[str, str]:
    if not isinstance(token, str) or not _TOKEN.fullmatch(token.strip()):
        raise ConfigError(
            "The token is empty or has characters that no token has: expected text such as 'dapi…'."
        )
    return {"authorization": f"Bearer {token.strip()}"}


def _signs_in_by_environment(environ: Mapping[str, str]) -> bool:
    names = {f"DATABRICKS_{name.upper()}" for name in _OTHER_WAYS}
    names |= {name.upper() for name in _OTHER_WAYS if name.startswith("azure")}
    names |= {"ARM_CLIENT_ID", "ARM_CLIENT_SECRET", "ARM_TENANT_ID", "GOOGLE_CREDENTIALS"}
    return any(environ.get(name) for name in names - {"DATABRICKS_AUTH_TYPE"})


def _section(profile: str | None, environ: Mapping[str, str]) -> Mapping[str, str]:
    """A profile's fields; those of DEFAULT, if there are any, where none is named."""
    named = environ.get("DATABRICKS_CONFIG_FILE") or _FILE
    file = Path(named).expanduser()
    parser = configparser.ConfigParser(interpolation=None, default_section="\0none")
    try:
        parser.read_string(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        if profile is None:
            return {}
        raise ConfigError(
            f"Profile '{profile}' is asked for, and {named} does not exist."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{named} cannot be read: {type(error).__name__}.") from None
    except configparser.Error as error:
        # Its message quotes the line, which may hold a token.
        line = getattr(error, "lineno", None)
        raise ConfigError(f"{named} is no file of profiles, see line {line}.") from None
    name = profile or _default(parser)
    if parser.has_section(name):
        return dict(parser[name])
    if profile is None:
        return {}
    known = ", ".join(each for each in parser.sections() if each != "__settings__") or "none"
    raise ConfigError(f"{named} has no profile '{profile}'; there are: {known}.")


def _default(parser: configparser.ConfigParser) -> str:
    """The profile that the file itself calls its default, or DEFAULT."""
    return parser.get("__settings__", "default_profile", fallback="") or "DEFAULT"


def _of_sdk(host: str | None, profile: str | None, other_way: bool) -> Config:
    """What databricks-sdk makes of the same arguments, files and variables."""
    try:
        from databricks.sdk.config import Config as SdkConfig  # noqa: PLC0415 -- half a second
    except ImportError:
        if other_way:
            raise ConfigError(
                f"Signing in without a token is databricks-sdk's: {_INSTALL}, or set "
                "DATABRICKS_TOKEN."
            ) from None
        raise ConfigError(
            "No token: give token=, set DATABRICKS_TOKEN, or name a profile that has one. For "
            f"other ways to sign in: {_INSTALL}."
        ) from None
    known: dict[str, Any] = {"host": clean_host(host)} if host else {}
    try:
        config = SdkConfig(profile=profile, retry_timeout_seconds=_PATIENCE, **known)
    except Exception as error:  # noqa: BLE001 -- ValueError, and those of its many ways
        raise ConfigError(
            f"databricks-sdk cannot sign in: {_first_words(error)} Give host= and token=, set "
            "DATABRICKS_HOST and DATABRICKS_TOKEN, or see its page on authentication."
        ) from None
    if not config.host:
        raise ConfigError("No host: give host=, set DATABRICKS_HOST, or name a profile.")

    def ask() -> Mapping[str, str]:
        try:
            return {name.lower(): value for name, value in config.authenticate().items()}
        except Exception as error:  # noqa: BLE001 -- the same
            raise Unauthenticated(
                f"databricks-sdk could not sign in: {_first_words(error)}"
            ) from None

    return Config(clean_host(config.host), Auth(ask=ask))


def _first_words(error: Exception) -> str:
    """Its message without the dump of the configuration that the SDK adds."""
    text = re.split(r"\s*Config: ", str(error))[0].strip()
    return text if text.endswith(".") else f"{text}."
