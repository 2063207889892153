"""What a hostile client sends: names, paths, bodies and heads; and how an answer to it must look.

Requests go over plain sockets: every decent HTTP client mends what is sent here.
"""

import contextlib
import gzip
import http.client
import json
import secrets
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

from fastapi import FastAPI

from lakeport.api.control_plane import build_control_plane
from lakeport.api.ports import SecretsPort, TokensPort
from lakeport.control.log_pages import LogPages
from lakeport.control.ports import EndpointsPort
from tests.integration.server import ServerProcess

ROOT = Path(__file__).parents[2]
JSON = {"Content-Type": "application/json"}
ENDPOINTS = "/api/2.0/serving-endpoints"
#: Seconds in which every answer must have come: nothing hangs.
SOON = 60.0

ROW = {"sepal length (cm)": 1, "sepal width (cm)": 2, "petal length (cm)": 3, "petal width (cm)": 4}
QUERY = json.dumps({"dataframe_records": [ROW]}).encode()

# --- names ----------------------------------------------------------------------------------------

_LONG = [letter * count for letter in "a/.%\u00e9" for count in (64, 256, 1024)]
_ASTRAL = "\U0001f600"

#: By what is wrong with them; a test holds that there are more than 200.
NAMES: Mapping[str, list[str]] = {
    "traversal": [
        *("../" * depth + "etc/passwd" for depth in (1, 2, 3, 8, 32)),
        *("..\\" * depth + "windows\\win.ini" for depth in (1, 8)),
        ".", "..", "...", "....", "./", "../", ".\\", "..\\", "/..", "/../", "/.", "//", "///", "/",
        "\\", "\\\\", "....//", "....\\\\", "..//..//etc", ".././../etc/passwd", "..;/", "..;/etc",
        "/etc/passwd", "//etc/passwd", "C:\\Windows\\win.ini", "\\\\host\\share\\x", "~", "~root",
        "~/.ssh/id_rsa", "$HOME", "${HOME}", "iris/../../x", "iris/..", "iris/.", "iris/", "/iris",
        "iris//x", "iris\\..\\x", "iris/../iris", "..iris", "iris..", ".iris", "-iris", "_iris",
        "file:///etc/passwd", "file:etc/passwd", "file://localhost/etc/passwd",
        "/proc/self/environ", "/dev/zero", "/dev/stdin", "models:/iris/1", "runs:/x/model",
        "http://127.0.0.1:1/",
    ],
    "encoded": [
        "%2e%2e%2f", "%2e%2e/", "..%2f", "%2e%2e%5c", "..%5c", "%252e%252e%252f", "..%252f",
        "%25252e%25252e%25252f", "%c0%ae%c0%ae/", "%c0%af", "..%c0%af", "%e0%80%ae", "%uff0e%uff0e",
        "%00", "iris%00", "%00iris", "iris%00.json", "%0a", "%0d%0a", "%20", "%", "%%", "%zz", "%2",
        "%25", "%2f", "%5c", "%ff", "%ed%a0%80", "&#46;&#46;/", "&amp;", "\\u002e\\u002e/", "\\x2e",
        "=?utf-8?q?iris?=", "+", "iris+x", "iris x",
    ],
    "unicode": [
        "\u2024\u2024/", "\uff0e\uff0e\uff0f", "\u2215etc", "\u2044etc", "\u29f5", "\uff3c",
        "i\u0307ris", "\u0131r\u0131s", "\uff49\uff52\uff49\uff53", "ir\u200bis", "\u200d",
        "\ufeff", "\ufeffiris", "iris\u00ad", "\u00e9", "e\u0301", "e" + "\u0301" * 200, "\u00df",
        "\u1e9e", "\u2126", "\u212a", "\u00c5", "\u03c2", "\ufb01", "\u337f", "\ufdfa", "\u2028",
        "\u2029", "\u0085", "\u00a0", "\u3000", "\u2003iris", "\ufffd", "\ufffe", "\uffff",
        "\U0010ffff", "\ue000", "\u0430dmin", "adm\u0456n", "\u6a21\u578b", "\u30e2\u30c7\u30eb",
        "\u0e33",
    ],
    "controls": [
        "\0", "iris\0", "\0iris", "iris\0/../x", "\r\n", "iris\r\nX-Injected: 1", "\nX-Injected: 1",
        "\r", "\n", "\t", "\x0b", "\x0c", "\x1b[31mred", "\x1b]0;title\x07", "\x7f", "\x08\x08",
        "\x01", "\x80", "\x9b", "iris\nINFO forged line", "iris\r\n\r\n<html>",
    ],
    "reserved": [
        "", " ", "  iris  ", "null", "None", "nil", "undefined", "true", "false", "NaN", "Infinity",
        "-Infinity", "0", "-1", "1e400", "9" * 40, "0x41", "__proto__", "constructor", "prototype",
        "toString", "__class__", "__init__", "CON", "PRN", "AUX", "NUL", "COM1", "LPT1", "con.txt",
        "pt", "databricks-x", "admins", "users", "admin", "system", "config", "config:stop",
        "default", "invocations", "served-models", "chat", "models", "health", "openapi.json", "@",
        "@champion", ":stop", "iris:stop", "iris@1", "iris,iris", "iris;iris", "iris?x=1",
        "iris#x", "*", "?", "[",
    ],
    "long": [*_LONG, "../" * 1000, _ASTRAL * 500, "a" * 8000],
    "quotes": [
        "'", '"', "`", "''", '""', "' OR '1'='1", "' OR 1=1 --", "'; DROP TABLE endpoints; --",
        '" OR ""="', "1; SELECT pg_sleep(10)", "' UNION SELECT * FROM tokens --", "iris'--", "\\'",
        "%' AND 1=0 --", "_%", "x') OR ('1'='1", "iris/*", "*/", "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>", "javascript:alert(1)", "]]>", "<!--",
        "<?xml version='1.0'?>", "; ls", "| id", "&& id", "$(id)", "`id`", "\n id", "iris;id",
        "-rf", "--help", "-c", "{}",
    ],
    "formats": [
        "%s", "%n", "%x%x%x%x", "%s%s%s%s%s%n", "%d", "%(name)s", "{0}", "{name}", "{0.__class__}",
        "{self.__init__.__globals__}", "%99999999d", "{:>99999999}", "{{7*7}}", "${7*7}", "#{7*7}",
        "<%= 7*7 %>", "{{config}}", "{{secrets/a/b}}", "{{ secrets/a/b }}", "{% for x in y %}",
        "${jndi:ldap://127.0.0.1/a}", "$((7*7))", "@(7*7)", "[[7*7]]", "*{7*7}", "~{x}", "{{{x}}}",
    ],
    "emoji": [
        _ASTRAL, "iris" + _ASTRAL, "\U0001f468\u200d\U0001f469\u200d\U0001f467",
        "\U0001f1e9\U0001f1ea", "\u2764\ufe0f", "\U000e0041", "\U0001f3f4\U000e0067",
        "\U0001d4f2\U0001d4fb", "\u20e3",
    ],
    "right to left": [
        "\u202eiris", "iris\u202egpj.exe", "\u200f", "\u200e", "\u2066iris\u2069", "\u202d",
        "\u061c", "\u0645\u0631\u062d\u0628\u0627", "\u05e9\u05dc\u05d5\u05dd", "\ufdfd",
    ],
    "surrogates": [
        "\ud800", "\udc00", "\udfff", "iris\ud800", "\ud800iris", "\udc00\ud800", "\udcff",
        "\udc80x",
    ],
}  # fmt: skip
ALL_NAMES = list(dict.fromkeys(name for names in NAMES.values() for name in names))


