"""The body of every error, for the OpenAPI document."""

from pydantic import BaseModel, ConfigDict, Field


class RequestInfo(BaseModel):
    type: str = Field(alias="@type")
    request_id: str
    serving_data: str


class ErrorBody(BaseModel):
    #: A model's error has more: `stack_trace`, `sqlstate`, ...
    model_config = ConfigDict(extra="allow")

    error_code: str
    message: str
    details: list[RequestInfo] | None = None
