"""Malformed, lying and huge requests to a real server: refused early, in form, in bounded memory.

A decent request is answered meanwhile and afterwards.
"""

import contextlib
import json
import select
import socket
import threading
from collections.abc import Iterator
from io import BytesIO

import psutil
import pytest

from tests.integration.hostile import (
    BAD_INPUT,
    BAD_JSON,
    ENDPOINTS,
    QUERY,
    ROW,
    Wire,
    assert_unharmed,
    check_error_form,
    gzip_bomb,
    read_answer,
)
from tests.integration.server import ServerProcess, closing, wait_for
from tests.models.fixtures import SavedModel

MIB = 1 << 20
INVOKE = "/serving-endpoints/iris/invocations"
#: The memory that the server may take for whatever one client sends.
BOUND = 64 * MIB

#: Operations that take a body.
OPERATIONS = [
    ("POST", ENDPOINTS),
    ("POST", ENDPOINTS + "/"),
    ("PUT", f"{ENDPOINTS}/iris/config"),
    ("PATCH", f"{ENDPOINTS}/iris/tags"),
    ("PATCH", f"{ENDPOINTS}/iris/notifications"),
    ("PUT", "/api/2.0/permissions/serving-endpoints/{id}"),
    ("PATCH", "/api/2.0/permissions/serving-endpoints/{id}"),
    ("POST", "/api/2.0/token/create"),
    ("POST", "/api/2.0/token/delete"),
]


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, saved_model: SavedModel
) -> Iterator[ServerProcess]:
    home = tmp_path_factory.mktemp("bodies") / "home"
    server = ServerProcess(home, models={"iris": saved_model("iris")}, registry="off")
    with closing(server):
        server.start().updated("iris")
        yield server


@pytest.fixture
def wire(server: ServerProcess) -> Iterator[Wire]:
    """The wire to a server that takes no harm."""
    workers = server.workers()
    wire = Wire(server)
    yield wire
    wire.close()
    assert_unharmed(server, workers)


@contextlib.contextmanager
def bounded_memory(process: psutil.Process, bound: int) -> Iterator[None]:
    """The process takes at most `bound` bytes more than it has now, at any time until the exit."""
    before = peak = process.memory_info().rss
    stop = threading.Event()

    def sample() -> None:
        nonlocal peak
        while not stop.wait(0.005):
            peak = max(peak, process.memory_info().rss)

    sampling = threading.Thread(target=sample)
    sampling.start()
    try:
        yield
    finally:
        stop.set()
        sampling.join()
    assert peak - before < bound, f"{(peak - before) / MIB:.0f} MiB more"


def of_server(server: ServerProcess) -> psutil.Process:
    return psutil.Process(server.process.pid)


# --- bodies of the control plane ------------------------------------------------------------------


@pytest.mark.parametrize("what", BAD_JSON)
def test_a_body_that_is_no_json_object_is_refused(wire: Wire, what: str) -> None:
    id = wire.server.get("iris")["id"]
    for method, target in OPERATIONS:
        answer = wire.check(method, target.format(id=id), BAD_JSON[what])

        assert answer.status == 400, (target, answer)
        assert answer.json()["error_code"] == "MALFORMED_REQUEST"


def test_the_last_of_two_equal_keys_counts(wire: Wire) -> None:
    answer = wire.check(
        "PATCH", f"{ENDPOINTS}/iris/tags", b'{"add_tags":[{"key":"a"}],"add_tags":[{"key":"b"}]}'
    )

    assert answer.json() == {"tags": [{"key": "b"}]}
    wire.check("PATCH", f"{ENDPOINTS}/iris/tags", {"delete_tags": ["b"]})


@pytest.mark.parametrize(
    "body",
    [
        {"name": "x", "config": {"served_entities": [{}] * 10_000}},
        {"name": "x", "config": {"served_entities": [{"nam": 1}] * 10_000}},
        {"name": "x", "tags": [{"key": str(n)} for n in range(10_000)]},
        {"name": "x", **{f"unknown{n}": n for n in range(20_000)}},
        {"name": "x", "k" * 100_000: 1},
        {"name": "x", "description": "x" * 500_000},
        {"name": ["x"] * 100_000},
        {"name": "x", "ai_gateway": {str(n): [[[[]]]] for n in range(10_000)}},
        {
            "name": "x",
            "config": {"traffic_config": {"routes": [{"traffic_percentage": 1}] * 9_999}},
        },
        {"name": "x", "config": {"served_entities": {"name": "x"}}},
        {"name": 10**400},
    ],
    ids=lambda body: str(body)[:60],
)
def test_a_body_of_too_much_is_refused_shortly(wire: Wire, body: object) -> None:
    answer = wire.check("POST", ENDPOINTS, body)

    assert answer.status in {400, 501}
    assert len(answer.body) < 2000


