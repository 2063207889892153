"""`external_model` of a served entity, checked: pure functions from what was asked to what is kept.

Every refusal names the field and what was expected; none repeats a value that may be a key.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from lakeport.errors import InvalidParameter, NotImplementedYet
from lakeport.wire.chat import ChatTarget, Task
from lakeport.wire.external_models import (
    PLAINTEXT,
    CustomProviderConfig,
    DatabricksModelServingConfig,
    ExternalModel,
    OpenAiConfig,
)
from lakeport.wire.secrets import parse_reference, resembles_reference

OPENAI = "openai"
CUSTOM = "custom"
DATABRICKS = "databricks-model-serving"
#: Provider to its config's field.
CONFIGS = {
    OPENAI: "openai_config",
    CUSTOM: "custom_provider_config",
    DATABRICKS: "databricks_model_serving_config",
}
#: Providers whose dialect is not spoken yet, to their config's field.
NOT_YET = {
    "ai21labs": "ai21labs_config",
    "amazon-bedrock": "amazon_bedrock_config",
    "anthropic": "anthropic_config",
    "cohere": "cohere_config",
    "google-cloud-vertex-ai": "google_cloud_vertex_ai_config",
    "palm": "palm_config",
}
#: A header's name (RFC 9110: a token).
HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
#: Headers that say how a request is framed; no key goes there.
FRAMING = frozenset(
    {
        "accept-encoding", "connection", "content-encoding", "content-length", "content-type",
        "expect", "host", "keep-alive", "proxy-authorization", "te", "trailer",
        "transfer-encoding", "upgrade",
    }
)  # fmt: skip
#: The first of Azure's API versions that takes `stream_options`.
AZURE_USAGE = "2024-09-01"
MAX_URL = 2048
MAX_NAME = 255

#: What is wrong with a URL that the egress guard refuses, or None; `application` gives it.
Refuses = Callable[[str], str | None]


def check(
    given: Mapping[str, Any], at: str, refuses: Refuses | None = None
) -> tuple[dict[str, Any], ChatTarget]:
    """What is kept of `external_model` (keys in plain text still so), and how it is spoken to.

    `at` is the field's place, for messages. Raises InvalidParameter, NotImplementedYet.
    """
    at = f"{at}." if at else ""
    provider = given.get("provider")
    if isinstance(provider, str) and provider in NOT_YET:
        raise NotImplementedYet(
            f"{at}provider: '{provider}' is not supported by Lakeport yet; use one of "
            f"{', '.join(CONFIGS)}."
        )
    try:
        model = ExternalModel.model_validate(dict(given))
    except ValidationError as error:
        raise _invalid(error, at) from None
    if model.provider not in CONFIGS:
        raise InvalidParameter(
            f"{at}provider: {_shown(model.provider)} is unknown; expected one of "
            f"{', '.join(CONFIGS)}."
        )
    try:
        task = Task(model.task)
    except ValueError:
        raise InvalidParameter(
            f"{at}task: {_shown(model.task)} is unknown; expected one of {', '.join(Task)}."
        ) from None
    if not 0 < len(model.name) <= MAX_NAME or not model.name.isprintable():
        raise InvalidParameter(
            f"{at}name: expected the model's name, 1 to {MAX_NAME} printable characters."
        )
    asks_usage = _config(model, at)
    if refuses is not None and (url := base_url(model)) is not None:
        problem = refuses(url)
        if problem is not None:
            raise InvalidParameter(f"{at}{_url_field(model)}: the URL is not allowed: {problem}.")
    if model.stream_usage is not None:
        asks_usage = model.stream_usage
    return model.model_dump(exclude_none=True), _target(model, task, asks_usage)


def operators_server(url: str, model: str, task: Task) -> tuple[dict[str, Any], ChatTarget]:
    """A server that the operator named on the command line: it passes the egress guard, which
    `{"operator": True}` in what is kept says; the wire can never set that.

    `https://{{secrets/SCOPE/KEY}}@HOST/v1` sends a key. Raises InvalidParameter.
    """
    scheme, mark, rest = url.partition("://")
    config: dict[str, Any] = {}
    before, at, after = rest.partition("}}@")
    if at and parse_reference(before + "}}") is not None:
        url = f"{scheme}{mark}{after}"
        config["bearer_token_auth"] = {"token": before + "}}"}
    elif "{{" in rest or "@" in rest.partition("/")[0]:
        raise InvalidParameter(
            "The URL of a server must not hold a user or a key; keep the key as a secret, and "
            "write https://{{secrets/SCOPE/KEY}}@HOST."
        )
    kept, target = check(
        {
            "provider": CUSTOM,
            "name": model,
            "task": task.value,
            "custom_provider_config": config | {"custom_provider_url": url},
        },
        "",
    )
    return kept | {"operator": True}, target


def base_url(model: ExternalModel) -> str | None:
    """The URL that it was given; None: OpenAI's own."""
    if model.openai_config is not None:
        return model.openai_config.openai_api_base
    if model.custom_provider_config is not None:
        return model.custom_provider_config.custom_provider_url
    if model.databricks_model_serving_config is not None:
        return model.databricks_model_serving_config.databricks_workspace_url
    return None


