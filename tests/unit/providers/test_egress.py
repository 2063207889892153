"""The egress guard: every way to write an address that must not be spoken to is refused."""
# ruff: noqa: RUF001 - letters that look like others are the point

import pytest

from lakeport.providers.egress import EgressGuard, EgressRefused, place_of

#: Refused by how they are written, before any look-up.
FORBIDDEN = [
    # this machine
    "https://127.0.0.1/v1",
    "https://127.0.0.1:8443/v1",
    "https://127.255.255.254/v1",
    "https://0.0.0.0/v1",
    "https://0.1.2.3/v1",
    "https://[::1]/v1",
    "https://[::]/v1",
    "https://[0:0:0:0:0:0:0:1]/v1",
    # as other numbers
    "https://2130706433/v1",
    "https://0x7f000001/v1",
    "https://0x7F.0.0.1/v1",
    "https://017700000001/v1",
    "https://0177.0.0.1/v1",
    "https://127.1/v1",
    "https://127.0.1/v1",
    "https://127.0.0.01/v1",
    "https://127.0.0.0x1/v1",
    "https://0/v1",
    "https://00.0.0.0/v1",
    "https://4294967297/v1",
    "https://example.1/v1",
    "https://1.1.1.1.1/v1",
    "https://256.1.1.1/v1",
    # in other letters
    "https://１２７.0.0.1/v1",
    "https://①②⑦.⓪.⓪.①/v1",
    "https://127。0。0。1/v1",
    "https://127．0．0．1/v1",
    "https://%31%32%37.0.0.1/v1",
    "https://ｌocalhost/v1",
    # with dots behind
    "https://127.0.0.1./v1",
    "https://localhost./v1",
    "https://localhost../v1",
    # names
    "https://localhost/v1",
    "https://LOCALHOST/v1",
    "https://a.localhost/v1",
    "https://ollama/v1",
    "https://printer.local/v1",
    "https://metadata.google.internal/computeMetadata/v1",
    "https://kubernetes.default.svc/api",
    "https://box.home.arpa/v1",
    # private, shared, link-local, metadata
    "https://10.0.0.1/v1",
    "https://172.16.0.1/v1",
    "https://172.31.255.255/v1",
    "https://192.168.1.1/v1",
    "https://100.64.0.1/v1",
    "https://100.100.100.200/latest/meta-data/",
    "https://169.254.169.254/latest/meta-data/",
    "https://169.254.170.2/v2/credentials",
    "https://168.63.129.16/machine",
    "https://192.0.0.192/opc/v2",
    "https://[fd00:ec2::254]/latest/meta-data/",
    "https://[fc00::1]/v1",
    "https://[fe80::1]/v1",
    "https://[fe80::1%25eth0]/v1",
    "https://[fec0::1]/v1",
    # multicast, broadcast, documentation, benchmarks, reserved
    "https://224.0.0.1/v1",
    "https://[ff02::1]/v1",
    "https://255.255.255.255/v1",
    "https://240.0.0.1/v1",
    "https://192.0.2.1/v1",
    "https://198.18.0.1/v1",
    "https://198.51.100.7/v1",
    "https://203.0.113.9/v1",
    "https://[2001:db8::1]/v1",
    "https://[3fff::1]/v1",
    # an IPv4 address inside an IPv6 one
    "https://[::ffff:127.0.0.1]/v1",
    "https://[::ffff:7f00:1]/v1",
    "https://[::ffff:169.254.169.254]/v1",
    "https://[::127.0.0.1]/v1",
    "https://[::ffff:0:127.0.0.1]/v1",
    "https://[2002:7f00:1::]/v1",
    "https://[2002:a9fe:a9fe::1]/v1",
    "https://[2001:0:a9fe:a9fe::1]/v1",
    "https://[64:ff9b::127.0.0.1]/v1",
    "https://[64:ff9b::a9fe:a9fe]/v1",
    "https://[64:ff9b:1::10.0.0.1]/v1",
    "https://[2600:1f18::5efe:127.0.0.1]/v1",
    "https://[2600:1f18::200:5efe:10.0.0.1]/v1",
    # users, ports, and what is no URL
    "https://example.com@127.0.0.1/v1",
    "https://127.0.0.1@example.com/v1",
    "https://user:password@example.com/v1",
    "https://@example.com/v1",
    "https://example.com:0/v1",
    "https://example.com:65536/v1",
    "https://example.com:99999/v1",
    "https://example.com:-1/v1",
    "https://example.com:4x3/v1",
    "https:///v1",
    "https:example.com",
    "//example.com/v1",
    "example.com",
    "",
    "https://exa mple.com/v1",
    "https://exa\tmple.com/v1",
    "https://example.com\r\nHost: 127.0.0.1/",
    "https://example.com\\@127.0.0.1/v1",
    "https://127.0.0.1\\.example.com/",
    "https://[::1/v1",
    "https://[127.0.0.1]/v1",
    "https://a..b/v1",
    "https://.a.example/v1",
    "https://-a.example/v1",
    "https://a$b.example/v1",
    # not https
    "http://example.com/v1",
    "http://8.8.8.8/v1",
    "ftp://example.com/v1",
    "file:///etc/passwd",
    "gopher://example.com/",
    "unix:///run/docker.sock",
]


@pytest.mark.parametrize("url", FORBIDDEN)
@pytest.mark.parametrize("proxied", [True, False])
def test_refused(url: str, proxied: bool) -> None:
    with pytest.raises(EgressRefused) as caught:
        EgressGuard().check(url, proxied=proxied)
    assert "127.0.0.1" not in str(caught.value)


