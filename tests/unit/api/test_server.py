"""An address that cannot be had is explained."""

import socket

import pytest

from lakeport.api.server import CannotListen, bind


def test_a_port_in_use_is_named_with_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(CannotListen) as refused:
            bind("127.0.0.1", port)

    assert str(refused.value).startswith(f"Port {port} of 127.0.0.1 is in use")
    assert "--port" in str(refused.value)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1"])
def test_a_host_that_is_not_this_machine_is_named(host: str) -> None:
    with pytest.raises(CannotListen) as refused:
        bind(host, 0)

    assert str(refused.value).startswith(f"{host} is no address of this machine")
    assert "--host" in str(refused.value)
