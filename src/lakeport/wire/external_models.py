"""`external_model` of a served entity in Databricks' words, as sent and as kept in records."""

from typing import Any

from pydantic import BaseModel, ConfigDict

#: Fields with such names hold keys in clear; they are sealed before they are kept, and never shown.
PLAINTEXT = "_plaintext"


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class OpenAiConfig(_In):
    openai_api_key: str | None = None
    openai_api_key_plaintext: str | None = None
    openai_api_base: str | None = None
    openai_api_type: str | None = None
    openai_api_version: str | None = None
    openai_deployment_name: str | None = None
    openai_organization: str | None = None
    # Known to Databricks, refused here by name
    microsoft_entra_client_id: str | None = None
    microsoft_entra_client_secret: str | None = None
    microsoft_entra_client_secret_plaintext: str | None = None
    microsoft_entra_tenant_id: str | None = None


class BearerTokenAuth(_In):
    token: str | None = None
    token_plaintext: str | None = None


class ApiKeyAuth(_In):
    #: The header's name.
    key: str
    value: str | None = None
    value_plaintext: str | None = None


class CustomProviderConfig(_In):
    custom_provider_url: str
    bearer_token_auth: BearerTokenAuth | None = None
    api_key_auth: ApiKeyAuth | None = None


class DatabricksModelServingConfig(_In):
    databricks_workspace_url: str
    databricks_api_token: str | None = None
    databricks_api_token_plaintext: str | None = None


class ExternalModel(_In):
    """What a request holds. Exactly the config of its provider is given."""

    provider: str
    name: str
    task: str
    openai_config: OpenAiConfig | None = None
    custom_provider_config: CustomProviderConfig | None = None
    databricks_model_serving_config: DatabricksModelServingConfig | None = None
    # Known to Databricks, refused here by name
    ai21labs_config: dict[str, Any] | None = None
    amazon_bedrock_config: dict[str, Any] | None = None
    anthropic_config: dict[str, Any] | None = None
    cohere_config: dict[str, Any] | None = None
    google_cloud_vertex_ai_config: dict[str, Any] | None = None
    palm_config: dict[str, Any] | None = None
    #: Lakeport's own: false where the server refuses `stream_options.include_usage`.
    stream_usage: bool | None = None


class StoredExternalModel(ExternalModel):
    """What a record holds: `*_plaintext` fields are sealed."""

    #: Its address was given by the operator himself, so that the egress guard lets it pass.
    operator: bool = False