def in_path(name: str) -> bytes:
    """A name as one segment of a path, encoded once; lone surrogates as the bytes they'd be."""
    return quote(name.encode("utf-8", "surrogatepass"), safe="").encode()


#: Segments that are sent as they stand.
RAW_SEGMENTS: list[bytes] = [
    b"..", b".", b"...", b"../..", b"../../../../etc/passwd", b"..%2f..%2f..%2fetc%2fpasswd",
    b"%2e%2e/%2e%2e/etc/passwd", b"%2e%2e%2f%2e%2e%2fetc%2fpasswd", b"%252e%252e%252fetc",
    b"%25252e%25252e%25252fetc", b"..%252f..%252fetc%252fpasswd", b"..%5c..%5cetc", b"..\\..\\etc",
    b"..%c0%af..%c0%afetc", b"%c0%ae%c0%ae%c0%afetc", b"%e0%80%ae%e0%80%ae/etc",
    b"%u002e%u002e/etc", b"..;/..;/etc/passwd", b"....//....//etc", b"/etc/passwd",
    b"//etc/passwd", b"%2fetc%2fpasswd", b"%2f%2fetc%2fpasswd", b"%00", b"x%00", b"x%00.txt",
    b"..%00/etc", b"%0d%0aX-Injected:%201", b"%0aX-Injected:%201", b"%", b"%%", b"%2", b"%zz",
    b"%ff%fe", b"%80", b"%ed%a0%80", b"%f4%90%80%80", b"%f8%88%80%80%80", b"\xff\xfe", b"\x80",
    b"\xc3\xa9", b"\xed\xa0\x80", b"\xf0\x9f\x98\x80", b"x;y=z", b"x%3fy", b"x%23y", b"x?y",
    b"x&y", b"~root", b"~", b"@", b":", b"*", b"'", b'"', b"<>", b"{x}", b"[x]", b"|", b"^", b"`",
    b"%5c%5chost%5cshare", b"file:%2f%2f%2fetc%2fpasswd", b"file:///etc/passwd",
    b"http://127.0.0.1:1/x", b"a" * 9000, b"%61" * 3000, b"/" * 9000, b"../" * 3000, b"",
]  # fmt: skip

