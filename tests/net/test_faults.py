"""The fault proxy does what it says: each fault seen by two plain sockets."""

import gc
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from tests.support.fault_proxy import (
    HALF_OPEN,
    Door,
    End,
    FaultProxy,
    Faults,
    Lane,
    Way,
    broken,
    late,
    once,
    slow,
)
from tests.support.frames import Frames

PATIENCE = 20.0
QUIET = 0.1  # seconds in which nothing may come


@contextmanager
def joined(
    faults: Faults | None = None,
) -> Iterator[tuple[FaultProxy, socket.socket, socket.socket]]:
    """Yield a proxy, and the client's and the server's end of one connection through it."""
    with (
        closing(socket.create_server(("127.0.0.1", 0))) as listener,
        FaultProxy("127.0.0.1", listener.getsockname()[1]) as proxy,
    ):
        listener.settimeout(PATIENCE)
        if faults is not None:
            proxy.switch(faults)
        with closing(dialled(proxy)) as client, closing(listener.accept()[0]) as server:
            server.settimeout(PATIENCE)
            yield proxy, client, server


def dialled(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=PATIENCE)


def received(one: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := one.recv(size - len(data))):
        data += more
    return data


def quiet(one: socket.socket) -> bool:
    one.settimeout(QUIET)
    try:
        return not one.recv(1) and False
    except TimeoutError:
        return True
    finally:
        one.settimeout(PATIENCE)


def test_a_healthy_proxy_hands_on_bytes_and_ends() -> None:
    with joined() as (proxy, client, server):
        client.sendall(b"ask")
        assert received(server, 3) == b"ask"
        server.sendall(b"answer" * 50_000)
        assert received(client, 300_000) == b"answer" * 50_000
        client.shutdown(socket.SHUT_WR)
        assert server.recv(1) == b""
        server.sendall(b"late")
        assert received(client, 4) == b"late"
        server.close()
        assert client.recv(1) == b""
        counts = proxy.counts

    assert (counts.connections, counts.up, counts.down) == (1, 3, 300_004)


@pytest.mark.parametrize("way", Way, ids=lambda way: way.name.lower())
@pytest.mark.parametrize("end", [End.FIN, End.RST], ids=lambda end: end.value)
def test_a_cut_comes_after_exactly_so_many_bytes(way: Way, end: End) -> None:
    with joined(broken(way, 5, end)) as (_, client, server):
        source, sink = (client, server) if way is Way.UP else (server, client)
        source.sendall(b"123456789")
        assert received(sink, 5) == b"12345"
        for one in (client, server):
            if end is End.FIN:
                assert one.recv(1) == b""
            else:
                with pytest.raises(ConnectionResetError):
                    one.recv(1)


@pytest.mark.parametrize("end", [End.MUTE, End.DEAD], ids=lambda end: end.value)
def test_silence_begins_at_a_byte_and_ends_with_heal(end: End) -> None:
    with joined(broken(Way.UP, 2, end)) as (proxy, client, server):
        client.sendall(b"1234")
        assert received(server, 2) == b"12"
        server.sendall(b"ab")
        assert quiet(server)
        assert quiet(client) if end is End.DEAD else received(client, 2) == b"ab"
        client.shutdown(socket.SHUT_WR)
        assert quiet(server), "no FIN"
        proxy.heal()
        assert received(server, 2) == b"34"
        assert server.recv(1) == b""


def test_a_living_connection_falls_silent() -> None:
    with joined() as (proxy, client, server):
        client.sendall(b"x")
        assert received(server, 1) == b"x"
        proxy.switch(HALF_OPEN)
        client.sendall(b"y")
        server.sendall(b"z")
        assert quiet(server)
        assert quiet(client)
        assert proxy.counts.living == 1
        proxy.heal()
        assert (received(server, 1), received(client, 1)) == (b"y", b"z")


def abandon(one: socket.socket) -> None:
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    one.close()


@pytest.mark.parametrize("tunnel", [False, True], ids=["packets", "tunnel"])
def test_only_a_tunnel_delivers_what_its_sender_gave_up(tunnel: bool) -> None:  # noqa: FBT001  - a row
    held = Faults(up=HALF_OPEN.up, down=HALF_OPEN.down, tunnel=tunnel)
    with joined(held) as (proxy, client, server):
        client.sendall(b"late")
        assert quiet(server)
        abandon(client)
        assert quiet(server), "no RST"
        proxy.switch(Faults(tunnel=tunnel))
        if tunnel:
            assert received(server, 4) == b"late"
        with pytest.raises(ConnectionResetError):
            server.recv(1)


def test_what_is_swallowed_never_comes() -> None:
    with joined(broken(Way.UP, 2, End.SWALLOW)) as (proxy, client, server):
        client.sendall(b"1234" * 100_000)
        assert received(server, 2) == b"12"
        assert quiet(server)
        proxy.heal()
        client.sendall(b"5")
        assert quiet(server)
        server.sendall(b"ab")
        assert received(client, 2) == b"ab"


