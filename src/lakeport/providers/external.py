"""Where an external model is and how it is asked: from `external_model` to URLs and headers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import ValidationError

from lakeport.wire.chat import Operation
from lakeport.wire.external_models import OpenAiConfig, StoredExternalModel

OPENAI_BASE = "https://api.openai.com/v1"


class BadExternalModel(Exception):
    """A record holds no external model that can be spoken to; says why."""


@dataclass(frozen=True, slots=True)
class Key:
    #: What a Vault reveals: "{{secrets/SCOPE/KEY}}" or "sealed:...".
    reference: str
    header: str = "Authorization"
    prefix: str = "Bearer "


@dataclass(frozen=True, slots=True)
class Target:
    #: All of one host.
    urls: Mapping[Operation, str]
    key: Key | None = None
    #: Beside the key's.
    headers: Mapping[str, str] = field(default_factory=dict)
    #: The operator gave the address himself.
    own: bool = False

    @property
    def url(self) -> str:
        return self.urls[Operation.CHAT]


def target_of(external: Mapping[str, Any]) -> Target:
    """The target of `external_model` as a record keeps it. Raises BadExternalModel."""
    try:
        model = StoredExternalModel.model_validate(dict(external))
    except ValidationError:
        raise BadExternalModel("its record is not one of an external model") from None
    if (openai := model.openai_config) is not None:
        return _openai(openai)
    if (custom := model.custom_provider_config) is not None:
        bearer, header = custom.bearer_token_auth, custom.api_key_auth
        key = None
        if bearer is not None:
            key = Key(_reference(bearer.token, bearer.token_plaintext))
        elif header is not None:
            key = Key(_reference(header.value, header.value_plaintext), header.key, "")
        return Target(_below(custom.custom_provider_url), key, own=model.operator)
    if (workspace := model.databricks_model_serving_config) is not None:
        base = workspace.databricks_workspace_url.rstrip("/")
        # One URL for everything: what a body asks for follows from its keys.
        url = f"{base}/serving-endpoints/{quote(model.name, safe='')}/invocations"
        return Target(
            dict.fromkeys(Operation, url),
            Key(
                _reference(workspace.databricks_api_token, workspace.databricks_api_token_plaintext)
            ),
        )
    raise BadExternalModel(f"provider {model.provider!r} is not one that is spoken to")


def _openai(config: OpenAiConfig) -> Target:
    reference = _reference(config.openai_api_key, config.openai_api_key_plaintext)
    headers = {}
    if config.openai_organization:
        headers["OpenAI-Organization"] = config.openai_organization
    if config.openai_api_type != "azure":
        return Target(_below(config.openai_api_base or OPENAI_BASE), Key(reference), headers)
    base = (config.openai_api_base or "").rstrip("/").removesuffix("/openai")
    deployment = quote(config.openai_deployment_name or "", safe="")
    version = quote(config.openai_api_version or "", safe="")
    return Target(
        {
            operation: f"{base}/openai/deployments/{deployment}/{operation}?api-version={version}"
            for operation in Operation
        },
        Key(reference, "api-key", ""),
        headers,
    )


def _below(url: str) -> dict[Operation, str]:
    """The URL of each operation below a base URL.

    One that ends with an operation already is used as it is, for this operation. One without a
    path means `/v1`, where such servers have their routes.
    """
    scheme, netloc, path, query, _ = urlsplit(url)
    path = path.rstrip("/")
    for operation in (Operation.CHAT, Operation.COMPLETIONS, Operation.EMBEDDINGS):
        if path.endswith(f"/{operation}"):
            base = path.removesuffix(f"/{operation}")
            break
    else:
        base = path or "/v1"
    return {
        operation: urlunsplit((scheme, netloc, f"{base}/{operation}", query, ""))
        for operation in Operation
    }


def _reference(reference: str | None, plain: str | None) -> str:
    found = reference or plain
    if not found:
        raise BadExternalModel("its record has no key")
    return found
