"""A router that puts serving endpoints into an application of FastAPI.

    app = FastAPI()
    app.include_router(serving_router(), prefix="/api")

Every call is asynchronous over one pooled client that lives as long as the app. Needs the extra
`fastapi`.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Annotated, Any, NoReturn

try:
    from fastapi import APIRouter, Body, Depends, HTTPException, Path, Request, Response, params
    from fastapi.responses import StreamingResponse
    from fastapi.routing import APIRoute
    from fastapi.security import HTTPBearer
    from starlette.types import Receive, Scope, Send
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "lakeport.integrations.fastapi needs FastAPI: pip install 'lakeport[fastapi]'."
    ) from error

from lakeport.client import errors
from lakeport.client.answers import Chat, Prediction
from lakeport.client.async_client import AsyncClient
from lakeport.client.encode import to_json
from lakeport.client.retry import Retry
from lakeport.integrations.fastapi_clients import Clients, while_wanted
from lakeport.integrations.fastapi_models import (
    BatchInput,
    BatchItem,
    BatchOutput,
    ChatInput,
    ChatOutput,
    EndpointDetails,
    EndpointItem,
    ErrorOutput,
    ModelInput,
    ModelOutput,
    SignatureOutput,
)

#: A caller who waits is told of a busy endpoint at once: he knows better when to try again.
BRIEF = Retry(attempts=2, base=0.1, deadline=1.0)

EndpointName = Annotated[
    str, Path(description="The serving endpoint's name.", examples=["my-model-endpoint"])
]


def serving_router(
    client: AsyncClient | None = None,
    *,
    pass_token: bool = False,
    concurrency: int = 32,
    timeout: float = 60.0,
    retry: Retry = BRIEF,
    dependencies: Sequence[params.Depends] = (),
    tags: Sequence[str] = ("serving endpoints",),
) -> APIRouter:
    """A router with `/serving-endpoints`, `/{name}`, `/{name}/signature`, `/{name}/predict`,
    `/{name}/batch-predict` and `/{name}/chat`.

    `client`: asked for everything, and closed by you; without one, an `AsyncClient` is made when it
    is first needed, and closed with the app. `pass_token`: ask as the caller, with the token of
    `X-Forwarded-Access-Token` (which Databricks Apps send) or `Authorization: Bearer`; a request
    without one is 401. `concurrency`: requests to endpoints that run at once, for the whole router;
    more wait. `timeout`: seconds that an endpoint has for an answer; then 504. `retry`: when a
    request is sent again; by default once, and not where that would keep the caller waiting.
    `dependencies`: your own authentication, e.g. `[Depends(current_user)]`.

    An error of the endpoint keeps its meaning: 400, 403, 404, 413, 429 (with Retry-After), 503 for
    one that is not ready, 504 for a timeout, 502 for all else that went wrong behind this app, a
    refusal of the app's own token included.
    """
    serving = Clients(client, pass_token, concurrency, timeout, retry)
    answers = [*_ERRORS, _NO_TOKEN] if pass_token else _ERRORS
    # It refuses nobody: the page gets its "Authorize" from it.
    shown = [Depends(HTTPBearer(auto_error=False))] if pass_token else []
    router = APIRouter(
        route_class=_ErrorsMapped,
        lifespan=serving.lifespan,
        dependencies=[*dependencies, *shown],
        tags=list(tags),
        responses={code: {"model": ErrorOutput, "description": text} for code, text in answers},
    )
    _add_reading(router, serving)
    _add_asking(router, serving)
    return router


_ERRORS = (
    (400, "The input does not fit the model; `detail` names what and where."),
    (403, "The endpoint may not be seen or queried."),
    (404, "There is no such endpoint."),
    (429, "Too many requests; `Retry-After` says when to try again."),
    (502, "What the endpoint answered cannot be used."),
    (503, "The endpoint is not ready."),
    (504, "The endpoint did not answer in time."),
)
#: What one item of a batch meets all of them do.
_OF_ALL = (errors.NotFound, errors.PermissionDenied, errors.Unauthenticated)
_NO_TOKEN = (401, "There is no token, or the workspace does not take it.")


def _add_reading(router: APIRouter, serving: Clients) -> None:
    Asking = Annotated[AsyncClient, Depends(serving.client)]  # noqa: N806 -- a type

    @router.get("/serving-endpoints", summary="List serving endpoints")
    async def list_serving_endpoints(client: Asking) -> list[EndpointItem]:
        """Every serving endpoint that may be seen."""
        async with serving.slots:
            return [EndpointItem.of(endpoint) for endpoint in await client.list()]

    @router.get("/serving-endpoints/{endpoint_name}", summary="Describe a serving endpoint")
    async def get_serving_endpoint(endpoint_name: EndpointName, client: Asking) -> EndpointDetails:
        """Its state, address, served models and tags."""
        async with serving.slots:
            return EndpointDetails.of(await client.get(endpoint_name))

    @router.get("/serving-endpoints/{endpoint_name}/signature", summary="What the model takes")
    async def get_signature(endpoint_name: EndpointName, client: Asking) -> SignatureOutput:
        """Inputs, outputs, parameters, and an example of a request."""
        async with serving.slots:
            return SignatureOutput.of(await client.signature(endpoint_name))


def _add_asking(router: APIRouter, serving: Clients) -> None:
    Asking = Annotated[AsyncClient, Depends(serving.client)]  # noqa: N806 -- a type

    @router.post("/serving-endpoints/{endpoint_name}/predict", summary="Predict")
    async def predict(
        endpoint_name: EndpointName, model_input: ModelInput, client: Asking, request: Request
    ) -> ModelOutput:
        """Predictions of a classic model, checked against its signature before they are asked."""

        async def asked() -> Prediction:
            async with serving.slots:
                return await client.predict(
                    endpoint_name, **model_input.query(), **serving.options, check_state=True
                )

        answer = await while_wanted(request, asked())
        return ModelOutput(
            predictions=answer.predictions,
            endpoint_name=endpoint_name,
            served_entity=answer.served_entity,
            request_id=answer.request_id,
        )

    @router.post("/serving-endpoints/{endpoint_name}/batch-predict", summary="Predict several")
    async def batch_predict(
        endpoint_name: EndpointName, batch: BatchInput, client: Asking, request: Request
    ) -> BatchOutput:
        """One request for each item, at once as far as `concurrency` allows; an item that fails
        says so in its place. What concerns every item (no such endpoint, no permission) fails the
        whole."""
        details = await client.get(endpoint_name, refresh=False)
        if not details.ready:
            raise errors.NotReady(
                f"The serving endpoint '{endpoint_name}' is not ready.", endpoint=endpoint_name
            )

        async def one(index: int, item: ModelInput) -> BatchItem:
            async with serving.slots:
                try:
                    answer = await client.predict(endpoint_name, **item.query(), **serving.options)
                except _OF_ALL:
                    raise
                except errors.LakeportError as error:
                    return BatchItem(index=index, error=error.message, status=_status(error))
            return BatchItem(index=index, predictions=answer.predictions)

        async def every(items: list[ModelInput]) -> list[BatchItem]:
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(one(*each)) for each in enumerate(items)]
            except ExceptionGroup as failed:
                raise failed.exceptions[0] from None
            return [task.result() for task in tasks]

        results = await while_wanted(request, every(batch.items()))
        return BatchOutput(
            results=results, endpoint_name=endpoint_name, total_requests=len(results)
        )

    @router.post(
        "/serving-endpoints/{endpoint_name}/chat",
        summary="Chat",
        response_model=ChatOutput,
        responses={
            200: {
                "description": "The answer; with `stream`, server-sent events in OpenAI's form, "
                "the last of which is `[DONE]`.",
                "content": {"text/event-stream": {"schema": {"type": "string"}}},
            }
        },
    )
    async def chat(
        endpoint_name: EndpointName,
        chat_input: Annotated[ChatInput, Body()],
        client: Asking,
        request: Request,
    ) -> Any:
        """The answer of a chat model, whole or in pieces as they come."""
        if chat_input.stream:
            return await while_wanted(
                request, _streamed(serving, client, endpoint_name, chat_input)
            )

        async def asked() -> Chat:
            async with serving.slots:
                return await client.chat(
                    endpoint_name, chat_input.messages, **chat_input.fields(), **serving.options
                )

        return ChatOutput.of(await while_wanted(request, asked()), endpoint_name)


async def _streamed(
    serving: Clients, client: AsyncClient, name: str, chat_input: ChatInput
) -> Response:
    """A stream, once its first piece is there: what fails before has an honest status."""
    slots = serving.slots
    await slots.acquire()
    chunks = client.stream_chat(name, chat_input.messages, **chat_input.fields(), **serving.options)
    try:
        first = await anext(chunks, None)
    except BaseException:
        slots.release()
        raise

    async def events() -> AsyncIterator[bytes]:
        try:
            if first is not None:
                yield b"data: %s\n\n" % to_json(first.body)
            async for chunk in chunks:
                yield b"data: %s\n\n" % to_json(chunk.body)
        except errors.LakeportError as error:
            # The form that OpenAI's clients raise on; there is no [DONE] after it.
            told = {
                "message": error.message,
                "type": type(error).__name__,
                "code": error.error_code,
            }
            yield b"data: %s\n\n" % to_json({"error": told})
            return
        yield b"data: [DONE]\n\n"

    async def over() -> None:
        slots.release()
        await chunks.close()

    return _Events(events(), over)


class _Events(StreamingResponse):
    """Server-sent events; `over` is called whatever becomes of them: a caller who is gone before
    the first was sent leaves the iterator unread."""

    def __init__(
        self, events: AsyncIterator[bytes], over: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        super().__init__(
            events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"}
        )
        self._over = over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._over()


class _ErrorsMapped(APIRoute):
    """A route whose LakeportErrors become answers."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def mapped(request: Request) -> Response:
            try:
                return await handler(request)
            except errors.LakeportError as error:
                _refuse(error, getattr(request.state, "asks_as_caller", False))

        return mapped


def _refuse(error: errors.LakeportError, as_caller: bool) -> NoReturn:
    """Raise the HTTPException that tells the app's caller what happened behind the app."""
    status = _status(error)
    headers: dict[str, str] = {}
    if isinstance(error, errors.ApiError) and error.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    elif isinstance(error, errors.RateLimited):
        headers["Retry-After"] = "1"
    if as_caller and isinstance(error, errors.Unauthenticated | errors.ConfigError):
        # The caller's token, not the app's.
        status, headers["WWW-Authenticate"] = 401, "Bearer"
    raise HTTPException(status, error.message, headers or None) from error


def _status(error: errors.LakeportError) -> int:
    match error:
        case errors.TimedOut():
            return 504
        case errors.NotReady():
            return 503
        case errors.RateLimited():
            return 429
        case errors.InvalidInput():
            return 400
        case errors.PermissionDenied():
            return 403
        case errors.NotFound():
            return 404
        case errors.Unauthenticated():
            return 502
        case errors.BadRequest() | errors.Conflict():
            return error.status or 400
        case _:
            return 502
