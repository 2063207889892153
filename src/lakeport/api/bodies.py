"""Reading a request's body, with a bound."""

from collections.abc import Mapping

from starlette.types import Receive

from lakeport.errors import MalformedRequest, TooLarge


class ClientGone(Exception):
    """The client hung up before its body was complete: there is nobody to answer."""


async def read_body(receive: Receive, headers: Mapping[bytes, bytes], bound: int) -> bytes:
    """The whole body, at most `bound` bytes. Raises TooLarge (at once where the length is told in
    advance), MalformedRequest, ClientGone."""
    told = headers.get(b"content-length")
    if told is not None:
        # The door's parser takes digits only; another server may not be so strict.
        if not told.isdigit():
            raise MalformedRequest("The Content-Length header is not a number.")
        if int(told) > bound:
            raise too_large(bound)
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        body: bytes = message.get("body", b"")
        if len(body) > bound:
            raise too_large(bound)
        return body
    parts = bytearray()
    while True:
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts += message.get("body", b"")
        if len(parts) > bound:
            raise too_large(bound)
        if not message.get("more_body", False):
            return bytes(parts)
        message = await receive()


def too_large(bound: int) -> TooLarge:
    return TooLarge(f"The request is larger than the limit of {bound} bytes.")