# --- bodies of invocations ------------------------------------------------------------------------


@pytest.mark.parametrize("what", BAD_JSON | BAD_INPUT)
def test_an_input_that_no_model_can_take_is_refused(wire: Wire, what: str) -> None:
    answer = wire.check("POST", INVOKE, (BAD_JSON | BAD_INPUT)[what])

    assert answer.status == 400
    assert answer.json()["error_code"] in {
        "BAD_REQUEST", "INVALID_PARAMETER_VALUE", "MALFORMED_REQUEST",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/csv", b""),
        ("text/csv", b"\xff\xfe"),
        ("text/csv", b'"' * 10_000),
        ("text/csv", b"a,b\n1\n1,2,3\n"),
        ("text/csv", b"\0" * 1000),
        ("text/csv", b"," * 2_000),
        ("text/csv", b"=cmd|' /C calc'!A0\n1"),
        ("application/vnd.apache.parquet", b""),
        ("application/vnd.apache.parquet", b"PAR1PAR1"),
        ("application/vnd.apache.parquet", b"PAR1" + b"\xff" * 1000 + b"\xff\xff\xff\x7fPAR1"),
        ("application/vnd.apache.parquet", b"PAR1" + bytes(1000) + b"\xe8\x03\0\0PAR1"),
    ],
)
def test_a_table_that_is_none_is_refused(wire: Wire, content_type: str, body: bytes) -> None:
    answer = wire.check("POST", INVOKE, body, headers={"Content-Type": content_type})

    assert answer.status == 400


@pytest.mark.parametrize(
    "content_type",
    [
        "", "text/html", "application/octet-stream", "application/x-python-pickle",
        "multipart/form-data", "application/json; charset=utf-7", "application/json; charset=",
        "application/json; x=y", ";", "application/json, text/csv", "a" * 5000, "*/*", "\xff",
    ],
)  # fmt: skip
def test_another_content_type_is_unsupported(wire: Wire, content_type: str) -> None:
    answer = wire.check("POST", INVOKE, QUERY, headers={"Content-Type": content_type})

    assert answer.status == 415


@pytest.mark.parametrize(
    "encoding", ["br", "zstd", "deflate", "gzip, gzip", "compress", "x", "\xff"]
)
def test_another_content_encoding_is_unsupported(wire: Wire, encoding: str) -> None:
    answer = wire.check("POST", INVOKE, QUERY, headers={"Content-Encoding": encoding})

    assert answer.status == 415


@pytest.mark.parametrize("body", [b"", b"x", b"\x1f\x8b", b"\x1f\x8b\x08" + b"\xff" * 500, QUERY])
def test_what_is_no_gzip_is_refused(wire: Wire, body: bytes) -> None:
    answer = wire.check("POST", INVOKE, body, headers={"Content-Encoding": "gzip"})

    assert answer.status == 400


# --- huge bodies ----------------------------------------------------------------------------------


def test_a_body_of_the_largest_size_is_answered(wire: Wire) -> None:
    with bounded_memory(of_server(wire.server), BOUND):
        answer = wire.send("POST", INVOKE, QUERY.ljust(16 * MIB))

    assert answer.status == 200


@pytest.mark.parametrize(
    ("target", "largest"),
    [(INVOKE, 16 * MIB), ("/serving-endpoints/x/invocations", 16 * MIB), (ENDPOINTS, MIB)],
)  # fmt: skip
def test_a_body_of_a_byte_more_is_refused(wire: Wire, target: str, largest: int) -> None:
    with bounded_memory(of_server(wire.server), BOUND):
        answer = wire.check("POST", target, b" " * (largest + 1))

    assert answer.status == 413


