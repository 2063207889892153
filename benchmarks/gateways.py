"""Gateways in front of one upstream server: Lakeport, and others that are installed for this.

Each other one lives in an environment of its own under a cache folder, at the version that is named
here. Each is set up in its cheapest form: one worker process as Lakeport has one, no database where
it can do without, no usage tracking, no access log where that can be switched off.
"""

import http.client
import json
import secrets
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from installs import first_on_path, install
from mock_upstream import MODEL
from servers import NotStarted, Peer, Running, free_port

#: What the model is called at each gateway; the upstream server calls it MODEL.
ENDPOINT = "mock"
LITELLM = "1.106.2"
MLFLOW = "3.17.2"

_BIN = Path(sys.executable).parent
_JSON = {"Content-Type": "application/json"}
_KEY = "sk-upstream"


@dataclass(frozen=True, slots=True)
class Gateway:
    """One of those that are compared. `model` is what its callers name."""

    peer: Peer
    model: str = ENDPOINT
    #: Asked until it answers before `prepare` may run.
    health: str | None = None
    prepare: Callable[[Running], None] = lambda server: None

    def body(self, *, stream: bool = False) -> bytes:
        messages = [
            {"role": "system", "content": "You are a helpful assistant. Answer briefly."},
            {"role": "user", "content": "Say twenty words about a lake and its port."},
        ]
        asked: dict[str, Any] = {"model": self.model, "messages": messages, "max_tokens": 64}
        return json.dumps(asked | {"stream": True} if stream else asked).encode()

    def start(self, server: Running) -> float:
        """Wait until it answers chats. Seconds since its start. Raises NotStarted."""
        if self.health is not None:
            server.peer = replace(self.peer, path=self.health)
            server.wait_for_answer(None)
            server.peer = self.peer
        self.prepare(server)
        return server.wait_for_answer(self.body())


def direct(port: int) -> Gateway:
    """No gateway: the upstream server itself."""
    script = Path(__file__).with_name("mock_upstream.py")
    command = [sys.executable, str(script), str(port)]
    return Gateway(Peer("direct", command, port, "/v1/chat/completions", {}), model=MODEL)


def lakeport(upstream: int, folder: Path) -> Gateway:
    port, token = free_port(), secrets.token_hex(16)
    target = f"{ENDPOINT}=http://127.0.0.1:{upstream}/v1#{MODEL}"
    command = [str(_BIN / "lakeport"), "serve", "--home", str(folder / "home")]
    command += ["--port", str(port), "--chat", target]
    return Gateway(
        Peer(
            "lakeport",
            command,
            port,
            "/serving-endpoints/chat/completions",
            {"LAKEPORT_ADMIN_TOKEN": token},
            {**_JSON, "Authorization": f"Bearer {token}"},
        )
    )


def litellm(upstream: int, folder: Path, cache: Path, workers: int) -> Gateway:
    """LiteLLM's proxy."""
    bin = install(cache, f"litellm-{LITELLM}", f"litellm[proxy]=={LITELLM}")
    port, key = free_port(), f"sk-{secrets.token_hex(24)}"
    params = {"model": f"openai/{MODEL}", "api_base": _base(upstream), "api_key": _KEY}
    config = _write(
        folder / "litellm.yaml",
        {
            "model_list": [{"model_name": ENDPOINT, "litellm_params": params}],
            "general_settings": {"master_key": key},
        },
    )
    command = [str(bin / "litellm"), "--config", str(config), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--num_workers", str(workers)]
    environment = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # otherwise it fetches its prices at the start
        "LITELLM_TELEMETRY": "False",
        "LITELLM_LOG": "ERROR",
        **first_on_path(bin),
    }
    headers = {**_JSON, "Authorization": f"Bearer {key}"}
    return Gateway(Peer("litellm", command, port, "/v1/chat/completions", environment, headers))


def mlflow_server(upstream: int, folder: Path, cache: Path, workers: int) -> Gateway:
    """The gateway in `mlflow server`, which keeps its endpoints in a database: SQLite here."""
    bin = install(cache, f"mlflow-{MLFLOW}", f"mlflow[genai]=={MLFLOW}")
    port = free_port()
    command = [str(bin / "mlflow"), "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts"), "--workers", str(workers)]
    environment = {
        "MLFLOW_CRYPTO_KEK_PASSPHRASE": secrets.token_hex(16),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_GATEWAY_API_BASE_ALLOWED_SCHEMES": "http,https",
        "MLFLOW_GATEWAY_API_BASE_ALLOW_PRIVATE_IPS": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # processes that would do nothing
        "UVICORN_ACCESS_LOG": "false",
        **first_on_path(bin),
    }

    def prepare(server: Running) -> None:
        """An endpoint without usage tracking, which doubles what a request costs."""
        secret = _create(port, "secrets", secret_name=ENDPOINT, secret_value={"api_key": _KEY},
                         provider="openai", auth_config={"api_base": _base(upstream)})  # fmt: skip
        secret_id = secret["secret"]["secret_id"]
        model = _create(port, "model-definitions", name=ENDPOINT, secret_id=secret_id,
                        provider="openai", model_name=MODEL)  # fmt: skip
        model_id = model["model_definition"]["model_definition_id"]
        models = [{"model_definition_id": model_id, "linkage_type": "PRIMARY", "weight": 1.0}]
        _create(port, "endpoints", name=ENDPOINT, model_configs=models, usage_tracking=False)

    path = "/gateway/mlflow/v1/chat/completions"
    peer = Peer("mlflow-server", command, port, path, environment)
    return Gateway(peer, health="/health", prepare=prepare)


def mlflow_gateway(upstream: int, folder: Path, cache: Path, workers: int) -> Gateway:
    """`mlflow gateway start`: the older one, with a file."""
    bin = install(cache, f"mlflow-{MLFLOW}", f"mlflow[genai]=={MLFLOW}")
    port = free_port()
    model = {
        "provider": "openai",
        "name": MODEL,
        "config": {"openai_api_key": _KEY, "openai_api_base": _base(upstream)},
    }
    endpoint = {"name": ENDPOINT, "endpoint_type": "llm/v1/chat", "model": model}
    config = _write(folder / "gateway.yaml", {"endpoints": [endpoint]})
    command = [str(bin / "mlflow"), "gateway", "start", "--config-path", str(config)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", str(workers)]
    environment = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "UVICORN_ACCESS_LOG": "false",
        **first_on_path(bin),
    }
    return Gateway(Peer("mlflow-gateway", command, port, "/v1/chat/completions", environment))


RIVALS: Mapping[str, Callable[[int, Path, Path, int], Gateway]] = {
    "litellm": litellm,
    "mlflow-server": mlflow_server,
    "mlflow-gateway": mlflow_gateway,
}


def _base(upstream: int) -> str:
    return f"http://127.0.0.1:{upstream}/v1"


def _write(file: Path, document: dict[str, Any]) -> Path:
    file.write_text(yaml.safe_dump(document))
    return file


def _create(port: int, what: str, **fields: Any) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        path = f"/api/3.0/mlflow/gateway/{what}/create"
        connection.request("POST", path, json.dumps(fields), _JSON)
        answer = connection.getresponse()
        said = answer.read()
    finally:
        connection.close()
    if answer.status != 200:
        raise NotStarted(f"mlflow server: {path}: {answer.status} {said[:500]!r}")
    created: dict[str, Any] = json.loads(said)
    return created
