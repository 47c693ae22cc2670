"""Where the Hub is not there at all, is mute or drips, that is known in seconds and said."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack, closing, contextmanager

import pytest

from tests.support.loopback_hub import Program
from whylens.core.errors import WeightsUnavailable
from whylens.core.models.load import load


@pytest.fixture(scope="module")
def far_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def far_program(far_port, tmp_path_factory):
    home = tmp_path_factory.mktemp("far-home")
    with closing(Program(home, f"http://127.0.0.1:{far_port}")) as hub_program:
        hub_program.ask(repo="acme/imported-by-now")
        yield hub_program


@contextmanager
def closed_port(port: int):
    yield


@contextmanager
def mute(port: int):
    with socket.create_server(("127.0.0.1", port)):
        yield


@contextmanager
def black_hole(port: int):
    # The queue of a listener that never accepts is full: further connections are not even refused.
    with ExitStack() as stack:
        stack.enter_context(socket.create_server(("127.0.0.1", port), backlog=0))
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
        yield


@contextmanager
def dripping_header(port: int):
    end = threading.Event()

    def drip(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.settimeout(20)
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not end.wait(0.05):
                connection.sendall(b"z")

    with socket.create_server(("127.0.0.1", port)) as server:
        server.settimeout(20)
        thread = threading.Thread(target=drip, args=(server,))
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join()


@pytest.mark.parametrize(
    ("nobody", "probe"),
    [
        (closed_port, 3.0),
        pytest.param(mute, 1.0, marks=pytest.mark.slow),
        (black_hole, 1.0),
        pytest.param(dripping_header, 1.0, marks=pytest.mark.slow),
    ],
    ids=["closed port", "mute", "black hole", "dripping header"],
)
def test_where_nothing_answers_it_is_known_in_seconds_and_what_to_choose_instead(
    far_program, far_port, nobody, probe
):
    with nobody(far_port):
        answer = far_program.ask(repo="acme/far-away", timeouts={"probe": probe})
    assert answer["error"] == "WeightsUnavailable"
    assert "cannot be reached" in answer["message"]
    assert "Choose a local checkpoint" in answer["message"]
    assert answer["seconds"] < probe + 1


def test_pretrained_weights_that_are_not_here_are_refused_offline():
    with pytest.raises(WeightsUnavailable, match=r"HF_HUB_OFFLINE is set\. Choose a local"):
        load("test_byobnet.r160_in1k")


def test_a_network_without_weights_on_the_hub_is_refused_in_words():
    with pytest.raises(WeightsUnavailable, match="Choose a name with a tag"):
        load("gcvit_xxtiny.in1k")