@pytest.mark.parametrize(
    ("faults", "least"), [(late(0.1), 0.1), (slow(1000), 0.2)], ids=["latency", "drip"]
)
def test_slow_is_slow_until_it_heals(faults: Faults, least: float) -> None:
    with joined(faults) as (proxy, client, server):
        began = time.monotonic()
        client.sendall(b"x" * 250)
        assert received(server, 250) == b"x" * 250
        assert time.monotonic() - began >= least - 0.01
        client.sendall(b"x" * 60_000)  # a minute, as a drip
        received(server, 1)
        began = time.monotonic()
        proxy.heal()
        assert received(server, 59_999) == b"x" * 59_999
        assert time.monotonic() - began < PATIENCE


def test_doors() -> None:
    with joined() as (proxy, _, _):
        port = proxy.port
        proxy.switch(Faults(door=Door.CLOSED))
        with pytest.raises(ConnectionRefusedError):
            dialled(proxy)
        proxy.switch(Faults(door=Door.RESET))
        with pytest.raises(ConnectionResetError), closing(dialled(proxy)) as one:
            one.recv(1)
        proxy.switch(Faults(door=Door.SILENT))
        with closing(dialled(proxy)) as one:
            one.sendall(b"hello")
            assert quiet(one)
            assert proxy.counts.living == 2
        assert proxy.port == port


def test_a_fault_may_befall_the_next_connection_only() -> None:
    with joined() as (proxy, client, server):
        proxy.switch(once(Faults(door=Door.RESET)))
        with pytest.raises(ConnectionResetError), closing(dialled(proxy)) as one:
            one.recv(1)
        client.sendall(b"x")
        assert received(server, 1) == b"x"
        with closing(dialled(proxy)) as one:
            assert quiet(one)


@pytest.mark.parametrize("end", [End.FIN, End.RST], ids=lambda end: end.value)
def test_cut_ends_what_lives_and_lets_the_next_one_in(end: End) -> None:
    with joined() as (proxy, client, server):
        client.sendall(b"x")
        received(server, 1)
        closers = [
            threading.Thread(target=closed_after, args=(one, end)) for one in (client, server)
        ]
        for closer in closers:
            closer.start()
        proxy.cut(end)
        for closer in closers:
            closer.join(PATIENCE)
        assert proxy.counts.living == 0
        with closing(dialled(proxy)) as one:
            assert quiet(one)
        assert proxy.counts.connections == 2


def closed_after(one: socket.socket, end: End) -> None:
    try:
        assert one.recv(1) == b""
        assert end is End.FIN
    except ConnectionResetError:
        assert end is End.RST
    one.close()


def test_needles_are_counted_across_pieces() -> None:
    with (
        closing(socket.create_server(("127.0.0.1", 0))) as listener,
        FaultProxy("127.0.0.1", listener.getsockname()[1], needles=(b"POST ", b"x")) as proxy,
        closing(dialled(proxy)) as client,
        closing(listener.accept()[0]) as server,
    ):
        proxy.switch(Faults(up=Lane(rate=2000)))
        text = b"POST /POSTPOST xx" * 20
        client.sendall(text)
        assert received(server, len(text)) == text
        while proxy.counts.up < len(text):
            time.sleep(0.01)
        assert (proxy.seen(b"POST "), proxy.seen(b"x")) == (40, 40)


def test_nothing_is_left() -> None:
    before = set(threading.enumerate())
    for faults in (Faults(), HALF_OPEN, broken(Way.DOWN, 0, End.SWALLOW)):
        with joined(faults) as (_, client, server):
            client.sendall(b"x")
            server.sendall(b"y")
    gc.collect()  # an unclosed socket warns here, and a warning is an error

    assert set(threading.enumerate()) == before


HEAD = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
SHORT = b"\x81\x03abc"
LONG = b"\x81\x7e\x01\x00" + b"l" * 256
HUGE = b"\x81\x7f" + (70_000).to_bytes(8) + b"h" * 70_000
MASKED = b"\x81\x83mask123"
PONG = b"\x8a\x00"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000, 10**6])
def test_frames_are_found_whatever_the_pieces(size: int) -> None:
    parts = (HEAD, SHORT, LONG, PONG, HUGE, MASKED, SHORT)
    stream = b"".join(parts)
    frames = Frames()
    out = [
        pair
        for begin in range(0, len(stream), size)
        for pair in frames.split(stream[begin : begin + size])
    ]

    assert b"".join(part for part, _ in out) == stream
    assert [frame for _, frame in out if frame] == [SHORT, LONG, HUGE, SHORT]
    assert frames.ends == [sum(map(len, parts[: n + 1])) for n in range(len(parts))]


def test_what_is_no_websocket_has_no_frames() -> None:
    frames = Frames()
    stream = b"HTTP/1.1 200 OK\r\n\r\n" + SHORT

    assert b"".join(part for part, _ in frames.split(stream)) == stream
    assert frames.ends == []