def test_the_table_is_long_enough() -> None:
    assert len(set(FORBIDDEN)) == len(FORBIDDEN) >= 60


@pytest.mark.parametrize(
    ("url", "netloc"),
    [
        ("https://api.openai.com/v1", "api.openai.com:443"),
        ("https://API.OpenAI.com./v1", "api.openai.com:443"),
        ("https://example.com:8443", "example.com:8443"),
        ("https://bücher.example/v1", "xn--bcher-kva.example:443"),
        ("https://my_resource.openai.azure.com/", "my_resource.openai.azure.com:443"),
        ("https://8.8.8.8/v1", "8.8.8.8:443"),
        ("https://[2606:4700:4700::1111]/v1", "[2606:4700:4700::1111]:443"),
        ("https://[64:ff9b::8.8.8.8]/v1", "[64:ff9b::808:808]:443"),
        ("https://[::ffff:8.8.8.8]/v1", "[::ffff:808:808]:443"),
        ("https://1password.com/", "1password.com:443"),
        ("https://0x.org/", "0x.org:443"),
    ],
)
@pytest.mark.parametrize("proxied", [True, False])
def test_let_pass(url: str, netloc: str, proxied: bool) -> None:
    assert EgressGuard().check(url, proxied=proxied).netloc == netloc


@pytest.mark.parametrize(
    ("allow", "url"),
    [
        ("localhost", "http://localhost:11434/v1"),
        ("LocalHost.", "http://localhost.:11434/v1"),
        ("ollama.internal", "http://ollama.internal/v1"),
        ("ollama.internal", "https://ollama.internal/v1"),
        ("127.0.0.1", "http://127.0.0.1:8000/v1"),
        ("10.1.0.0/16", "http://10.1.255.3/v1"),
        ("10.1.0.0/16", "https://10.1.0.1/v1"),
        ("10.1.0.7/16", "https://10.1.0.1/v1"),
        ("10.1.0.0/16", "http://[::ffff:10.1.0.1]/v1"),
        ("::1", "http://[::1]/v1"),
        ("[::1]", "http://[::1]/v1"),
        ("fd00::/8", "http://[fd12::1]/v1"),
        ("example.com", "http://example.com/v1"),
    ],
)
@pytest.mark.parametrize("proxied", [True, False])
def test_what_is_listed_passes(allow: str, url: str, proxied: bool) -> None:
    EgressGuard(["other.example", allow]).check(url, proxied=proxied)


@pytest.mark.parametrize(
    ("allow", "url"),
    [
        ("ollama.internal", "https://127.0.0.1/v1"),
        ("internal", "https://ollama.internal/v1"),
        ("example.com", "http://a.example.com/v1"),
        ("10.1.0.0/16", "https://10.2.0.1/v1"),
        ("10.1.0.0/16", "http://8.8.8.8/v1"),
        ("::1", "https://127.0.0.1/v1"),
    ],
)
def test_what_is_beside_the_list_does_not(allow: str, url: str) -> None:
    with pytest.raises(EgressRefused):
        EgressGuard([allow]).check(url, proxied=True)


@pytest.mark.parametrize("entry", ["", "10.0.0.0/33", "http://a", "a b", "127.1", "0x7f.1", "a:80"])
def test_a_list_that_means_nothing(entry: str) -> None:
    with pytest.raises(ValueError, match="not a host name, an address or a network"):
        EgressGuard([entry])


@pytest.mark.parametrize(
    "found",
    [
        ["127.0.0.1"],
        ["93.184.216.34", "10.0.0.1"],  # one among good ones
        ["::1"],
        ["::ffff:10.0.0.1"],
        ["2606:4700:4700::1111", "fe80::1%eth0"],
        ["169.254.169.254"],
    ],
)
def test_a_name_that_resolves_to_what_is_private(found: list[str]) -> None:
    guard = EgressGuard()
    place = guard.check("https://rebound.example/v1")
    with pytest.raises(EgressRefused, match="private, local or reserved"):
        guard.addresses(place, found)
    guard.addresses(place, ["93.184.216.34", "2606:4700:4700::1111"])


def test_a_name_may_resolve_into_a_listed_network() -> None:
    guard = EgressGuard(["172.18.0.0/16"])
    place = guard.check("http://vllm:8000/v1")  # a name of a container, say
    guard.addresses(place, ["172.18.0.3"])
    with pytest.raises(EgressRefused, match="private"):
        guard.addresses(guard.check("https://vllm:8000/v1"), ["172.19.0.3"])
    with pytest.raises(EgressRefused, match="not https"):
        guard.addresses(place, ["93.184.216.34"])


def test_a_listed_name_may_resolve_to_anything() -> None:
    guard = EgressGuard(["ollama.internal"])
    guard.addresses(guard.check("http://ollama.internal/v1"), ["10.0.0.1", "127.0.0.1"])


def test_what_the_operator_names_himself_passes() -> None:
    guard = EgressGuard()
    place = guard.check("http://localhost:11434/v1", own=True)
    guard.addresses(place, ["127.0.0.1", "::1"], own=True)
    with pytest.raises(EgressRefused):
        guard.check("http://127.1:11434/v1", own=True)


def test_one_place_however_it_is_written() -> None:
    assert place_of("https://EXAMPLE.com/a") == place_of("https://example.com.:443/b")
