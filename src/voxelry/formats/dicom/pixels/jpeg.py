"""A JPEG frame as GDCM may be given it: checked marker by marker, since GDCM ends the process on some that are damaged.

Application segments and comments, which decode nothing and make GDCM fail where they are odd, are left out. Grey frames of one
scan: baseline, extended sequential and lossless (ITU-T T.81 annexes B, F and H), the three that DICOM codes.
"""

from __future__ import annotations

import re

BASELINE, EXTENDED, LOSSLESS = 0xC0, 0xC1, 0xC3

_QUANTISATION, _HUFFMAN, _RESTART, _SCAN, _END = 0xDB, 0xC4, 0xDD, 0xDA, 0xD9
_PASSED_OVER = frozenset((*range(0xE0, 0xF0), 0xFE))
_MARKER = re.compile(rb"\xff+([^\x00\xff])")


def clean_jpeg(data: bytes) -> bytes:
    """A grey JPEG frame with nothing but what decoding needs.

    Args:
        data: the bytes of the frame.

    Returns:
        Tables, headers and scan.

    Raises:
        ValueError: what is wrong with it, as far as its markers and tables show.
    """
    try:
        return _Frame(data).cleaned()
    except IndexError as error:
        raise ValueError("it breaks off within its header") from error


class _Frame:
    """One walk through a frame's markers.

    Args:
        data: its bytes.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._kind = 0
        self._precision = 0
        self._component = (0, 0)
        self._tables: set[tuple[int, int]] = set()
        self._quantisation: set[int] = set()
        self._restarts = False

    def cleaned(self) -> bytes:
        """Walk to the scan and through it."""
        at, kept = 2, [b"\xff\xd8"]
        while True:
            while self._data[at : at + 2] == b"\xff\xff":
                at += 1
            _require(self._data[at] == 0xFF, f"no marker where one should be, at byte {at}")
            marker, length = self._data[at + 1], self._data[at + 2] << 8 | self._data[at + 3]
            _require(length >= 2 and at + 2 + length <= len(self._data), f"segment {marker:#x} has length {length}")
            self._segment(marker, self._data[at + 4 : at + 2 + length])
            if marker not in _PASSED_OVER:
                kept.append(self._data[at : at + 2 + length])
            at += 2 + length
            if marker == _SCAN:
                return b"".join([*kept, self._data[at : self._end(at)]])

    def _segment(self, marker: int, body: bytes) -> None:
        if marker == _HUFFMAN:
            self._huffman(body)
        elif marker == _QUANTISATION:
            self._quantise(body)
        elif marker in (BASELINE, EXTENDED, LOSSLESS):
            _require(self._kind == 0 and len(body) == 9 and body[5] == 1, "its frame header is not of one grey component")
            _require(all(1 <= part <= 4 for part in (body[7] >> 4, body[7] & 15)), "its sampling factors are out of range")
            self._kind, self._precision, self._component = marker, body[0], (body[6], body[8])
        elif marker == _RESTART:
            _require(len(body) == 2, "its restart interval is damaged")
            self._restarts = body != b"\0\0"
        elif marker == _SCAN:
            self._scan(body)
        else:
            _require(marker in _PASSED_OVER, f"it holds the marker {marker:#x}")

    def _huffman(self, body: bytes) -> None:
        at = 0
        while at < len(body):
            kind, number = body[at] >> 4, body[at] & 15
            counts = body[at + 1 : at + 17]
            _require(kind <= 1 and number <= 3 and len(counts) == 16, "a Huffman table is damaged")
            code = 0
            for bits, count in enumerate(counts, 1):
                code = 2 * code + count
                _require(code <= 2**bits, "a Huffman table has more codes than bits allow")
            symbols = body[at + 17 : at + 17 + sum(counts)]
            _require(len(symbols) == sum(counts) <= 256, "a Huffman table is damaged")
            _require(kind == 1 or all(symbol <= 16 for symbol in symbols), "a Huffman table has a difference of over 16 bits")
            self._tables.add((kind, number))
            at += 17 + sum(counts)

    def _quantise(self, body: bytes) -> None:
        at = 0
        while at < len(body):
            wide, number = body[at] >> 4, body[at] & 15
            _require(wide <= 1 and number <= 3, "a quantisation table is damaged")
            self._quantisation.add(number)
            at += 65 + 64 * wide
        _require(at == len(body), "a quantisation table is damaged")

    def _scan(self, body: bytes) -> None:
        _require(self._kind != 0 and len(body) == 6 and body[0] == 1, "its scan header is damaged")
        _require(body[1] == self._component[0], "its scan is of a component that it does not have")
        first, last, bits = body[3:]
        tables = {(0, body[2] >> 4)}
        if self._kind == LOSSLESS:
            _require(1 <= first <= 7 and last == 0 and bits < self._precision, "its predictor is out of range")
            _require(2 <= self._precision <= 16, f"it has {self._precision} bits")
        else:
            _require(self._precision in ((8,) if self._kind == BASELINE else (8, 12)), f"it has {self._precision} bits")
            _require(self._component[1] in self._quantisation, "it has no quantisation table")
            tables.add((1, body[2] & 15))
        _require(tables <= self._tables, "it has no Huffman table")

    def _end(self, start: int) -> int:
        """Behind the end marker, before which there is nothing but restart markers."""
        for found in _MARKER.finditer(self._data, start):
            marker = found.group(1)[0]
            if marker == _END:
                return found.end()
            _require(self._restarts and 0xD0 <= marker <= 0xD7, f"its scan holds the marker {marker:#x}")
        raise ValueError("its scan does not end")


def _require(right: bool, problem: str) -> None:
    if not right:
        raise ValueError(problem)
