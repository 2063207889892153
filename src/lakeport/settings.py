"""Every setting of the server, in one place.

A setting `queue_requests` is `--queue-requests` on the command line, `LAKEPORT_QUEUE_REQUESTS` in
the environment and `queue_requests` in the TOML file; the first of these that is given counts.
`docs/settings.md` is made from this file, and a test holds the two together.
"""

import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)

ENV_PREFIX = "LAKEPORT_"
MIB = 1024 * 1024
#: A host's name in ASCII and lower case; underscores occur.
HOST = re.compile(
    r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*"
)
#: The last part of a host that some would read as a number: 2130706433, 0x7f.1, 127.1.
NUMERIC = re.compile(r"(\d+|0x[0-9a-f]*)")
#: Read where it exists, in the home folder, unless another file is named.
CONFIG_NAME = "lakeport.toml"


class SettingsError(Exception):
    """Settings that cannot be used.

    `problems` holds one line for each setting: its name, where its value came from, the value
    (not of secrets) and what was expected.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def _listed(value: object) -> object:
    """A list may be written with commas in the environment."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _absolute(path: Path) -> Path:
    try:
        return path.expanduser().absolute()
    except RuntimeError as error:  # no such user
        raise ValueError(str(error)) from error


def _named(values: list[str], form: str, example: str) -> list[str]:
    names = set()
    for value in values:
        name, _, target = value.partition("=")
        if not name.strip() or not target.strip():
            raise ValueError(
                f"{value!r} is not of the form {form}; expected something like {example}"
            )
        if name in names:
            raise ValueError(f"{name!r} is named twice")
        names.add(name)
    return values


def _named_models(values: list[str]) -> list[str]:
    return _named(values, "NAME=URI", "iris=models:/iris/1")


def _named_chats(values: list[str]) -> list[str]:
    return _named(values, "NAME=TARGET", "writer=system.ai.smollm2-135m-instruct")


def _named_embeddings(values: list[str]) -> list[str]:
    return _named(values, "NAME=TARGET", "minilm=system.ai.all-minilm-l6-v2")


def _strong(token: SecretStr | None) -> SecretStr | None:
    if token is not None:
        characters = token.get_secret_value()
        if len(characters) < 16 or not all("!" <= char <= "~" for char in characters):
            raise ValueError("16 or more printable ASCII characters without spaces are needed")
    return token


def _http(uri: str | None) -> str | None:
    if uri is not None and not uri.startswith(("http://", "https://")):
        raise ValueError("an address that begins with http:// or https:// is needed")
    if uri is not None and ("?" in uri or "#" in uri or "@" in uri.split("/")[2]):
        raise ValueError(
            "an address alone is needed; credentials go to MLFLOW_TRACKING_TOKEN, or "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )
    return uri


def host_or_network(
    entry: str,
) -> str | ipaddress.IPv4Network | ipaddress.IPv6Network:
    """An entry of `egress_allow`: a network, of one address too, or a host in lower case. Raises
    ValueError."""
    text = entry.strip().lower()
    try:
        return ipaddress.ip_network(text.strip("[]"), strict=False)
    except ValueError:
        host = text.removesuffix(".")
        if not HOST.fullmatch(host) or NUMERIC.fullmatch(host.rpartition(".")[2]):
            raise ValueError(f"{entry!r} is not a host name, an address or a network") from None
        return host