# --- bodies ---------------------------------------------------------------------------------------

_DEEP = 100_000

#: No JSON object, or one that hardly is: each is refused with 400 on the control plane.
BAD_JSON: dict[str, bytes] = {
    "nothing": b"",
    "spaces": b" " * 100_000,
    "null": b"null",
    "true": b"true",
    "number": b"42",
    "string": b'"iris"',
    "array": b"[]",
    "array of objects": b'[{"name":"x"}]',
    "truncated": b'{"name":"x"',
    "truncated string": b'{"name":"x',
    "truncated escape": b'{"name":"\\u12',
    "trailing": b'{"name":"x"} x',
    "two objects": b'{"name":"x"}{"name":"y"}',
    "trailing comma": b'{"name":"x",}',
    "single quotes": b"{'name':'x'}",
    "comment": b'{"name":"x"/*y*/}',
    "bare key": b'{name:"x"}',
    "byte order mark": b'\xef\xbb\xbf{"name":"x"}',
    "utf-16": '{"name":"x"}'.encode("utf-16"),
    "utf-32": '{"name":"x"}'.encode("utf-32"),
    "latin-1": b'{"name":"\xe9"}',
    "overlong": b'{"name":"\xc0\xae\xc0\xae"}',
    "raw surrogate": b'{"name":"\xed\xa0\x80"}',
    "escaped surrogate": b'{"name":"\\ud800"}',
    "escaped surrogates, swapped": b'{"name":"\\udc00\\ud800"}',
    "escaped NUL": b'{"name":"\\u0000"}',
    "raw NUL": b'{"name":"\0"}',
    "raw newline": b'{"name":"\n"}',
    "NaN": b'{"name":NaN}',
    "Infinity": b'{"name":-Infinity}',
    "huge float": b'{"name":1e400}',
    "huge integer": b'{"name":' + b"9" * 500_000 + b"}",
    "leading zero": b'{"name":01}',
    "deep arrays": b"[" * _DEEP,
    "deep closed arrays": b"[" * _DEEP + b"]" * _DEEP,
    "deep objects": b'{"name":' * _DEEP,
    "deep value": b'{"name":' + b"[" * _DEEP + b"]" * _DEEP + b"}",
    "zeros": bytes(10_000),
    "form": b"name=x&config=y",
    "xml": b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>',
    "yaml": b"!!python/object/apply:os.system ['true']",
    "pickle": b"\x80\x04\x95\x1c\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94\x8c\x06system\x94\x93.",
}

