"""
Just enough of the websocket protocol (RFC 6455) to see where frames end in a stream of bytes.
"""

from collections.abc import Iterator
from typing import Final

_HEAD_END: Final = b"\r\n\r\n"
_LONGEST_HEAD: Final = 65_536
_LONGEST_FRAME: Final = 1_048_576  # bytes; of a longer one no copy is kept
_TEXT: Final = 1


class Frames:
    """
    One direction of one connection, from its first byte.

    `ends` are the offsets after the HTTP head and after each frame; it stays empty where no
    websocket begins.
    """

    def __init__(self) -> None:
        self.ends: list[int] = []
        self._offset = 0
        self._held = bytearray()  # of what has not ended yet: the HTTP head, or a frame's copy
        self._left = -1  # bytes of the present frame that are still to come; -1: header not read
        self._state = "head"

    def split(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """
        Yield *data* in parts that end where frames end.

        With each part comes the whole frame where it ends one: of text, unmasked, not too long.
        Otherwise it comes with b"".
        """
        begin = place = 0
        while place < len(data) and self._state != "other":
            size = self._wanted(data[place:])
            frame = self._taken(data[place : place + size])
            place += size
            if frame is not None:
                yield data[begin:place], frame
                begin = place
        if begin < len(data):
            yield data[begin:], b""

    def _wanted(self, data: bytes) -> int:
        """Return how much of *data* belongs to the present head, header or frame."""
        if self._state == "head":
            seen = bytes(self._held[-3:]) + data
            found = seen.find(_HEAD_END)
            return len(data) if found < 0 else found + 4 - (len(seen) - len(data))
        if self._left < 0:
            return 1  # byte by byte: a header has no more than 14
        return self._left

    def _taken(self, part: bytes) -> bytes | None:
        """Note *part*; return the frame that it ends, b"" for one of no interest, None for none."""
        self._offset += len(part)
        if self._state == "head":
            self._held += part
            return b"" if self._begins() else None
        if self._left < 0:
            self._held += part
            self._left = _body_length(self._held)
        else:
            self._left -= len(part)
            if len(self._held) <= _LONGEST_FRAME:
                self._held += part
        if self._left:
            return None
        frame, self._held, self._left = bytes(self._held), bytearray(), -1
        self.ends.append(self._offset)
        whole = frame[0] == 0x80 | _TEXT and not frame[1] & 0x80 and len(frame) <= _LONGEST_FRAME
        return frame if whole else b""

    def _begins(self) -> bool:
        """Whether the head has ended and a websocket begins."""
        if not self._held.endswith(_HEAD_END):
            if len(self._held) > _LONGEST_HEAD:
                self._state, self._held = "other", bytearray()
            return False
        head, self._held = bytes(self._held).lower(), bytearray()
        websocket = b"upgrade: websocket" in head and head.startswith((b"get ", b"http/1.1 101"))
        self._state = "frames" if websocket else "other"
        if websocket:
            self.ends.append(self._offset)
        return websocket


def _body_length(header: bytes | bytearray) -> int:
    """Return how many bytes follow a frame's *header*; -1 while that is not complete."""
    if len(header) < 2:
        return -1
    short = header[1] & 0x7F
    size = {126: 2, 127: 8}.get(short, 0)
    mask = 4 if header[1] & 0x80 else 0
    if len(header) < 2 + size + mask:
        return -1
    return int.from_bytes(header[2 : 2 + size]) if size else short
