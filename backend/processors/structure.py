"""What the outer structure of a file says about its bytes: whether it is cut off, unreadable in places, or encrypted.

Only sizes in headers are read here, from the open file; FFmpeg does not report them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

MAX_BOXES, MAX_OFFSET = 1000, 2**62  # of the outermost boxes of an MP4 file
BLOCK_BYTES = 2**20
HEAD_BYTES = 65_536
MAX_INDEX_BYTES = 16 * 2**20  # of the index of an MP4 file that are searched
MAX_LOOKED_AT_BYTES = 16 * 2**20  # of a transport stream
TS_PACKET_BYTES, TS_PACKET_SIZES = 188, (188, 192, 204)
PROTECTED_ENTRIES = (b"encv", b"enca", b"drmi", b"drms", b"drmt", b"pssh")  # of an MP4 file's index
PROTECTED_TRACK = b"\x47\xe1\x81\x05"  # Matroska: the contents are encrypted with AES
SEGMENT, EBML = b"\x18\x53\x80\x67", b"\x1a\x45\xdf\xa3"
TRAILING_ELEMENTS = (
    b"\x1c\x53\xbb\x6b",
    b"\x12\x54\xc3\x67",
    b"\x19\x41\xa4\x69",
    b"\x10\x43\xa7\x70",
    b"\x11\x4d\x9b\x74",
)
MAX_BLOCK_HEAD_BYTES = 32  # of a block of Matroska
OGG_PAGE, OGG_PAGE_HEAD_BYTES = b"OggS", 27
PACK, PES_HEAD = b"\0\0\1\xba", re.compile(rb"\x00\x00\x01[\xbb-\xef](..)", re.DOTALL)
FLV_TAG_HEAD_BYTES = 11
MIN_SCRAMBLED_SHARE = 0.2  # of the packets of a transport stream


def declared_size(descriptor: int) -> int | None:
    """Return how many bytes the file should have at least, by its own headers; None if they do not say."""
    head = _read(descriptor, 0, HEAD_BYTES)
    if head.startswith(EBML):
        return _segment_end(head)
    if head.startswith(b"RIFF"):
        return 8 + int.from_bytes(head[4:8], "little")
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return max((end for _, _, end in _boxes(descriptor)), default=None)
    return None


def index_end(descriptor: int) -> int | None:
    """Return the offset where the index of an MP4 file ends according to its header; None if there is no index."""
    return next((end for kind, _, end in _boxes(descriptor) if kind == b"moov"), None)


def is_encrypted(descriptor: int) -> bool:
    """Return True if the file says that its tracks are encrypted."""
    head = _read(descriptor, 0, HEAD_BYTES)
    if head.startswith(EBML):
        return PROTECTED_TRACK in head
    if (size := _packet_size(head)) is not None:
        return _scrambled_share(head, size) > MIN_SCRAMBLED_SHARE
    for kind, begin, end in _boxes(descriptor):
        if kind in (b"moov", b"pssh"):
            index = _read(descriptor, begin, min(end - begin, MAX_INDEX_BYTES))
            return kind == b"pssh" or any(entry in index for entry in PROTECTED_ENTRIES)
    return False


def has_torn_end(descriptor: int, size: int, read_to: int) -> bool:
    """Return True if the file ends in the middle of something. `read_to` is where the last packet ends."""
    head = _read(descriptor, 0, HEAD_BYTES)
    if head.startswith(EBML):
        return _ends_within_block(descriptor, read_to, min(size, _segment_end(head) or size))
    if head.startswith(b"FLV"):
        last = int.from_bytes(_read(descriptor, max(size - 4, 0), 4))
        tag = _read(descriptor, max(size - 4 - last, 0), 4)
        return last < FLV_TAG_HEAD_BYTES or FLV_TAG_HEAD_BYTES + int.from_bytes(tag[1:]) != last
    if head.startswith(OGG_PAGE):
        return _ends_within_ogg(_read(descriptor, max(size - HEAD_BYTES, 0), HEAD_BYTES))
    if (packet_size := _packet_size(head)) is not None:
        return size % packet_size != 0
    if head.startswith(PACK):
        return _ends_within_pack(_read(descriptor, max(size - HEAD_BYTES, 0), HEAD_BYTES))
    return False


def has_torn_beginning(descriptor: int) -> bool:
    """Return True if a transport stream begins in the middle of a packet."""
    head = _read(descriptor, 0, HEAD_BYTES)
    starts = (at for at in range(1, min(max(TS_PACKET_SIZES), len(head))) if _packet_size(head[at:]) is not None)
    return _packet_size(head) is None and next(starts, None) is not None


def unreadable_bytes(descriptor: int, begin: int, end: int) -> int:
    """Return how many of these bytes of a transport stream are no packets of it."""
    looked_at = min(end - begin, MAX_LOOKED_AT_BYTES)
    if looked_at <= 0:
        return 0
    content = _read(descriptor, begin, looked_at)
    readable, offset = 0, 0
    while offset < len(content):
        found = content.find(b"\x47", offset)
        if found < 0:
            break
        size = next((size for size in TS_PACKET_SIZES if content[found + size : found + size + 1] == b"\x47"), None)
        if size is None and found + TS_PACKET_BYTES != len(content):
            offset = found + 1
            continue
        readable += size or TS_PACKET_BYTES
        offset = found + (size or TS_PACKET_BYTES)
    return int((looked_at - min(readable, looked_at)) * ((end - begin) / looked_at))


def _ends_within_block(descriptor: int, begin: int, end: int) -> bool:
    """Return True if a Matroska file has the beginning of a block here. Behind its end, a camera may have put text."""
    rest = _read(descriptor, begin, min(max(end - begin, 0), HEAD_BYTES))
    behind = rest[MAX_BLOCK_HEAD_BYTES:]  # the group of the last block may have its length behind it
    is_text = len(behind) > MAX_BLOCK_HEAD_BYTES and behind.isascii()
    return len(behind) > 0 and not is_text and not any(kind in rest for kind in TRAILING_ELEMENTS)


def _ends_within_pack(tail: bytes) -> bool:
    """Return True if the last packet of a program stream is longer than the rest of the file."""
    last = max(PES_HEAD.finditer(tail), key=re.Match.start, default=None)
    return last is not None and last.start() + 6 + int.from_bytes(last[1]) > len(tail)


def _ends_within_ogg(tail: bytes) -> bool:
    """Return True if the last page of an Ogg file is incomplete, or not marked as the end of its track."""
    at = tail.rfind(OGG_PAGE)
    if at < 0 or len(tail) < at + OGG_PAGE_HEAD_BYTES:
        return True
    segments = tail[at + OGG_PAGE_HEAD_BYTES :][: tail[at + 26]]
    is_whole = len(tail) >= at + OGG_PAGE_HEAD_BYTES + len(segments) + sum(segments)
    return not (is_whole and tail[at + 5] & 0x04)


def _read(descriptor: int, offset: int, size: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(descriptor, size, offset)  # FFmpeg reads from this descriptor too, and has its own position
    os.lseek(descriptor, offset, os.SEEK_SET)
    return os.read(descriptor, size)


def _boxes(descriptor: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind, the beginning and the declared end of the outermost boxes of an MP4 file."""
    offset = 0
    for _ in range(MAX_BOXES):
        head = _read(descriptor, offset, 16)
        size = int.from_bytes(head[8:16] if head[:4] == b"\0\0\0\1" else head[:4])
        if len(head) < 8 or (size < 8 and head[4:8] != b"moov"):
            return
        yield head[4:8], offset, offset + size
        offset = min(offset + size, MAX_OFFSET)