#: JSON objects that no model of four numbers can take: each is refused with 400.
BAD_INPUT: dict[str, bytes] = {
    "empty object": b"{}",
    "no form": b'{"x":1}',
    "two forms": b'{"inputs":[1],"instances":[1]}',
    "form twice": b'{"inputs":[[1,2,3,4]],"inputs":"x"}',
    "null form": b'{"inputs":null}',
    "string": b'{"inputs":"x"}',
    "empty": b'{"dataframe_records":[]}',
    "records of numbers": b'{"dataframe_records":[1,2]}',
    "records of lists": b'{"dataframe_records":[[1,2,3,4]]}',
    "records of mixed kinds": b'{"dataframe_records":[{"a":1},2,[3]]}',
    "split without data": b'{"dataframe_split":{"columns":["a"]}}',
    "split, ragged": b'{"dataframe_split":{"columns":["a","b"],"data":[[1],[1,2,3]]}}',
    "split of wrong kinds": b'{"dataframe_split":{"columns":5,"data":"x"}}',
    "split, too long an index": b'{"dataframe_split":{"index":[1,2],"columns":["a"],"data":[[1]]}}',
    "split, unknown member": b'{"dataframe_split":{"columns":["a"],"data":[[1]],"x":1}}',
    "split of a list": b'{"dataframe_split":[1]}',
    "ragged tensor": b'{"inputs":[[1,2],[3]]}',
    "unknown columns": b'{"dataframe_split":{"columns":["../a","\\n"],"data":[[1,2]]}}',
    "columns twice": b'{"dataframe_split":{"columns":["a","a"],"data":[[1,2]]}}',
    "columns of lists": b'{"dataframe_split":{"columns":[["a"],{}],"data":[[1,2]]}}',
    "text for numbers": json.dumps({"dataframe_records": [dict.fromkeys(ROW, "x")]}).encode(),
    "objects for numbers": json.dumps({"dataframe_records": [{name: {} for name in ROW}]}).encode(),
    "lists for numbers": json.dumps({"dataframe_records": [{name: [1] for name in ROW}]}).encode(),
    "huge integers": json.dumps({"dataframe_records": [dict.fromkeys(ROW, 10**400)]}).encode(),
    "integers of too many digits": b'{"inputs":[[' + b"9" * 10_000 + b",1,1,1]]}",
    "infinite": b'{"inputs":[[1e400,Infinity,-Infinity,NaN]]}',
    "a column too many in 10000": b'{"inputs":[' + b"[1,2,3,4,5]," * 9_999 + b"[1,2,3,4,5]]}",
    "deep input": b'{"inputs":' + b"[" * 1000 + b"]" * 1000 + b"}",
    "deep records": b'{"dataframe_records":[{"a":' + b"[" * 1000 + b"]" * 1000 + b"}]}",
    "many keys": json.dumps({f"k{n}": n for n in range(50_000)}).encode(),
    "a record of many keys": json.dumps(
        {"dataframe_records": [{f"k{n}": n for n in range(20_000)}]}
    ).encode(),
    "params of a wrong kind": b'{"inputs":[[1,2,3,4]],"params":[1]}',
    "request id of a wrong kind": b'{"inputs":[[1,2,3,4]],"client_request_id":{}}',
    "usage context of a wrong kind": b'{"inputs":[[1,2,3,4]],"usage_context":[1]}',
    "messages": b'{"messages":[{"role":"user","content":"x"}]}',
    "prompt": b'{"prompt":{"x":NaN}}',
}


