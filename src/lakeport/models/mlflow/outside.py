"""An MLflow server that somebody else runs."""

import base64
from collections.abc import Mapping

import aiohttp
from yarl import URL

CONNECTIONS = 128
#: Uvicorn, under most MLflow servers, ends an idle connection after five seconds.
IDLE_CONNECTION = 4.0


class OutsideServer:
    """Connections to the MLflow server at `uri`, authenticated as Lakeport.

    `environ` may hold MLflow's own variables for that: MLFLOW_TRACKING_TOKEN, or
    MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD. Raises ValueError when `uri` cannot be
    used.
    """

    def __init__(self, uri: str, environ: Mapping[str, str]) -> None:
        url = URL(uri)
        if url.scheme not in {"http", "https"} or not url.host:
            raise ValueError("The MLflow tracking URI must begin with http:// or https://")
        if url.user or url.password or url.query_string or url.fragment:
            raise ValueError(
                "The MLflow tracking URI must be an address alone; credentials go to "
                "MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            )
        self._base_url = str(url).rstrip("/")
        self._headers = credentials(environ)
        self._session: aiohttp.ClientSession | None = None

    @property
    def up(self) -> bool:
        return True

    def begin(self) -> None:
        """Nothing to start."""

    async def session(self) -> tuple[aiohttp.ClientSession, str]:
        """Connections to it and the URL below which it answers."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=CONNECTIONS, keepalive_timeout=IDLE_CONNECTION
                ),
                headers=self._headers,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session, self._base_url

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def credentials(environ: Mapping[str, str]) -> dict[str, str]:
    """The Authorization header that MLflow's own client would send, or none."""
    if token := environ.get("MLFLOW_TRACKING_TOKEN"):
        return {"Authorization": f"Bearer {token}"}
    name = environ.get("MLFLOW_TRACKING_USERNAME")
    password = environ.get("MLFLOW_TRACKING_PASSWORD")
    if name and password:
        both = base64.b64encode(f"{name}:{password}".encode()).decode()
        return {"Authorization": f"Basic {both}"}
    return {}
