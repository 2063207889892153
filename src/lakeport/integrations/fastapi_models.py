"""Requests and replies of the router, as its OpenAPI page shows them."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from lakeport.client.answers import Chat
from lakeport.client.endpoint import Endpoint
from lakeport.client.signature import Column, Param, Signature

_ROWS: Any = [[5.1, 3.5, 1.4, 0.2]]


class _Out(BaseModel):
    # Databricks' own words begin with model_, which pydantic would keep for itself.
    model_config = ConfigDict(protected_namespaces=())


class ErrorOutput(_Out):
    detail: str = Field(description="What went wrong, and what to do next.")


class EndpointItem(_Out):
    name: str = Field(examples=["my-model-endpoint"])
    state: str = Field(examples=["READY"])
    url: str
    creation_time: int | None = Field(None, description="Milliseconds since the epoch.")
    creator: str | None = None

    @classmethod
    def of(cls, endpoint: Endpoint) -> Self:
        return cls(
            name=endpoint.name,
            state=endpoint.state,
            url=endpoint.url,
            creation_time=endpoint.created,
            creator=endpoint.creator,
        )


class ServedModel(_Out):
    name: str
    model_name: str | None = None
    model_version: str | None = None
    workload_size: str | None = None
    scale_to_zero: bool = False
    state: str | None = None
    traffic_percentage: int | None = None


class EndpointConfig(_Out):
    served_models: list[ServedModel]


class EndpointDetails(_Out):
    name: str = Field(examples=["my-model-endpoint"])
    state: str = Field(examples=["READY"])
    config_update: str = Field(examples=["NOT_UPDATING"])
    url: str
    task: str | None = Field(None, description="What a generative endpoint does.")
    config: EndpointConfig
    tags: dict[str, str]

    @classmethod
    def of(cls, endpoint: Endpoint) -> Self:
        return cls(
            name=endpoint.name,
            state=endpoint.state,
            config_update=endpoint.config_update,
            url=endpoint.url,
            task=endpoint.task,
            config=EndpointConfig(
                served_models=[
                    ServedModel(
                        name=entity.name,
                        model_name=entity.model,
                        model_version=entity.version,
                        workload_size=entity.workload_size,
                        scale_to_zero=entity.scale_to_zero,
                        state=entity.state,
                        traffic_percentage=endpoint.traffic.get(entity.name),
                    )
                    for entity in endpoint.entities
                ]
            ),
            tags=dict(endpoint.tags),
        )


class SignatureColumn(_Out):
    name: str | None
    type: Any
    required: bool
    shape: list[int] | None = None

    @classmethod
    def of(cls, column: Column) -> Self:
        shape = list(column.shape) if column.shape is not None else None
        return cls(name=column.name, type=column.type, required=column.required, shape=shape)


class SignatureParam(_Out):
    name: str
    type: str
    default: Any = None

    @classmethod
    def of(cls, param: Param) -> Self:
        return cls(name=param.name, type=param.type, default=param.default)


class SignatureOutput(_Out):
    inputs: list[SignatureColumn]
    outputs: list[SignatureColumn]
    params: list[SignatureParam]
    example: Any = Field(None, description="The body of a request that the model takes.")
    served_entity: str | None = None

    @classmethod
    def of(cls, signature: Signature) -> Self:
        return cls(
            inputs=[SignatureColumn.of(column) for column in signature.inputs],
            outputs=[SignatureColumn.of(column) for column in signature.outputs],
            params=[SignatureParam.of(param) for param in signature.params],
            example=signature.example,
            served_entity=signature.entity,
        )


class SplitInput(BaseModel):
    model_config = ConfigDict(extra="forbid")

    columns: list[str]
    data: list[list[Any]]
    index: list[Any] | None = None


class ModelInput(BaseModel):
    """One input, in one of four forms, and the model's params."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"inputs": _ROWS},
                {"dataframe_split": {"columns": ["a", "b"], "data": [[1.0, 2.0]]}},
                {"dataframe_records": [{"a": 1.0, "b": 2.0}]},
            ]
        },
    )

    inputs: Any = Field(
        None,
        description="Rows, a tensor, or a dict of named tensors. Rows for a model with named "
        "columns are taken in the order of its signature.",
    )
    instances: Any = None
    dataframe_split: SplitInput | None = None
    dataframe_records: list[dict[str, Any]] | None = None
    params: dict[str, Any] | None = Field(None, description="The model's own parameters.")

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        given = [name for name in _FORMS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"expected exactly one of {', '.join(_FORMS)}; got {' and '.join(given) or 'none'}"
            )
        return self

    def query(self) -> dict[str, Any]:
        """As arguments of the client's `predict`."""
        asked: dict[str, Any] = {} if self.params is None else {"params": self.params}
        if self.inputs is not None:
            return asked | {("rows" if _are_rows(self.inputs) else "inputs"): self.inputs}
        if self.dataframe_records is not None:
            return asked | {"records": self.dataframe_records}
        body = self.model_dump(exclude_none=True, include={"dataframe_split", "instances"})
        return asked | {"body": body}