def gzip_bomb(size: int) -> bytes:
    """Zeros of `size` bytes, packed a thousandfold."""
    piece = gzip.compress(bytes(1 << 24))
    return piece * (size >> 24)


# --- requests and answers -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    #: Names in lower case.
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """Sends requests as they are to one server, over one connection while the server keeps it: an
    answer that belongs to another request shows up."""

    def __init__(self, server: ServerProcess, token: str | None = None) -> None:
        self.server = server
        self.address = server.address
        self._token = server.token if token is None else token
        self._kept: socket.socket | None = None
        #: What no answer may hold: where the server's files are, and the admin's token.
        self._secrets = [
            item.encode() for item in (str(server.home), str(ROOT), sys.prefix, server.token)
        ]

    def send(
        self,
        method: str,
        target: str | bytes,
        body: object = None,
        headers: Mapping[str, str | bytes] | None = None,
        *,
        authorization: bytes | None = None,
        anonymous: bool = False,
    ) -> Answer:
        """One request; a body that is not bytes goes as JSON. It is an error to wait too long."""
        data = body if isinstance(body, bytes) else b"" if body is None else _json(body)
        lines = [f"{method} ".encode() + _bytes(target) + b" HTTP/1.1", b"Host: localhost"]
        if authorization is None and not anonymous:
            authorization = b"Bearer " + _bytes(self._token)
        if authorization is not None:
            lines.append(b"Authorization: " + authorization)
        if body is not None:
            lines.append(b"Content-Length: %d" % len(data))
        given = {**JSON, **(headers or {})} if body is not None else headers or {}
        lines += [_bytes(name) + b": " + _bytes(value) for name, value in given.items()]
        return self.raw(b"\r\n".join(lines) + b"\r\n\r\n" + data, method=method)

    def raw(self, request: bytes, *, method: str = "GET") -> Answer:
        """The answer to these very bytes."""
        connection, self._kept = self._kept, None
        if connection is None:
            connection = socket.create_connection(self.address, timeout=SOON)
        # A refusal may come before all was sent.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(request)
        answer, kept = read_answer(connection, method)
        if kept:
            self._kept = connection
        else:
            connection.close()
        return answer

    def close(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    @contextlib.contextmanager
    def connection(self) -> Iterator[socket.socket]:
        with socket.create_connection(self.address, timeout=SOON) as connection:
            yield connection

    def held(self, answer: Answer, context: object) -> Answer:
        """The answer, when it is one that a client may get whatever it sent: 2xx, or a refusal in
        our form; without anything of the server's inside."""
        where = f"{context!r:.300}: {answer.status} {answer.body[:600]!r}"
        assert 200 <= answer.status < 500 or answer.status == 501, where
        assert "x-injected" not in answer.headers, where
        for secret in self._secrets:
            assert secret not in answer.body, where
        assert b"Traceback (most recent" not in answer.body, where
        assert b"site-packages" not in answer.body, where
        if answer.status >= 300:
            check_error_form(answer, where)
        return answer

    def check(self, method: str, target: str | bytes, body: object = None, **more: Any) -> Answer:
        """`send` and `held`."""
        return self.held(self.send(method, target, body, **more), (method, target, body))

    def query(self) -> None:
        """A decent request is answered, and well."""
        answer = self.send("POST", "/serving-endpoints/iris/invocations", QUERY)
        assert answer.status == 200, answer


def check_error_form(answer: Answer, where: str = "") -> None:
    """As Databricks has it: `error_code`, `message` and the request's id."""
    assert answer.headers["content-type"] == "application/json", where
    document = answer.json()
    assert isinstance(document["error_code"], str), where
    assert document["error_code"], where
    assert isinstance(document["message"], str), where
    assert len(document["message"]) < 10_000, where
    [details] = document["details"]
    assert details["request_id"] == answer.headers["x-request-id"], where
    if answer.status == 501:
        assert document["error_code"] == "NOT_IMPLEMENTED", where


def read_answer(connection: socket.socket, method: str = "GET") -> tuple[Answer, bool]:
    """The next answer on a connection, and whether the server keeps the connection."""
    response = http.client.HTTPResponse(connection, method=method)
    response.begin()
    body = response.read()
    kept = not response.will_close
    response.close()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, headers, body), kept