def _hosts_and_networks(values: list[str]) -> list[str]:
    # Commas in a flag too: no host or network has one.
    entries = [part.strip() for value in values for part in value.split(",") if part.strip()]
    for entry in entries:
        host_or_network(entry)
    return entries


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Settings(BaseModel):
    """The server's settings; immutable once made.

    Made from arguments alone; `load` reads flags, environment and file.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        hide_input_in_errors=True,  # it may be a secret
        validate_default=True,
    )

    # Where
    home: Annotated[Path, AfterValidator(_absolute)] = Field(
        Path("~/.lakeport"),
        description="Folder that holds all state: database, artifacts, models, logs, sockets.",
    )
    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    model: Annotated[list[str], BeforeValidator(_listed), AfterValidator(_named_models)] = Field(
        default_factory=list,
        description="NAME=URI of a model to serve from the start: models:/NAME/VERSION, "
        "models:/NAME@ALIAS, or a folder with an MLmodel file. May be repeated; with commas in "
        "the environment.",
    )

    chat: Annotated[list[str], BeforeValidator(_listed), AfterValidator(_named_chats)] = Field(
        default_factory=list,
        description="NAME=TARGET of a chat endpoint that lives as long as this setting: a model of "
        "the catalogue (system.ai.NAME), a .gguf file, URL#MODEL of a server that speaks OpenAI's "
        "wire, or scripted:FILE.yml. NAME may begin with databricks-. May be repeated; with commas "
        "in the environment.",
    )
    embeddings: Annotated[
        list[str], BeforeValidator(_listed), AfterValidator(_named_embeddings)
    ] = Field(
        default_factory=list,
        description="NAME=TARGET of an embeddings endpoint, as with `chat`.",
    )

    # Who
    auth: Literal["on", "off"] = Field(
        "on", description="`off` lets everybody in as an admin; only on a loopback address."
    )
    admin_token: Annotated[SecretStr | None, AfterValidator(_strong)] = Field(
        None,
        description="The admin's token: 16 or more printable ASCII characters without spaces. It "
        "is written nowhere, and while it is set, the one in HOME/admin-token is refused. Without "
        "one, a token is made at the first start and left in HOME/admin-token. Prefer the "
        "environment: others on the machine can see flags.",
    )

    # The model registry
    registry: Literal["lazy", "eager", "off"] = Field(
        "lazy",
        description="When the embedded MLflow server starts: at its first use, at once, never.",
    )
    mlflow_tracking_uri: Annotated[str | None, AfterValidator(_http)] = Field(
        None,
        min_length=1,
        repr=False,  # it may hold a password
        description="Use this MLflow server instead of the embedded one.",
    )
    registry_wait: float = Field(
        60, gt=0, description="Seconds that a request waits for the registry to come up."
    )
    alias_poll: float = Field(
        10, gt=0, description="Seconds between looks at model aliases that endpoints follow."
    )

    # Model environments
    env_manager: Literal["uv", "local"] = Field(
        "uv",
        description="`uv` builds an environment for a model whose requirements Lakeport's own does "
        "not meet; `local` always uses Lakeport's.",
    )
    python_missing: Literal["nearest", "refuse"] = Field(
        "nearest", description="What to do when the Python that a model asks for is not to be had."
    )

    # Invocations
    max_body: int = Field(16 * MIB, gt=0, description="Bytes of one request, also once inflated.")
    request_timeout: float = Field(
        297, gt=0, description="Seconds until an invocation ends with 504."
    )
    ready_wait: float = Field(
        10,
        ge=0,
        description="Seconds that an invocation waits for a replica before it ends with 503.",
    )
    queue_requests: int = Field(
        1024, gt=0, description="Invocations that may wait for one served entity."
    )
    queue_bytes: int = Field(
        64 * MIB, gt=0, description="Bytes of bodies that may wait for one served entity."
    )

    # Replicas
    start_timeout: float = Field(
        1800, gt=0, description="Seconds a replica may take to become ready."
    )
    replica_memory: int = Field(
        4096 * MIB, ge=0, description="Bytes of memory that one replica may use; 0 is no limit."
    )
    replica_recycle_memory: int = Field(
        0,
        ge=0,
        description="Bytes of memory above which a replica is replaced by a fresh one between "
        "requests, for models that leak; 0 is never.",
    )
    replica_start: Literal["zygote", "spawn"] = Field(
        "zygote",
        description="How replicas of models start: forked by a process that has loaded their "
        "libraries, where the machine (Linux) and the model allow it, or always anew.",
    )
    template_memory: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Fraction of the machine's memory that loaded models may use which are kept to "
        "fork replicas from, also while an endpoint is scaled to zero; 0 keeps none.",
    )
    scale_up_to: int | None = Field(
        None,
        gt=0,
        description="Replicas up to which a served entity grows beyond its minimum. Without it: as "
        "many as there are cores where they compute, and up to the maximum asked for where they "
        "wait for something else.",
    )
    scale_down_after: float = Field(
        300, gt=0, description="Quiet seconds after which a served entity loses replicas."
    )
    scale_to_zero_after: float = Field(
        1800,
        gt=0,
        description="Seconds without a request after which a served entity that may scale to zero "
        "does.",
    )
    max_entities: int = Field(15, gt=0, description="Served entities of one endpoint.")
    max_endpoints: int = Field(1000, gt=0, description="Serving endpoints of the workspace.")

    # Chat and embeddings
    llama_server: str | None = Field(
        None,
        min_length=1,
        description="The `llama-server` program that runs GGUF models. Without it, one on the "
        "PATH, then the one of the extra `llm`.",
    )
    vllm: str | None = Field(
        None,
        min_length=1,
        description="The `vllm` program that runs models on a GPU. Without it, one on the PATH.",
    )
    catalogue: Annotated[Path | None, AfterValidator(lambda p: p and _absolute(p))] = Field(
        None,
        description="A catalogue file that adds to the models known by name. Without it, "
        "HOME/catalogue.toml where it exists.",
    )
    engine_slots: int = Field(
        8, gt=0, le=256, description="Requests that one engine replica works on at a time."
    )
    engine_threads: int | None = Field(
        None,
        gt=0,
        description="Threads of one engine replica. Without it, one for each core but one; two "
        "on two cores. Fewer where the machine has other work.",
    )
    max_tokens: int = Field(
        1024,
        gt=0,
        description="Tokens of a hosted model's answer where the caller sets no bound.",
    )
    egress_allow: Annotated[
        list[str], BeforeValidator(_listed), AfterValidator(_hosts_and_networks)
    ] = Field(
        default_factory=list,
        description="Hosts and networks, with commas, that external models may be at although they "
        "are private, link-local or loopback, or are spoken to without TLS: ollama.internal, "
        "10.1.0.0/16.",
    )
    upstream_connect_timeout: float = Field(
        10, gt=0, description="Seconds to connect to an external model's server."
    )
    upstream_idle_timeout: float = Field(
        120,
        gt=0,
        description="Seconds that an external model's server or an engine may send nothing in the "
        "middle of an answer.",
    )

    # Tests of applications
    faults: bool = Field(
        False,
        description="Opens the routes that make endpoints fail on demand, record what they are "
        "asked, and let a test's own process answer for one: docs/faults.md. For tests of "
        "applications; never where others rely on the server.",
    )

    # Life
    stop_grace: float = Field(
        30, ge=0, description="Seconds that running requests may take to finish at SIGTERM."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="How much the server says of itself."
    )

    @field_validator("auth")
    @classmethod
    def _open_only_to_this_machine(cls, auth: str, seen: ValidationInfo) -> str:
        host = seen.data.get("host", "")  # absent when it was refused itself
        if auth == "off" and host and not is_loopback(host):
            raise ValueError(
                f"without authentication everybody who reaches {host} would be an admin; `off` "
                "needs a loopback host: 127.0.0.1, ::1 or localhost"
            )
        return auth

    @classmethod
    def load(
        cls,
        flags: Mapping[str, object],
        config: Path | None = None,
        *,
        environ: Mapping[str, str] | None = None,
    ) -> Self:
        """Settings from flags, environment and TOML file, in this order of precedence.

        `flags` maps names of settings to values; None is not given, as is an empty variable of the
        environment. `config` names the TOML file; without it `HOME/lakeport.toml` is read where it
        exists. Raises SettingsError.
        """
        environ = os.environ if environ is None else environ
        from_flags = {name: value for name, value in flags.items() if value is not None}
        from_env = {
            name: value for name in cls.model_fields if (value := environ.get(env_name(name)))
        }
        home = from_flags.get("home") or from_env.get("home") or cls.model_fields["home"].default
        file = config or _config_in(Path(str(home)))
        from_file = _read(file, required=config is not None) if file else {}
        problems = _misplaced(from_file, cls.model_fields, file, in_home=config is None)

        sources = {
            **dict.fromkeys(from_file, str(file)),
            **{name: env_name(name) for name in from_env},
            **{name: flag_name(name) for name in from_flags},
        }
        known = {name: value for name, value in from_file.items() if name in cls.model_fields}
        try:
            settings = cls.model_validate(known | from_env | from_flags)
        except ValidationError as error:
            raise SettingsError([*problems, *_explained(error, sources)]) from None
        if problems:
            raise SettingsError(problems)
        return settings


def env_name(name: str) -> str:
    return ENV_PREFIX + name.upper()


def flag_name(name: str) -> str:
    return "--" + name.replace("_", "-")


def is_secret(name: str) -> bool:
    """Whether the value of this setting must not be shown."""
    annotation = Settings.model_fields[name].annotation
    return annotation is SecretStr or SecretStr in get_args(annotation)


def _config_in(home: Path) -> Path | None:
    try:
        return _absolute(home) / CONFIG_NAME
    except ValueError:
        return None  # told of when `home` is validated


def _read(file: Path, *, required: bool) -> dict[str, object]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        if not required:
            return {}
        raise SettingsError([f"config: {file} does not exist"]) from error
    except OSError as error:
        raise SettingsError([f"config: {file} cannot be read: {error.strerror}"]) from error
    except ValueError as error:  # not TOML, or not UTF-8
        raise SettingsError([f"config: {file} is not valid TOML: {error}"]) from error


def _misplaced(
    given: Mapping[str, object], fields: Mapping[str, object], file: Path | None, *, in_home: bool
) -> list[str]:
    """What a file holds that it must not."""
    problems = []
    for name in given:
        if name not in fields:
            close = difflib.get_close_matches(name.lower().replace("-", "_"), fields, n=1)
            hint = f"did you mean {close[0]}?" if close else "docs/settings.md lists all settings"
            problems.append(f"{name} ({file}): there is no such setting; {hint}")
        elif name == "home" and in_home:
            problems.append(
                f"home ({file}): the file lies in the home, so it cannot name it; use --home, "
                f"{env_name('home')} or --config"
            )
    return problems


def _explained(error: ValidationError, sources: Mapping[str, str]) -> list[str]:
    """One line a setting; values of secrets are left out."""
    problems: dict[str, list[str]] = {}
    values: dict[str, object] = {}
    for item in error.errors(include_url=False, include_context=False):
        name = str(item["loc"][0])
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = "there is no such setting"
        problems.setdefault(name, []).append(message.replace("Input", "input", 1))
        values[name] = item["input"]
    return [
        f"{name} ({sources.get(name, 'default')}): {_shown(name, values[name])}"
        + "; ".join(dict.fromkeys(messages))
        for name, messages in problems.items()
    ]


def _shown(name: str, value: object) -> str:
    # The parts of a list are named by what is wrong with them; an address may hold a password.
    if name not in Settings.model_fields or is_secret(name) or isinstance(value, list | tuple):
        return ""
    if name == "mlflow_tracking_uri":
        return ""
    text = str(value)
    return f"{text if len(text) <= 100 else text[:100] + '...'!r} is not valid: "