def _url_field(model: ExternalModel) -> str:
    names = {
        OPENAI: "openai_api_base",
        CUSTOM: "custom_provider_url",
        DATABRICKS: "databricks_workspace_url",
    }
    return f"{CONFIGS[model.provider]}.{names[model.provider]}"


def _target(model: ExternalModel, task: Task, asks_usage: bool) -> ChatTarget:
    return ChatTarget(
        task=task,
        operations=frozenset({task.operation}),
        model=model.name,
        asks_usage=asks_usage,
    )


# --- the providers' own fields --------------------------------------------------------------------


def _config(model: ExternalModel, at: str) -> bool:
    """Check the provider's config; returns whether its server takes `stream_options`."""
    wanted = CONFIGS[model.provider]
    for field in (*CONFIGS.values(), *NOT_YET.values()):
        given = getattr(model, field) is not None
        if given and field != wanted:
            raise InvalidParameter(
                f"{at}{field}: expected only {wanted}, since provider is '{model.provider}'."
            )
        if not given and field == wanted:
            raise InvalidParameter(f"{at}{field}: expected with provider '{model.provider}'.")
    where = f"{at}{wanted}."
    if model.openai_config is not None:
        return _openai(model.openai_config, where)
    if model.custom_provider_config is not None:
        _custom(model.custom_provider_config, where)
    if model.databricks_model_serving_config is not None:
        _databricks(model.databricks_model_serving_config, where)
    return True


def _openai(config: OpenAiConfig, at: str) -> bool:
    kind = config.openai_api_type or "openai"
    if kind == "azuread":
        raise NotImplementedYet(
            f"{at}openai_api_type: 'azuread' is not supported by Lakeport yet; use 'azure' with an "
            "API key."
        )
    if kind not in ("openai", "azure"):
        raise InvalidParameter(
            f"{at}openai_api_type: {_shown(kind)} is unknown; expected 'openai' or 'azure'."
        )
    for name in OpenAiConfig.model_fields:
        if name.startswith("microsoft_entra_") and getattr(config, name) is not None:
            raise NotImplementedYet(
                f"{at}{name}: Microsoft Entra ID is not supported by Lakeport yet; use "
                "openai_api_key."
            )
    _key(config.openai_api_key, config.openai_api_key_plaintext, at, "openai_api_key")
    if config.openai_organization is not None and not _is_value(config.openai_organization):
        raise InvalidParameter(f"{at}openai_organization: expected printable ASCII characters.")
    if config.openai_api_base is not None:
        _url(config.openai_api_base, f"{at}openai_api_base")
    azure = ("openai_api_base", "openai_deployment_name", "openai_api_version")
    for name in azure if kind == "azure" else azure[1:]:
        value = getattr(config, name)
        if kind == "azure" and not value:
            raise InvalidParameter(f"{at}{name}: expected with openai_api_type 'azure'.")
        if kind != "azure" and value:
            raise InvalidParameter(f"{at}{name}: goes with openai_api_type 'azure' only.")
    return kind != "azure" or (config.openai_api_version or "")[:10] >= AZURE_USAGE