def _json(value: object) -> bytes:
    return json.dumps(value).encode()  # lone surrogates as escapes


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


# --- servers and callers --------------------------------------------------------------------------


def control_plane() -> FastAPI:
    """The real one, for its routes: there is nothing behind it."""
    return build_control_plane(
        endpoints=cast(EndpointsPort, None),
        tokens=cast(TokensPort, None),
        secrets=cast(SecretsPort, None),
        serving=lambda: True,
        workspace_id="1",
        single_endpoint=lambda: None,
        metrics=lambda: b"",
        logs=cast(LogPages, None),
    )


_LAKEPORT = "import sys; from lakeport.cli.main import main; sys.exit(main())"


def make_token(server: ServerProcess, caller: str, *groups: str, **more: object) -> str:
    """A token for somebody, by `lakeport token`."""
    command = [sys.executable, "-c", _LAKEPORT, "token", "--home", str(server.home)]
    command += ["--caller", caller]
    for group in groups:
        command += ["--group", group]
    for name, value in more.items():
        command += ["--" + name.replace("_", "-"), str(value)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def grant(server: ServerProcess, endpoint: str, **levels: str) -> None:
    """Give these users these levels on an endpoint, and nobody else any."""
    server.call(
        "PUT",
        f"permissions/serving-endpoints/{server.get(endpoint)['id']}",
        {
            "access_control_list": [
                {"user_name": name, "permission_level": level} for name, level in levels.items()
            ]
        },
    )


def assert_unharmed(server: ServerProcess, workers: list[Any]) -> None:
    """The same workers live, a request is answered, and the log tells of nothing that failed."""
    wire = Wire(server)
    wire.query()
    wire.close()
    assert server.workers() == workers
    said = server.said()
    assert "Traceback" not in said, said[-3000:]


_FILE_EVENTS = ("open", "os.listdir", "os.scandir", "os.remove", "os.rename", "os.mkdir")


def record_opened_files(folder: Path) -> tuple[dict[str, str], Callable[[], set[Path]]]:
    """Variables under which a server notes every file that it opens; and what it noted since this
    was last asked. Its children, which run in isolation, note nothing."""
    folder.mkdir()
    noted = folder / "opened"
    (folder / "sitecustomize.py").write_text(
        "import os, sys\n"
        f"_to = os.open({str(noted)!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)\n"
        "def _note(event, arguments):\n"
        f"    if event in {_FILE_EVENTS}:\n"
        "        path = arguments[0]\n"
        "        if isinstance(path, (str, bytes)) or hasattr(path, '__fspath__'):\n"
        "            os.write(_to, os.fsencode(os.path.abspath(path)) + b'\\n')\n"
        "sys.addaudithook(_note)\n"
    )
    seen = 0

    def opened() -> set[Path]:
        nonlocal seen
        content = noted.read_bytes()
        fresh, seen = content[seen:], len(content)
        return {Path(line.decode("utf-8", "surrogateescape")) for line in fresh.splitlines()}

    return {"PYTHONPATH": str(folder)}, opened


def marker() -> str:
    """Text that is nowhere else."""
    return f"marker-{secrets.token_hex(12)}"
