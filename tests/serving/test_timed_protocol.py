"""Clients that dawdle, over real sockets: they are hung up on, and hold up nobody."""

import socket
import threading
import time
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest
import requests

from helpers.running_server import running

SECONDS = 30
HEAD, SILENCE = 0.6, 0.6


@pytest.fixture(scope="module")
def hasty(models, tmp_path_factory):
    """A server of little patience."""
    with running(models, tmp_path_factory.mktemp("jobs"), head=HEAD, silence=SILENCE, speed=1000.0, waiting=4) as server:
        yield server


def connection(server, receive_buffer=None):
    address = urlsplit(server.url)
    peer = socket.socket()
    if receive_buffer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    peer.settimeout(SECONDS)
    peer.connect((address.hostname, address.port))
    return peer


def seconds_until_hung_up(peer, pieces=b"", pause=0.05):
    """Send a byte now and then; how long the server puts up with it."""
    began, bytes_left = time.monotonic(), iter(pieces)
    peer.settimeout(pause)
    while time.monotonic() - began < SECONDS:
        try:
            for byte in bytes_left:
                peer.sendall(bytes([byte]))
                break
            if not peer.recv(4096):
                break
        except TimeoutError:
            continue
        except OSError:
            break
    return time.monotonic() - began


BODY = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n\r\n"


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n"], ids=["none", "some", "most"])
def test_a_head_that_does_not_come_ends_the_connection(hasty, sent):
    with connection(hasty) as peer:
        peer.sendall(sent)
        assert HEAD / 2 < seconds_until_hung_up(peer) < 10 * HEAD


def test_a_byte_of_a_head_now_and_then_does_not_help(hasty):
    with connection(hasty) as peer:
        assert HEAD / 2 < seconds_until_hung_up(peer, b"GET / HTTP/1.1\r\nX: " + b"x" * 5000) < 10 * HEAD


def test_a_byte_of_a_body_now_and_then_does_not_help(hasty):
    with connection(hasty) as peer:
        peer.sendall(BODY)
        assert SILENCE / 2 < seconds_until_hung_up(peer, b"x" * 5000) < 10 * SILENCE
    assert list(hasty.application.jobs.folder("").parent.glob("incoming/*")) == []


def test_a_body_that_nobody_reads_does_not_help_either(hasty):
    with connection(hasty) as peer:
        peer.sendall(BODY.replace(b"POST / ", b"POST /nowhere "))
        assert b"404" in peer.recv(100)
        assert SILENCE / 2 < seconds_until_hung_up(peer, b"x" * 5000) < 10 * SILENCE


def test_an_answer_that_nobody_takes_ends_the_connection(hasty, picture):
    """The page's script is asked for again and again, and never read."""
    with connection(hasty, receive_buffer=4096) as peer:
        request = b"GET /web/app.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        began = time.monotonic()
        peer.settimeout(0.2)
        is_hung_up = False
        while not is_hung_up and time.monotonic() - began < SECONDS:
            try:
                peer.sendall(request * 100)
            except TimeoutError:
                continue
            except OSError:
                is_hung_up = True
        assert is_hung_up


def test_a_body_with_some_speed_is_taken_however_long_it_takes(hasty):
    def slowly():
        for _ in range(12):
            time.sleep(SILENCE / 4)
            yield bytes(2000)

    assert requests.post(hasty.url, data=slowly(), timeout=SECONDS).status_code == 415  # read to its end, and no scan


def test_a_kept_connection_is_used_again_after_a_pause(hasty, picture):
    with requests.Session() as session:
        for _ in range(3):
            assert session.post(hasty.url, data=picture.read_bytes(), timeout=SECONDS).status_code == 200
            time.sleep(1.5 * HEAD)


def test_many_who_dawdle_stop_nobody(models, picture, tmp_path):
    """More slow bodies than there are places, more slow heads than connections are kept: others are answered as ever."""
    with running(models, tmp_path, waiting=2, connections=40) as server, ExitStack() as stack:
        slow = [stack.enter_context(connection(server)) for _ in range(60)]
        is_over = threading.Event()

        def dawdle():
            alive = list(slow)
            while not is_over.wait(0.05):
                for peer in list(alive):
                    try:
                        peer.sendall(b"x")
                    except OSError:
                        alive.remove(peer)

        for number, peer in enumerate(slow):
            peer.sendall(BODY if number % 2 else b"GET / HTTP/1.1\r\nX: ")
        thread = threading.Thread(target=dawdle)
        thread.start()
        try:
            for _ in range(5):
                began = time.monotonic()
                response = requests.post(server.url, data=picture.read_bytes(), timeout=SECONDS)
                assert response.status_code == 200
                assert time.monotonic() - began < SECONDS / 3
            assert len(server._server.server_state.connections) <= 42
        finally:
            is_over.set()
            thread.join()
