"""MLflow's REST API, as much of it as Lakeport asks for itself."""

from collections.abc import Mapping
from typing import Any, Protocol

import aiohttp
from yarl import URL

from lakeport.models.base import RegistryUnavailable

API = "/api/2.0/mlflow"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
#: Seconds for one JSON answer.
TIMEOUT = aiohttp.ClientTimeout(total=60, sock_connect=10)
#: Seconds between two pieces of a file.
FILE_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=120)
#: The session leaves bodies as they are, so none may be compressed.
PLAIN = {"Accept-Encoding": "identity"}
#: A JSON answer longer than this is not one that was asked for.
LONGEST_ANSWER = 64 * 1024 * 1024


class Server(Protocol):
    """An MLflow server: `RegistryServer` (embedded) or `OutsideServer`."""

    @property
    def up(self) -> bool: ...

    def begin(self) -> None: ...

    async def session(self) -> tuple[aiohttp.ClientSession, str]: ...

    async def close(self) -> None: ...


class Refused(Exception):
    """MLflow answered with an error of its own."""

    def __init__(self, error_code: str, message: str) -> None:
        super().__init__(f"{error_code}: {message}")
        self.error_code = error_code
        self.message = message


async def get(server: Server, path: str, parameters: Mapping[str, str]) -> dict[str, Any]:
    """The JSON object that GET `path` gives. Raises Refused, RegistryUnavailable."""
    session, base_url = await server.session()
    url = URL(base_url + path, encoded=True).with_query(parameters)
    try:
        async with session.get(
            url, headers=PLAIN, timeout=TIMEOUT, allow_redirects=False
        ) as answer:
            await check(answer)
            if (answer.content_length or 0) > LONGEST_ANSWER:
                raise RegistryUnavailable("The model registry gave an answer that is too long.")
            body = await answer.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise unreachable(error) from error
    except ValueError as error:
        raise RegistryUnavailable("The model registry gave an answer that is no JSON.") from error
    if not isinstance(body, dict):
        raise RegistryUnavailable("The model registry gave an answer that is no JSON object.")
    return body


async def check(answer: aiohttp.ClientResponse) -> None:
    """Raises Refused for an error that MLflow explains, RegistryUnavailable for any other."""
    if answer.status == 200:
        return
    if answer.status in {401, 403}:
        raise RegistryUnavailable(
            f"The MLflow server refuses Lakeport's credentials (HTTP {answer.status})."
        )
    if 400 <= answer.status < 500:
        try:
            body = await answer.json(content_type=None)
            if body["error_code"] != "ENDPOINT_NOT_FOUND":  # no MLflow, or not at this address
                raise Refused(str(body["error_code"]), str(body.get("message", "")))
        except (ValueError, KeyError, TypeError, AttributeError):
            pass  # not MLflow's form: say what came
    raise RegistryUnavailable(f"The model registry answered with HTTP {answer.status}.")


def unreachable(error: Exception) -> RegistryUnavailable:
    reason = type(error).__name__
    if isinstance(error, TimeoutError):
        reason = "it took too long"
    elif isinstance(error, aiohttp.ClientConnectorError):
        reason = "no connection"
    return RegistryUnavailable(f"The model registry did not answer ({reason}).")
