"""Which proxy leads to a server."""

import pytest

from lakeport.providers.egress import EgressRefused, place_of
from lakeport.providers.transport import proxy_for

PROXY = "http://proxy.corp:3128"


@pytest.mark.parametrize(
    ("environ", "url", "proxy"),
    [
        ({}, "https://a.example", None),
        ({"HTTPS_PROXY": PROXY}, "https://a.example", PROXY),
        ({"https_proxy": PROXY}, "https://a.example", PROXY),
        ({"https_proxy": PROXY, "HTTPS_PROXY": "http://other"}, "https://a.example", PROXY),
        ({"HTTPS_PROXY": PROXY}, "http://a.example", None),
        ({"HTTP_PROXY": PROXY}, "http://a.example", PROXY),
        ({"HTTP_PROXY": PROXY}, "https://a.example", None),
        ({"ALL_PROXY": PROXY}, "https://a.example", PROXY),
        ({"HTTPS_PROXY": "proxy.corp:3128"}, "https://a.example", PROXY),
        ({"HTTPS_PROXY": " "}, "https://a.example", None),
        # this machine
        ({"HTTP_PROXY": PROXY}, "http://localhost:11434", None),
        ({"HTTP_PROXY": PROXY}, "http://127.0.0.1:11434", None),
        ({"HTTP_PROXY": PROXY}, "http://[::1]:11434", None),
    ],
)
def test_the_proxy(environ: dict[str, str], url: str, proxy: str | None) -> None:
    found = proxy_for(place_of(url), environ)
    assert (None if found is None else str(found)) == proxy


@pytest.mark.parametrize(
    ("no_proxy", "url", "direct"),
    [
        ("*", "https://a.example", True),
        ("a.example", "https://a.example", True),
        ("A.Example", "https://a.example", True),
        ("example", "https://a.example", True),
        (".example", "https://a.example", True),
        ("*.example", "https://a.example", True),
        ("x, a.example ,y", "https://a.example", True),
        ("x a.example", "https://a.example", True),
        ("a.example:443", "https://a.example", True),
        ("a.example:8443", "https://a.example", False),
        ("b.example", "https://a.example", False),
        ("xample", "https://a.example", False),
        ("10.0.0.0/8", "https://10.2.3.4", True),
        ("10.2.3.4", "https://10.2.3.4", True),
        ("10.0.0.0/8", "https://11.2.3.4", False),
        ("10.0.0.0/8", "https://a.example", False),
        ("[fd00::1]", "https://[fd00::1]", True),
        ("", "https://a.example", False),
    ],
)
def test_no_proxy(no_proxy: str, url: str, direct: bool) -> None:
    found = proxy_for(place_of(url), {"HTTPS_PROXY": PROXY, "NO_PROXY": no_proxy})
    assert (found is None) is direct


@pytest.mark.parametrize("proxy", ["socks5://proxy:1080", "http://", "http://a:b:c", "ftp://x"])
def test_a_proxy_that_is_none(proxy: str) -> None:
    with pytest.raises(EgressRefused, match="proxy that the environment names"):
        proxy_for(place_of("https://a.example"), {"HTTPS_PROXY": proxy})