_FORMS = ("inputs", "instances", "dataframe_split", "dataframe_records")


def _are_rows(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(row, list) and not any(isinstance(cell, (list, dict)) for cell in row)
        for row in value
    )


class ModelOutput(_Out):
    predictions: Any
    endpoint_name: str
    served_entity: str | None = None
    request_id: str | None = None


class BatchInput(BaseModel):
    """Several inputs, each a request of its own."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"inputs": [_ROWS, _ROWS]}]}
    )

    inputs: list[Any] = Field(
        max_length=10_000,
        description="What `inputs` of a single request would be, or a whole such request "
        '(`{"dataframe_split": …}`), once for each.',
    )
    params: dict[str, Any] | None = None
    _items: list[ModelInput] = PrivateAttr(default_factory=list)

    @model_validator(mode="after")
    def _each_is_an_input(self) -> Self:
        self._items = [self._item(value) for value in self.inputs]
        return self

    def items(self) -> list[ModelInput]:
        return self._items

    def _item(self, value: Any) -> ModelInput:
        if isinstance(value, dict) and not value.keys().isdisjoint(_FORMS):
            return ModelInput.model_validate({"params": self.params} | value)
        return ModelInput(inputs=value, params=self.params)


class BatchItem(_Out):
    index: int
    predictions: Any = None
    error: str | None = None
    status: int | None = Field(
        None, description="With an error: what a single request would be answered."
    )


class BatchOutput(_Out):
    results: list[BatchItem]
    endpoint_name: str
    total_requests: int


class ChatInput(BaseModel):
    """A chat, in OpenAI's words; fields that are not named here are handed on."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {"messages": [{"role": "user", "content": "What is MLflow?"}], "max_tokens": 100}
            ]
        },
    )

    messages: list[dict[str, Any]] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0)
    stream: bool = Field(False, description="Answer in server-sent events.")

    @model_validator(mode="before")
    @classmethod
    def _no_options_of_ours(cls, value: Any) -> Any:
        """A caller's fields go where the client's own options are: no word may mean both."""
        if isinstance(value, dict) and (ours := sorted(_OPTIONS & value.keys())):
            raise ValueError(f"unknown field {', '.join(ours)}")
        return value

    def fields(self) -> dict[str, Any]:
        """What goes on to the model besides the messages."""
        return self.model_dump(exclude={"messages", "stream"}, exclude_none=True)


#: Options and arguments of a query that no caller may set.
_OPTIONS = {"check_state", "entity", "headers", "name", "retry", "self", "timeout", "validate"}


class ChatUsage(_Out):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatOutput(_Out):
    answer: str
    finish_reason: str | None = None
    tool_calls: list[dict[str, Any]] = []
    usage: ChatUsage | None = None
    model: str | None = None
    endpoint_name: str

    @classmethod
    def of(cls, chat: Chat, endpoint_name: str) -> Self:
        usage = chat.usage and ChatUsage(
            prompt_tokens=chat.usage.prompt_tokens,
            completion_tokens=chat.usage.completion_tokens,
            total_tokens=chat.usage.total_tokens,
        )
        return cls(
            answer=chat.text,
            finish_reason=chat.finish_reason,
            tool_calls=[
                {"id": call.id, "name": call.name, "arguments": call.arguments}
                for call in chat.tool_calls
            ],
            usage=usage,
            model=chat.model,
            endpoint_name=endpoint_name,
        )
