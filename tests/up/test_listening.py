import socket

import pytest

from email_gateway.errors import ConfigurationError, OperatorError
from email_gateway.up.listening import listen, listen_each, reach


def test_port_0_takes_a_free_one() -> None:
    with listen("127.0.0.1", 0) as listener:
        host, port = reach(listener)
        with socket.create_connection((host, port), timeout=5):
            pass
    assert host == "127.0.0.1"
    assert port > 0


def test_a_taken_port_says_which_and_what_to_do_and_is_no_wrong_configuration() -> None:
    with listen("127.0.0.1", 0) as first:
        port = reach(first)[1]
        with pytest.raises(OperatorError, match=rf"port {port} on 127\.0\.0\.1 is taken.*--port") as refused:
            listen("127.0.0.1", port)
    assert not isinstance(refused.value, ConfigurationError)


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host"])
def test_an_address_of_another_machine_is_a_wrong_configuration(host: str) -> None:
    with pytest.raises(ConfigurationError):
        listen(host, 0)


def test_every_address_is_reached_through_loopback() -> None:
    with listen("0.0.0.0", 0) as listener:
        assert reach(listener)[0] == "127.0.0.1"


def test_each_process_has_a_socket_of_its_own_on_the_same_port() -> None:
    listeners = listen_each("127.0.0.1", 0, 3)
    try:
        assert len({listener.getsockname() for listener in listeners}) == 1
        assert len({listener.fileno() for listener in listeners}) == 3
    finally:
        for listener in listeners:
            listener.close()


def test_a_port_that_another_gateway_shares_among_its_processes_is_taken() -> None:
    listeners = listen_each("127.0.0.1", 0, 2)
    try:
        with pytest.raises(OperatorError, match="taken"):
            listen_each("127.0.0.1", reach(listeners[0])[1], 2)
    finally:
        for listener in listeners:
            listener.close()