@pytest.mark.parametrize("length", [16 * MIB + 1, 1 << 31, 1 << 40, (1 << 63) - 1])
@pytest.mark.parametrize("target", [INVOKE, ENDPOINTS])
def test_a_body_that_is_announced_too_large_need_not_be_sent(
    wire: Wire, target: str, length: int
) -> None:
    with wire.connection() as connection:
        connection.sendall(_head(wire, target, f"Content-Length: {length}"))
        answer, _ = read_answer(connection)

    assert answer.status == 413
    check_error_form(answer)


@pytest.mark.parametrize("chunk", [MIB, 16])
@pytest.mark.parametrize("target", [INVOKE, ENDPOINTS])
def test_an_endless_body_is_refused_in_bounded_memory(wire: Wire, target: str, chunk: int) -> None:
    piece = (b"%x\r\n" % chunk + b" " * chunk + b"\r\n") * (MIB // chunk)
    sent = 0
    with bounded_memory(of_server(wire.server), BOUND), wire.connection() as connection:
        connection.sendall(_head(wire, target, "Transfer-Encoding: chunked"))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while sent < 1024 * MIB and not select.select([connection], [], [], 0)[0]:
                connection.sendall(piece)
                sent += MIB
        answer, _ = read_answer(connection)

    assert answer.status == 413
    assert sent < 64 * MIB
    check_error_form(answer)


@pytest.mark.parametrize("size", [1 << 26, 1 << 32])
def test_a_gzip_bomb_is_refused_in_bounded_memory(wire: Wire, size: int) -> None:
    bomb = gzip_bomb(size)
    [worker] = wire.server.workers()

    with bounded_memory(of_server(wire.server), BOUND), bounded_memory(worker, 2 * BOUND):
        answer = wire.check("POST", INVOKE, bomb, headers={"Content-Encoding": "gzip"})

    assert answer.status == 413


def test_a_parquet_bomb_is_refused_in_bounded_memory(wire: Wire) -> None:
    from pyarrow import parquet, repeat, table

    file = BytesIO()
    parquet.write_table(table(dict.fromkeys(ROW, repeat(0.0, 5_000_000))), file)
    assert len(file.getvalue()) < MIB
    [worker] = wire.server.workers()

    with bounded_memory(worker, 2 * BOUND):
        answer = wire.check(
            "POST",
            INVOKE,
            file.getvalue(),
            headers={"Content-Type": "application/vnd.apache.parquet"},
        )

    assert answer.status == 413


def test_a_table_that_its_records_would_blow_up_ends_no_replica(wire: Wire) -> None:
    records = [{f"column {n}": 1} for n in range(30_000)]

    answer = wire.check("POST", INVOKE, {"dataframe_records": records})

    assert answer.status == 413


# --- heads ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        b"".join(b"X-%d: x\r\n" % n for n in range(10_000)),
        b"X: x\r\n" * 101,
        b"X-Long: " + b"x" * MIB + b"\r\n",
        b"x" * MIB + b": x\r\n",
        b"Cookie: " + b"a=b; " * 20_000 + b"\r\n",
    ],
    ids=["10000 headers", "101 headers", "a header of 1 MiB", "a name of 1 MiB", "a long cookie"],
)
@pytest.mark.parametrize("target", [b"/health", b"/nothing", INVOKE.encode()])
def test_a_head_of_too_much_is_refused(wire: Wire, headers: bytes, target: bytes) -> None:
    with bounded_memory(of_server(wire.server), BOUND):
        answer = wire.raw(
            b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\n" + headers + b"\r\n"
        )

    assert answer.status == 431
    check_error_form(answer)


