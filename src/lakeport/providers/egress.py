"""Where external models may be: the guard against requests into the operator's own network.

Two looks. `EgressGuard.check` judges a URL as it is written, without a look-up: scheme, spelling,
literal addresses. `EgressGuard.addresses` judges what a name resolved to, and the connection goes
to these very addresses, so that a name cannot mean another one by then.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from yarl import URL

from lakeport.settings import HOST, NUMERIC, host_or_network

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_LISTED = "an operator can list it in egress_allow"

#: Everything that is not a public unicast address. Kept here, since what the standard library
#: calls global differs from one Python to the next.
_FORBIDDEN_V4 = [
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
        "168.63.129.16/32",  # Azure's own, which every machine there can reach
    )
]  # fmt: skip
_PUBLIC_V6 = ipaddress.IPv6Network("2000::/3")
_FORBIDDEN_V6 = [
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # protocols, Teredo among them
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: an IPv4 address in disguise
        "3fff::/20",  # documentation
    )
]
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
#: NAT64, how machines without IPv4 reach it.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
#: An interface identifier of ISATAP: an IPv4 address in disguise, under any prefix.
_ISATAP = (0x00005EFE, 0x02005EFE)

#: Names that mean this machine or this network wherever they are resolved.
_LOCAL_SUFFIXES = (
    "localhost", "localdomain", "local", "internal", "intranet", "lan", "corp", "home",
    "home.arpa", "private", "svc", "cluster.local",
)  # fmt: skip


class EgressRefused(Exception):
    """An address that must not be spoken to; the message says why, and names no address that the
    asker did not write."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a URL leads, in one spelling."""

    scheme: str
    #: Lower case, ASCII, without brackets or a last dot.
    host: str
    port: int
    #: The host, where it is one.
    address: Address | None

    @property
    def netloc(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class EgressGuard:
    """Knows which hosts and networks the operator has listed."""

    def __init__(self, allow: Sequence[str] = ()) -> None:
        """`allow`: host names, addresses, and networks as 10.1.0.0/16. Raises ValueError."""
        self._hosts: set[str] = set()
        self._networks: list[Network] = []
        for entry in allow:
            found = host_or_network(entry)
            if isinstance(found, str):
                self._hosts.add(found)
            else:
                self._networks.append(found)

    def check(self, url: str, *, own: bool = False, proxied: bool = False) -> Place:
        """Judge a URL by how it is written. Raises EgressRefused.

        `own`: the operator gave it himself, so only its form counts. `proxied`: a proxy will look
        its name up, so names that are plainly local are refused here.
        """
        place = place_of(url)
        if own or place.host in self._hosts:
            return place
        if place.address is not None:
            self._judge(place.address, plain=place.scheme == "http")
            return place
        if place.scheme == "http" and (proxied or not self._networks):
            raise EgressRefused(f"it is not https; {_LISTED}")
        if (proxied or not self._networks) and _is_local(place.host):
            raise EgressRefused(f"it is a name of a local network; {_LISTED}")
        return place

    def addresses(self, place: Place, found: Iterable[str], *, own: bool = False) -> None:
        """Judge every address that `place` resolved to. Raises EgressRefused."""
        if own or place.host in self._hosts:
            return
        for text in found:
            self._judge(ipaddress.ip_address(text), plain=place.scheme == "http")

    def _judge(self, address: Address, *, plain: bool) -> None:
        shown = embedded(address)
        if any(
            one.version == network.version and one in network
            for network in self._networks
            for one in {address, shown}
        ):
            return
        if plain:
            raise EgressRefused(f"it is not https; {_LISTED}")
        if is_forbidden(shown):
            raise EgressRefused(f"it is at a private, local or reserved address; {_LISTED}")


def place_of(url: str) -> Place:
    """Where `url` leads. Raises EgressRefused for every spelling but the plain one."""
    if not url.isprintable() or any(char in url for char in " \\"):
        raise EgressRefused("it has characters that no URL has")
    try:
        parsed = URL(url)
        host, port = parsed.raw_host, parsed.port
        named = "@" in urlsplit(url).netloc
    except ValueError:
        raise EgressRefused("it is not a URL") from None
    if parsed.scheme not in ("http", "https"):
        raise EgressRefused("it does not begin with https://")
    if named:
        raise EgressRefused("it has a user or a password in it")
    if not host or not port or not 0 < port < 65536:
        raise EgressRefused("it has no host, or no port from 1 to 65535")
    return Place(parsed.scheme, *_host(host, port))


def _host(host: str, port: int) -> tuple[str, int, Address | None]:
    host = host.lower().removesuffix(".")
    if ":" in host:
        try:
            v6 = ipaddress.IPv6Address(host)
        except ValueError:
            raise EgressRefused("its host is no IPv6 address") from None
        if v6.scope_id is not None:
            raise EgressRefused("its address has a zone")
        return str(v6), port, v6
    if NUMERIC.fullmatch(host.rpartition(".")[2]):
        try:
            v4 = ipaddress.IPv4Address(host)
        except ValueError:
            raise EgressRefused(
                "its host is a number; an address is written as four decimal numbers"
            ) from None
        return str(v4), port, v4
    if not HOST.fullmatch(host) or len(host) > 253:
        raise EgressRefused("its host is no host name")
    return host, port, None


def _is_local(host: str) -> bool:
    return "." not in host or host.endswith(tuple(f".{suffix}" for suffix in _LOCAL_SUFFIXES))


def embedded(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for, or the address itself."""
    if isinstance(address, ipaddress.IPv6Address) and (address in _MAPPED or address in _NAT64):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def is_forbidden(address: Address) -> bool:
    """Whether an address is anything but public and unicast."""
    if isinstance(address, ipaddress.IPv4Address):
        return any(address in network for network in _FORBIDDEN_V4)
    if address not in _PUBLIC_V6 or (int(address) >> 32) & 0xFFFFFFFF in _ISATAP:
        return True
    return any(address in network for network in _FORBIDDEN_V6)
