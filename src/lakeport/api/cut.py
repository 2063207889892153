"""Breaks a connection, as a server that died would: for faults on demand.

Only a server that was made cuttable puts the way to do so into a request's scope.
"""

from collections.abc import Callable

from fastapi import Response
from starlette.types import Receive, Scope, Send

#: Where a request's scope has it, in `state`.
CUT = "lakeport.cut"


def cut(scope: Scope) -> None:
    """End the connection without the end of its answer. Return from the application after it."""
    broken: Callable[[], None] = scope["state"][CUT]
    broken()


class CutResponse(Response):
    """No answer at all."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        cut(scope)