def test_a_target_of_a_mebibyte_is_refused(wire: Wire) -> None:
    answer = wire.raw(b"GET /" + b"a" * MIB + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")

    assert answer.status in {414, 431}
    check_error_form(answer)


@pytest.mark.parametrize(
    "lines",
    [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5, 5",
        "Content-Length: -5",
        "Content-Length: +5",
        "Content-Length: 0x5",
        "Content-Length: 5 5",
        "Content-Length: \u0665",
        "Content-Length: ",
        "Content-Length: 99999999999999999999999",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding : chunked",
        " Transfer-Encoding: chunked",
        "Content-Length: 5\r\n Transfer-Encoding: chunked",
        "Host: other\r\nContent-Length: 5",
    ],
)
@pytest.mark.parametrize("target", [INVOKE, ENDPOINTS])
def test_a_length_that_can_be_read_in_two_ways_is_refused(
    wire: Wire, target: str, lines: str
) -> None:
    smuggled = b"0\r\n\r\nGET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with wire.connection() as connection:
        connection.sendall(_head(wire, target, lines) + smuggled)
        answer, kept = read_answer(connection)

        assert answer.status == 400
        check_error_form(answer)
        assert not kept
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(100) == b""


@pytest.mark.parametrize(
    "bytes_",
    [
        b"\r\n\r\n", b"GET\r\n\r\n", b"GET / \r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\0" * 100,
        b"GET / HTTP/1.1\nHost: x\n\n", b"GET  /  HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n", b"GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + b"\xaa" * 200,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a/../x?\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a#b\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
        b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n", b"* " * 1000,
    ],
)  # fmt: skip
def test_what_is_no_decent_request_gets_no_further(wire: Wire, bytes_: bytes) -> None:
    with wire.connection() as connection:
        connection.sendall(bytes_)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(65536):
                received += piece

    assert received[9:12] in {b"", b"400", b"401", b"405"}, received
    assert b"Traceback" not in received


# --- half of it -----------------------------------------------------------------------------------


def test_bodies_that_break_off_start_nothing(wire: Wire) -> None:
    for target in (INVOKE, ENDPOINTS):
        for lines in (f"Content-Length: {len(QUERY)}", "Transfer-Encoding: chunked"):
            for half in (b"", QUERY[:20], b"ff\r\n" + QUERY[:20], b"zz\r\n"):
                with wire.connection() as connection:
                    connection.sendall(_head(wire, target, lines) + half)

    answer = wire.check("GET", ENDPOINTS)
    assert [endpoint["name"] for endpoint in answer.json()["endpoints"]] == ["iris"]


def test_a_body_longer_than_announced_is_not_taken_for_one(wire: Wire) -> None:
    with wire.connection() as connection:
        connection.sendall(_head(wire, INVOKE, f"Content-Length: {len(QUERY)}") + QUERY + QUERY)
        answer, _ = read_answer(connection)

        assert answer.status == 200
        assert connection.recv(100) == b""


def test_a_body_shorter_than_announced_is_waited_for(wire: Wire) -> None:
    with wire.connection() as connection:
        connection.sendall(_head(wire, INVOKE, f"Content-Length: {len(QUERY)}") + QUERY[:-5])
        wire.query()
        assert not select.select([connection], [], [], 0)[0]
        connection.sendall(QUERY[-5:])
        answer, _ = read_answer(connection)

    assert answer.status == 200


@pytest.mark.slow
def test_half_sent_requests_hold_up_nobody_and_end_in_time(wire: Wire) -> None:
    """The door's own tests hold each deadline; here are many at once, at a server as it comes."""
    heads, bodies = 300, 100
    with contextlib.ExitStack() as stack, bounded_memory(of_server(wire.server), BOUND):
        halves = [stack.enter_context(wire.connection()) for _ in range(heads + bodies)]
        for connection in halves[:heads]:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Half")
        for connection in halves[heads:]:
            connection.sendall(_head(wire, INVOKE, "Content-Length: 1000") + QUERY[:20])

        for _ in range(100):
            wire.query()
        answered = set(halves[:heads])

        def all_ended() -> bool:
            wire.query()
            for connection in select.select(list(answered), [], [], 0.5)[0]:
                answer, kept = read_answer(connection)
                assert (answer.status, kept) == (408, False)
                check_error_form(answer)
                answered.remove(connection)
            return not answered

        wait_for(all_ended, within=30, what="the end of half-sent heads")


def test_normal_requests_are_answered_after_all_this(wire: Wire) -> None:
    for _ in range(50):
        wire.query()
    assert len(of_server(wire.server).net_connections(kind="tcp")) < 50


def _head(wire: Wire, target: str, lines: str) -> bytes:
    return (
        f"POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {wire.server.token}\r\n{lines}\r\n\r\n"
    ).encode()


def test_the_corpora_are_what_they_say() -> None:
    assert len(BAD_JSON | BAD_INPUT) > 70
    assert json.loads(QUERY)