def _custom(config: CustomProviderConfig, at: str) -> None:
    _url(config.custom_provider_url, f"{at}custom_provider_url", query=True)
    bearer, header = config.bearer_token_auth, config.api_key_auth
    if bearer is not None and header is not None:
        raise InvalidParameter(
            f"{at}api_key_auth: give either bearer_token_auth or api_key_auth, not both."
        )
    if bearer is not None:
        _key(bearer.token, bearer.token_plaintext, f"{at}bearer_token_auth.", "token")
    if header is not None:
        if not HEADER.fullmatch(header.key) or header.key.lower() in FRAMING:
            raise InvalidParameter(
                f"{at}api_key_auth.key: expected the name of the header that takes the key, such "
                "as 'x-api-key'."
            )
        _key(header.value, header.value_plaintext, f"{at}api_key_auth.", "value")


def _databricks(config: DatabricksModelServingConfig, at: str) -> None:
    _url(config.databricks_workspace_url, f"{at}databricks_workspace_url")
    _key(
        config.databricks_api_token,
        config.databricks_api_token_plaintext,
        at,
        "databricks_api_token",
    )


def _key(reference: str | None, plain: str | None, at: str, name: str) -> None:
    """Exactly one of the two is given, and is what its field is for."""
    if (reference is None) == (plain is None):
        raise InvalidParameter(f"{at}{name}: expected either {name} or {name}{PLAINTEXT}.")
    if plain is not None:
        if parse_reference(plain.strip()) or resembles_reference(plain):
            raise InvalidParameter(
                f"{at}{name}{PLAINTEXT}: holds a reference to a secret; put it in {name}."
            )
        if not _is_value(plain.strip()):
            raise InvalidParameter(
                f"{at}{name}{PLAINTEXT}: expected a key of printable ASCII characters."
            )
        return
    if parse_reference(reference or "") is None:
        raise InvalidParameter(
            f"{at}{name}: expected a reference of the form {{{{secrets/scope/key}}}}; a key in "
            f"clear goes into {name}{PLAINTEXT}."
        )


def _is_value(text: str) -> bool:
    """Whether a header can carry it."""
    return 0 < len(text) <= 8192 and text.isascii() and text.isprintable()


def _url(url: str, at: str, *, query: bool = False) -> None:
    """Its form only; where it may lead is the egress guard's business."""
    expected = "expected a URL such as https://api.example.com/v1"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise InvalidParameter(f"{at}: {expected}.") from None
    if (
        parts.scheme not in ("http", "https")
        or not host
        or len(url) > MAX_URL
        or not url.isprintable()
        or " " in url
        or "\\" in url
    ):
        raise InvalidParameter(f"{at}: {expected}.")
    if "@" in parts.netloc:
        raise InvalidParameter(f"{at}: {expected}, without a user or a password.")
    if parts.fragment or "#" in url or (not query and (parts.query or "?" in url)):
        raise InvalidParameter(f"{at}: {expected}, without a query or a fragment.")


def _invalid(error: ValidationError, at: str) -> InvalidParameter:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    field = at + ".".join(str(part) for part in first["loc"])
    match first["type"]:
        case "missing":
            return InvalidParameter(f"{field}: expected, and missing.")
        case "extra_forbidden":
            return InvalidParameter(f"{field}: there is no such field.")
    message = first["msg"].removeprefix("Input should be ").rstrip(".")
    return InvalidParameter(f"{field}: expected {message}.")


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
