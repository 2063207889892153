"""What the front door found out about a request, for those behind it."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from lakeport.auth.callers import Caller

#: Where `Context` is in the ASGI scope.
KEY = "lakeport"


@dataclass(frozen=True, slots=True)
class Context:
    request_id: str
    #: None only on the paths that are open to all.
    caller: Caller | None


def request_id_of(request: Request) -> str:
    context: Context = request.scope[KEY]
    return context.request_id


def caller_of(request: Request) -> Caller:
    context: Context = request.scope[KEY]
    assert context.caller is not None, "an open path asked for its caller"
    return context.caller


Asking = Annotated[Caller, Depends(caller_of)]