def _segment_end(head: bytes) -> int | None:
    """Return where the segment of a Matroska file ends; None if its size is not known, as in a live recording."""
    at = head.find(SEGMENT)
    if at < 0 or at + 12 > len(head):
        return None
    begin = at + len(SEGMENT)
    length = 9 - head[begin].bit_length()
    if length > 8:
        return None
    size = int.from_bytes(head[begin : begin + length]) & ~(1 << 7 * length)
    return None if size == (1 << 7 * length) - 1 else begin + length + size


def _packet_size(head: bytes) -> int | None:
    """Return the size of the packets of a transport stream; None if it is not one."""
    for size in TS_PACKET_SIZES:
        offset = size - TS_PACKET_BYTES if size == 192 else 0
        if len(head) >= 5 * size and all(head[offset + size * number] == 0x47 for number in range(5)):
            return size
    return None


def _scrambled_share(head: bytes, size: int) -> float:
    """Return the share of packets that are marked as scrambled; 0 for noise, in which errors are marked as well."""
    offset = size - TS_PACKET_BYTES if size == 192 else 0
    packets = [head[at + 1 : at + 4] for at in range(offset, len(head) - 4, size) if head[at] == 0x47]
    if any(packet[0] & 0x80 for packet in packets):
        return 0.0
    return sum(packet[2] & 0xC0 != 0 for packet in packets) / max(len(packets), 1)
