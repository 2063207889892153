"""Personal access tokens in Databricks' words. Times are milliseconds since the epoch."""

from pydantic import BaseModel, ConfigDict, Field

from lakeport.wire.numbers import Whole


class CreateToken(BaseModel):
    model_config = ConfigDict(extra="forbid")

    comment: str | None = Field(None, max_length=1024)
    #: Seconds; None: the token never expires.
    lifetime_seconds: Whole | None = Field(None, ge=1, le=100 * 365 * 24 * 3600)
    #: Known to Databricks, refused here by name.
    scopes: list[str] | None = None


class DeleteToken(BaseModel):
    model_config = ConfigDict(extra="forbid")

    token_id: str


class TokenInfo(BaseModel):
    token_id: str
    creation_time: int
    #: -1: never.
    expiry_time: int
    comment: str


class CreatedToken(BaseModel):
    """The only time that a token's value is shown."""

    token_value: str
    token_info: TokenInfo


class TokenInfos(BaseModel):
    token_infos: list[TokenInfo]
