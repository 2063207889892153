"""Both clients over TLS: whom they trust, and the way through a proxy."""

import asyncio
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from lakeport import AsyncClient, Client, ConnectionFailed, Prediction, Retry
from tests.integration.raw_server import RawServer, raw_server, reply

TOKEN = "dapi-very-secret"
ONCE = Retry(attempts=1)
BODY = {"inputs": [1]}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For 127.0.0.1, signed by itself: certificate and key in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "lakeport test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    file.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return file


@pytest.fixture
def server(certificate: Path) -> Iterator[RawServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with raw_server(context) as server:
        server.answers(reply(200, {"predictions": [1]}))
        yield server


def ask(url: str) -> Prediction:
    with Client(url, TOKEN, retry=ONCE) as client:
        client.predict("iris", body=BODY)
        return client.predict("iris", body=BODY)


def ask_async(url: str) -> Prediction:
    async def main() -> Prediction:
        async with AsyncClient(url, TOKEN, retry=ONCE) as client:
            return await client.predict("iris", body=BODY)

    return asyncio.run(main())


def test_an_authority_of_ones_own(
    server: RawServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

    assert ask(server.url).predictions == [1]
    assert ask_async(server.url).predictions == [1]
    assert [asked.connection for asked in server.asked] == [0, 0, 1]


@pytest.mark.parametrize("ask_it", [ask, ask_async])
def test_nobody_else_is_trusted(server: RawServer, ask_it: object) -> None:
    assert callable(ask_it)

    with pytest.raises(ConnectionFailed, match="SSL_CERT_FILE") as caught:
        ask_it(server.url)

    assert not caught.value.sent
    assert not server.asked


def test_a_server_that_speaks_no_tls() -> None:
    with raw_server() as plain, pytest.raises(ConnectionFailed) as caught:
        ask(plain.url.replace("http:", "https:"))

    assert not caught.value.sent


@pytest.mark.parametrize("ask_it", [ask, ask_async])
def test_a_tunnel_through_a_proxy(
    server: RawServer, certificate: Path, ask_it: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(ask_it)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    proxy = Tunnel()
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)

    assert ask_it(server.url).predictions == [1]

    assert proxy.heads[0].startswith(f"CONNECT 127.0.0.1:{server.port} ")
    assert TOKEN not in "".join(proxy.heads)
    assert server.asked[0].headers["authorization"] == f"Bearer {TOKEN}"
    proxy.close()


class Tunnel:
    """A proxy that connects whomever it is asked for."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.heads: list[str] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                caller, _ = self._socket.accept()
                head = caller.recv(65536).decode()
                self.heads.append(head)
                host, _, port = head.split(" ")[1].partition(":")
                there = socket.create_connection((host, int(port)))
                caller.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
                for one, other in ((caller, there), (there, caller)):
                    threading.Thread(target=_pump, args=(one, other), daemon=True).start()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
