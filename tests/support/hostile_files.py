"""Malformed and harmful files, written on demand, and the error that each one has to cause.

Some point to secrets outside the media directory or to an address on this machine. `Workshop` has these, so that a test
can check that nothing was read or connected to.
"""

from __future__ import annotations

import json
import os
import random
import re
import socket
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
from av.container import OutputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from tests.support.clips import make_clip

SOUND = ""  # instead of a pattern: the file is a readable video, and completes
MARK = "the secret that must not be read"
SMALL = (64, 48)
BOMB_SAMPLES = 400_000


@dataclass(frozen=True)
class Workshop:
    """Undamaged clips as bytes, and targets outside: a text, a clip, a pipe without a writer, a web address."""

    mp4: bytes
    mkv: bytes
    webm: bytes
    avi: bytes
    mjpeg: bytes
    ts: bytes
    large_ts: bytes
    flv: bytes
    ogg: bytes
    text: Path
    clip: Path
    pipe: Path
    address: str

    @classmethod
    def open(cls, directory: Path, address: str) -> Workshop:
        """Write the clips and the secrets to `directory`, which is not the media directory."""
        directory.mkdir(parents=True)

        def clip(name: str, codec: str = "libx264", size: tuple[int, int] = SMALL, **more: bool) -> bytes:
            return make_clip(directory / name, size=size, codec=codec, **more).read_bytes()

        (directory / "secret.txt").write_text(f"{MARK}\n" * 20)
        os.mkfifo(directory / "secret.pipe")
        clip("secret.mkv")
        return cls(
            mp4=clip("a.mp4", audio=True),
            mkv=clip("a.mkv", audio=True),
            webm=clip("a.webm", "libvpx", audio=True),
            avi=clip("a.avi", "mpeg4"),
            mjpeg=clip("b.avi", "mjpeg"),
            ts=clip("a.mpegts"),
            large_ts=clip("b.mpegts", size=(8200, 32)),
            flv=clip("a.flv"),
            ogg=clip("a.ogg", "libvpx"),
            text=directory / "secret.txt",
            clip=directory / "secret.mkv",
            pipe=directory / "secret.pipe",
            address=address,
        )

    @property
    def baits(self) -> list[str]:
        """The targets outside, in each form in which a file can name them."""
        paths = [str(path) for path in (self.clip, self.text, self.pipe)]
        return [*paths, *(f"file://{path}" for path in paths), "../outside/secret.mkv", f"http://{self.address}/a.ts"]

    @property
    def is_pipe_open(self) -> bool:
        """True if a process has the pipe open for reading."""
        try:
            os.close(os.open(self.pipe, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:  # no process
            return False
        return True


Make = Callable[[Workshop, Path], object]


@dataclass(frozen=True)
class Hostile:
    """One file: its video ID, a pattern of how its error begins (`SOUND`: no error), its writer, its name."""

    video_id: str
    words: str
    make: Make
    name: str | bytes = ""

    def put(self, workshop: Workshop, media: Path) -> None:
        """Write the file to the media directory."""
        path = Path(os.fsdecode(os.path.join(os.fsencode(media), os.fsencode(self.name or f"{self.video_id}.mp4"))))
        path.parent.mkdir(parents=True, exist_ok=True)
        self.make(workshop, path)

    def is_described_by(self, error: str | None) -> bool:
        """Return True if this is the expected error."""
        return error is None if self.words == SOUND else error is not None and re.match(self.words, error) is not None


def holding(content: Callable[[Workshop], bytes | str]) -> Make:
    """Return the writer of a regular file with this content."""

    def make(workshop: Workshop, path: Path) -> None:
        made = content(workshop)
        path.write_bytes(made.encode() if isinstance(made, str) else made)

    return make


def noise(length: int, seed: int = 1) -> bytes:
    """Return random bytes, the same for each seed."""
    return random.Random(seed).randbytes(length)


# MP4: boxes in boxes

Box = tuple[bytes, "bytes | list[Box]"]
NESTING = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl", b"dinf", b"edts"})


def boxes_of(content: bytes) -> list[Box]:
    """Return the boxes of an undamaged file, with those in `NESTING` as lists of boxes."""
    boxes: list[Box] = []
    while content:
        size, kind = struct.unpack(">I4s", content[:8])
        inside = content[8:size]
        boxes.append((kind, boxes_of(inside) if kind in NESTING else inside))
        content = content[size:]
    return boxes


def bytes_of(boxes: Sequence[Box]) -> bytes:
    """Return the boxes as a file, each with its true size."""
    parts = ((kind, inside if isinstance(inside, bytes) else bytes_of(inside)) for kind, inside in boxes)
    return b"".join(struct.pack(">I4s", 8 + len(inside), kind) + inside for kind, inside in parts)


def changed(boxes: Sequence[Box], kind: bytes, change: Callable[[bytes], bytes]) -> list[Box]:
    """Return the boxes with this change in each box of the kind."""

    def one(box: Box) -> Box:
        if isinstance(box[1], bytes):
            return (box[0], change(box[1])) if box[0] == kind else box
        return (box[0], changed(box[1], kind, change))

    return [one(box) for box in boxes]


def mp4_with(kind: bytes, change: Callable[[bytes], bytes]) -> Make:
    """Return the writer of an MP4 file with this change in each box of the kind."""
    return holding(lambda workshop: bytes_of(changed(boxes_of(workshop.mp4), kind, change)))


def overwritten(offset: int, new: bytes) -> Callable[[bytes], bytes]:
    """Return the change that overwrites the bytes at this offset."""
    return lambda old: old[:offset] + new + old[offset + len(new) :]


def numbers(*values: int) -> bytes:
    """Return the values as 32-bit numbers of MP4."""
    return b"".join(struct.pack(">I", value) for value in values)


def packed_index(workshop: Workshop) -> bytes:
    """Return an MP4 file with a compressed index whose declared size is 2 GiB."""
    head, packed = boxes_of(workshop.mp4)[0], numbers(0x7FFFFFFF) + zlib.compress(bytes(10_000_000))
    index = bytes_of([(b"cmov", bytes_of([(b"dcom", b"zlib"), (b"cmvd", packed)]))])
    return bytes_of([head, (b"moov", index)])


def reference_to(kind: bytes, target: Callable[[Workshop], bytes]) -> Make:
    """Return the writer of an MP4 file whose header refers to another file for the pictures."""

    def content(workshop: Workshop) -> bytes:
        entry = struct.pack(">I4s", 12 + len(target(workshop)), kind) + numbers(0) + target(workshop)
        return bytes_of(changed(boxes_of(workshop.mp4), b"dref", lambda _: numbers(0, 1) + entry))

    return holding(content)


def alias(workshop: Workshop) -> bytes:
    """Return a classic Mac OS alias to a file, with its absolute and its relative path."""
    name = workshop.clip.name.encode()
    paths = b"".join(
        struct.pack(">HH", kind, len(text)) + text + b"\0" * (len(text) % 2)
        for kind, text in ((2, str(workshop.clip).encode()), (18, str(workshop.clip).encode()), (0, b"outside"))
    )
    fixed = bytes([len(b"disk")]) + b"disk".ljust(27, b"\0")
    head = struct.pack(">4sHHH", b"\0\0\0\0", 150 + len(paths) + 4, 2, 0) + fixed + bytes(12)
    named = bytes([len(name)]) + name.ljust(63, b"\0")
    return head + named + bytes(16) + struct.pack(">HH", 1, 1) + bytes(16) + paths + struct.pack(">hH", -1, 0)


def bomb(workshop: Workshop, path: Path) -> None:
    """Write a video that shows one picture of 4096 × 2160, of some kilobytes, 400,000 times."""
    picture = path.with_name("picture.mp4.part")
    muxed(picture, "libx264", size=(4096, 2160), frames=1, container="mp4")
    boxes = boxes_of(picture.read_bytes())
    picture.unlink()
    chunk = struct.pack(">I", len(bytes_of(boxes[:2])) + 8)
    boxes = changed(boxes, b"elst", overwritten(8, numbers(0x7FFFFFFF)))
    boxes = changed(boxes, b"stts", lambda _: numbers(0, 1, BOMB_SAMPLES, 16384))
    boxes = changed(boxes, b"stsz", lambda old: old[:8] + numbers(BOMB_SAMPLES))
    boxes = changed(boxes, b"stsc", lambda _: numbers(0, 1, 1, 1, 1))
    boxes = changed(boxes, b"stco", lambda _: numbers(0, BOMB_SAMPLES) + chunk * BOMB_SAMPLES)
    path.write_bytes(bytes_of(boxes))


# Matroska: elements with sizes of 8 bytes


INFO = b"\x15\x49\xa9\x66"


def element(kind: bytes, *inside: bytes) -> bytes:
    """Return an element with this content."""
    content = b"".join(inside)
    return kind + struct.pack(">Q", 1 << 56 | len(content)) + content


def with_links(workshop: Workshop) -> bytes:
    """Return a Matroska file that refers to others: linked segments and ordered chapters."""
    head, segment, rest = workshop.mkv.partition(b"\x18\x53\x80\x67")
    offset = rest.index(INFO, rest.index(INFO) + 1)  # the first one is in the seek table
    size_bytes = 9 - rest[offset + 4].bit_length()
    start = offset + 4 + size_bytes
    end = start + (int.from_bytes(rest[offset + 4 : start]) & ~(1 << 7 * size_bytes))
    other = str(workshop.clip).encode()
    names = element(b"\x3c\x83\xab", other) + element(b"\x3e\x83\xbb", other) + element(b"\x3e\xb9\x23", noise(16))
    chapter = element(b"\xb6", element(b"\x73\xc4", b"\1"), element(b"\x91", b"\0"), element(b"\x6e\x67", noise(16)))
    chapters = element(b"\x10\x43\xa7\x70", element(b"\x45\xb9", element(b"\x45\xdd", b"\1"), chapter))
    info = element(INFO, rest[start:end], names)
    return head + segment + b"\x01" + b"\xff" * 7 + info + chapters + rest[end:]


# playlists and other files that name files


def hls(workshop: Workshop) -> str:
    entries = "".join(f"#EXTINF:10,\n{bait}\n" for bait in workshop.baits)
    key = f'#EXT-X-KEY:METHOD=AES-128,URI="http://{workshop.address}/key"\n'
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n{key}{entries}#EXT-X-ENDLIST\n"


def hls_of(target: Callable[[Workshop], object]) -> Make:
    return holding(lambda w: f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{target(w)}\n#EXT-X-ENDLIST\n")


def concat(workshop: Workshop) -> str:
    return "ffconcat version 1.0\n" + "".join(f"file '{bait}'\n" for bait in workshop.baits)


def dash(workshop: Workshop) -> str:
    representations = "".join(
        f'<Representation id="{number}" bandwidth="1"><BaseURL>{bait}</BaseURL><SegmentBase indexRange="0-9"/>'
        "</Representation>"
        for number, bait in enumerate(workshop.baits)
    )
    return (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT10S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period>'
        f'<AdaptationSet mimeType="video/mp4">{representations}</AdaptationSet></Period></MPD>'
    )


def sdp(workshop: Workshop) -> str:
    port = workshop.address.rpartition(":")[2]
    here = "IN IP4 127.0.0.1"
    return f"v=0\r\no=- 0 0 {here}\r\nc={here}\r\nm=video {port} RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"


def svg(workshop: Workshop) -> str:
    """Return an SVG picture that includes others."""
    images = "".join(f'<image href="{bait}"/>' for bait in workshop.baits)
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9">{images}</svg>'


# pictures and streams


def png(width: int, height: int) -> bytes:
    """Return a white PNG picture with one bit per pixel."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\xff" * (width // 8)) * height, 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def lying_jpegs(workshop: Workshop) -> bytes:
    """Return an AVI file whose pictures declare 16000 × 16000 pixels but have 64 × 48."""
    true, false = struct.pack(">HH", SMALL[1], SMALL[0]), struct.pack(">HH", 16000, 16000)
    return re.sub(
        rb"(\xff\xc0..\x08)" + re.escape(true), lambda found: found[1] + false, workshop.mjpeg, flags=re.DOTALL
    )


def video_stream(output: OutputContainer, codec: str, size: tuple[int, int], pixels: str) -> VideoStream:
    stream = cast(VideoStream, output.add_stream(codec, rate=5))
    stream.width, stream.height, stream.pix_fmt = *size, pixels
    return stream


def muxed(
    path: Path,
    codec: str,
    *,
    size: tuple[int, int] = SMALL,
    pixels: str = "yuv420p",
    frames: int = 5,
    container: str | None = None,
) -> None:
    """Write black pictures of one codec. The format follows from the extension unless `container` is given."""
    with av.open(str(path), "w", format=container) as output:
        stream = video_stream(output, codec, size, pixels)
        for _ in range(frames):
            output.mux(stream.encode(av.VideoFrame(*size, pixels)))
        output.mux(stream.encode(None))


def in_codec(codec: str, pixels: str) -> Make:
    def make(workshop: Workshop, path: Path) -> None:
        muxed(path, codec, pixels=pixels)

    return make


def silence(output: OutputContainer) -> None:
    audio = output.add_stream("aac", rate=48_000)
    frame = av.AudioFrame(format="fltp", layout="stereo", samples=1024)
    frame.sample_rate = 48_000
    for plane in frame.planes:
        plane.update(bytes(plane.buffer_size))
    output.mux([*audio.encode(frame), *audio.encode(None)])


def only_sound(workshop: Workshop, path: Path) -> None:
    with av.open(str(path), "w") as output:
        silence(output)


def only_a_cover(workshop: Workshop, path: Path) -> None:
    """Write an audio file with an attached picture."""
    with av.open(str(path), "w", format="mp4") as output:
        cover = video_stream(output, "mjpeg", SMALL, "yuvj420p")
        cover.disposition = Disposition.attached_pic
        silence(output)
        output.mux([*cover.encode(av.VideoFrame(*SMALL, "yuvj420p")), *cover.encode(None)])


def with_attachment(workshop: Workshop, path: Path) -> None:
    """Write a video with a font and a script attached, whose names lead out of any directory."""
    with av.open(str(path), "w", format="matroska") as output:
        stream = video_stream(output, "libx264", SMALL, "yuv420p")
        output.add_attachment("../../font.ttf", "font/ttf", noise(5000))
        output.add_attachment("/tmp/run.sh", "text/x-sh", b"#!/bin/sh\n")
        output.mux([*stream.encode(av.VideoFrame(*SMALL, "yuv420p")), *stream.encode(None)])


def at_moments(*moments: int) -> Make:
    """Return the writer of a video with pictures at these milliseconds."""

    def make(workshop: Workshop, path: Path) -> None:
        with av.open(str(path), "w", format="matroska") as output:
            stream = video_stream(output, "mpeg4", SMALL, "yuv420p")
            packets = [*stream.encode(av.VideoFrame(*SMALL, "yuv420p")), *stream.encode(None)]
            content = bytes(packets[0])
            for moment in moments:
                packet = av.Packet(content)
                packet.stream, packet.time_base, packet.pts, packet.dts = stream, Fraction(1, 1000), moment, moment
                packet.is_keyframe = True
                output.mux(packet)

    return make


def socket_file(workshop: Workshop, path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        here = os.getcwd()
        os.chdir(path.parent)  # a socket's name has at most some 100 bytes
        try:
            bound.bind(path.name)
        finally:
            os.chdir(here)


NOT_SUPPORTED = r"Not a video: its format is not supported, or its beginning is damaged\.$"
TEXT = r"Not a video: it is a text file\.$"
PLAYLIST = r"Not a video: it is a playlist, which names other files and is not followed\.$"
NO_INDEX = r"File is cut off: the index is missing"
DAMAGED_INDEX = r"File is damaged: its index cannot be read"
CUT_INDEX = r"File is cut off: its index is incomplete"
NO_VIDEO = r"There is no video in this file\.$"
MEMORY = r"The video needs more memory than the limit of "
CUT_OFF = r"File is cut off: it should last "
DAMAGED = r"File is damaged: |Nothing in this file can be decoded; it is damaged\.$"
TOO_LARGE = r"The picture is too large: "
OUTSIDE = r'".*" is a link that leads outside the media directory; such links are not followed: put the file itself'

CORPUS: tuple[Hostile, ...] = (
    # incomplete
    Hostile("empty", r'The file is empty: "empty\.mp4"$', holding(lambda w: b"")),
    Hostile("one-byte", NOT_SUPPORTED, holding(lambda w: b"\x1a")),
    Hostile("eight-bytes", NO_INDEX, holding(lambda w: w.mp4[:8])),
    Hostile("cut-mp4", NO_INDEX, holding(lambda w: w.mp4[: len(w.mp4) // 2])),
    Hostile("cut-in-moov", CUT_INDEX, holding(lambda w: w.mp4[:-1500])),
    Hostile("cut-mkv", CUT_OFF, holding(lambda w: w.mkv[: len(w.mkv) // 2]), "cut-mkv.mkv"),
    Hostile("cut-webm", CUT_OFF, holding(lambda w: w.webm[: len(w.webm) // 2]), "cut-webm.webm"),
    Hostile("cut-avi", CUT_OFF, holding(lambda w: w.avi[: len(w.avi) * 4 // 5]), "cut-avi.avi"),
    Hostile("cut-flv", CUT_OFF, holding(lambda w: w.flv[: len(w.flv) // 2]), "cut-flv.flv"),
    Hostile("cut-ogg", SOUND, holding(lambda w: w.ogg[: len(w.ogg) * 4 // 5]), "cut-ogg.ogv"),
    Hostile("cut-ts", DAMAGED, holding(lambda w: w.ts[: len(w.ts) // 2 + 77]), "cut-ts.ts"),
    Hostile("head-missing", NOT_SUPPORTED, holding(lambda w: w.mkv[1000:]), "head-missing.mkv"),
    # filled with something else
    Hostile("zeros", r"Not a video: the file begins with nothing but zeros", holding(lambda w: bytes(100_000))),
    Hostile("noise", NOT_SUPPORTED, holding(lambda w: noise(100_000))),
    Hostile("noise-behind-ftyp", NO_INDEX, holding(lambda w: w.mp4[:32] + noise(100_000))),
    Hostile("hole", DAMAGED, holding(lambda w: w.mp4[:3000] + bytes(9000) + w.mp4[12000:])),
    Hostile(
        "ts-of-noise",
        NOT_SUPPORTED,
        holding(lambda w: b"".join(b"\x47" + noise(187, n) for n in range(500))),
        "ts-of-noise.ts",
    ),
    Hostile("ts-with-noise", SOUND, holding(lambda w: noise(1000) + w.ts + noise(1000)), "ts-with-noise.ts"),
    Hostile("mpeg-of-noise", NOT_SUPPORTED, holding(lambda w: b"\0\0\1\xba\x44" + noise(50_000)), "mpeg-of-noise.mpg"),
    Hostile(
        "asf-of-noise",
        NOT_SUPPORTED,
        holding(lambda w: bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") + noise(5000)),
        "asf-of-noise.wmv",
    ),
    Hostile(
        "mxf-of-noise",
        NOT_SUPPORTED,
        holding(lambda w: bytes.fromhex("060e2b34020501010d01020101020400") + noise(5000)),
        "mxf-of-noise.mxf",
    ),
    Hostile("rm-of-noise", NOT_SUPPORTED, holding(lambda w: b".RMF" + noise(5000)), "rm-of-noise.rm"),
    # MP4 whose boxes lie
    Hostile("no-moov", NO_INDEX, holding(lambda w: bytes_of([b for b in boxes_of(w.mp4) if b[0] != b"moov"]))),
    Hostile(
        "empty-moov",
        NO_VIDEO,
        holding(lambda w: bytes_of([b if b[0] != b"moov" else (b"moov", b"") for b in boxes_of(w.mp4)])),
    ),
    Hostile(
        "huge-moov",
        CUT_INDEX,
        holding(lambda w: w.mp4[:32] + numbers(1) + b"moov" + struct.pack(">Q", 2**62) + noise(500)),
    ),
    Hostile(
        "deep-boxes",
        DAMAGED_INDEX,
        holding(lambda w: w.mp4[:32] + b"".join(numbers(8 * (20_000 - n)) + b"moov" for n in range(20_000))),
    ),
    Hostile("huge-sample-count", DAMAGED_INDEX, mp4_with(b"stsz", overwritten(8, numbers(0xFFFFFFFF)))),
    Hostile("huge-samples", DAMAGED, mp4_with(b"stsz", overwritten(4, numbers(0x7FFFFFFF, 0x7FFFFFFF)))),
    Hostile("huge-time-table", MEMORY, mp4_with(b"stts", overwritten(4, numbers(0xFFFFFFFF)))),
    Hostile("huge-chunk-table", DAMAGED_INDEX, mp4_with(b"stsc", overwritten(4, numbers(0xFFFFFFFF)))),
    Hostile(
        "samples-out-of-range",
        DAMAGED,
        mp4_with(b"stco", lambda old: old[:8] + numbers(0x7FFFFFF0) * (len(old) // 4 - 2)),
    ),
    Hostile("packed-index", MEMORY, holding(packed_index)),
    Hostile("no-time-scale", SOUND, mp4_with(b"mdhd", overwritten(12, numbers(0)))),
    Hostile("huge-duration", SOUND, mp4_with(b"mvhd", overwritten(12, numbers(1, 0xFFFFFFF0)))),
    Hostile("huge-picture-in-tkhd", SOUND, mp4_with(b"tkhd", overwritten(76, numbers(0xFFFF0000, 0xFFFF0000)))),
    Hostile(
        "huge-picture-in-avc1",
        SOUND,
        mp4_with(b"stsd", lambda old: old.replace(struct.pack(">HH", *SMALL), b"\xff" * 4, 1)),
    ),
    Hostile(
        "absurd-edits",
        CUT_OFF,
        mp4_with(b"elst", lambda _: numbers(0, 3, 0x7FFFFFFF, 0x7FFFFFFF, 0x10000, 1, 0xFFFFFFFF, 0, 9, 9, 9)),
    ),
    Hostile("other-file-by-url", SOUND, reference_to(b"url ", lambda w: f"file://{w.clip}\0".encode())),
    Hostile("other-file-by-web", SOUND, reference_to(b"url ", lambda w: f"http://{w.address}/a.mp4\0".encode())),
    Hostile("other-file-by-alias", DAMAGED, reference_to(b"alis", alias), "other-file-by-alias.mov"),
    Hostile("bomb", r"Took longer than .* s, the limit for one video", bomb),
    # other containers that lie
    Hostile(
        "huge-element",
        NOT_SUPPORTED,
        holding(lambda w: w.mkv[:40] + b"\x18\x53\x80\x67\x01" + b"\xfe" * 7 + b"\x15\x49\xa9\x66\x01" + b"\xfe" * 7),
        "huge-element.mkv",
    ),
    Hostile("linked-segments", SOUND, holding(with_links), "linked-segments.mkv"),
    Hostile("attachments", SOUND, with_attachment, "attachments.mkv"),
    Hostile(
        "avi-index-of-noise",
        SOUND,
        holding(lambda w: w.avi[: w.avi.rindex(b"idx1") + 8] + noise(len(w.avi) - w.avi.rindex(b"idx1") - 8)),
        "avi-index-of-noise.avi",
    ),
    Hostile("avi-of-4-gib", SOUND, holding(lambda w: w.avi[:4] + b"\xff" * 4 + w.avi[8:]), "avi-of-4-gib.avi"),
    Hostile(
        "avi-of-2-31-frames",
        CUT_OFF,
        holding(
            lambda w: w.avi[: w.avi.index(b"vids") + 32] + b"\xff\xff\xff\x7f" + w.avi[w.avi.index(b"vids") + 36 :]
        ),
        "avi-of-2-31-frames.avi",
    ),
    Hostile(
        "huge-picture-in-avi",
        SOUND,
        holding(lambda w: w.avi.replace(struct.pack("<II", *SMALL), b"\xff\xff\xff\x7f" * 2)),
        "huge-picture-in-avi.avi",
    ),
    Hostile("video-in-video", NO_INDEX, holding(lambda w: bytes_of([boxes_of(w.mp4)[0], (b"mdat", w.mkv)]))),
    Hostile("moments-far-apart", SOUND, at_moments(0, 10**12), "moments-far-apart.mkv"),
    Hostile("moments-before-zero", SOUND, at_moments(-5000, -4000, 0), "moments-before-zero.mkv"),
    # too much, or too rare
    Hostile("png-16000", NOT_SUPPORTED, holding(lambda w: png(16000, 16000))),
    Hostile("jpegs-of-16000", rf"{TOO_LARGE}|{DAMAGED}", holding(lying_jpegs), "jpegs-of-16000.avi"),
    Hostile("grows-midway", TOO_LARGE, holding(lambda w: w.ts + w.large_ts), "grows-midway.ts"),
    Hostile(
        "magicyuv",
        r"Its video codec \(magicyuv\) is not supported\.$",
        in_codec("magicyuv", "gbrp"),
        "magicyuv.avi",
    ),
    Hostile(
        "raw-pictures",
        r"Its video codec \(rawvideo\) is not supported\.$",
        in_codec("rawvideo", "yuv420p"),
        "raw-pictures.avi",
    ),
    Hostile(
        "png-in-mov",
        r"Its video codec \(png\) is not supported\.$",
        in_codec("png", "rgb24"),
        "png-in-mov.mov",
    ),
    Hostile("gif", NOT_SUPPORTED, in_codec("gif", "rgb8"), "gif.gif"),
    Hostile("raw-h264", NOT_SUPPORTED, in_codec("libx264", "yuv420p"), "raw-h264.h264"),
    Hostile("only-sound", NO_VIDEO, only_sound),
    Hostile("only-a-cover", NO_VIDEO, only_a_cover),
    Hostile("program", NOT_SUPPORTED, holding(lambda w: Path("/bin/true").read_bytes()), "program.exe"),
    Hostile("packed", NOT_SUPPORTED, holding(lambda w: b"PK\3\4" + zlib.compress(w.mp4)), "packed.zip"),
    # text, and files that name files
    Hostile("text", TEXT, holding(lambda w: "My holiday notes, saved under the wrong name.\n" * 20)),
    Hostile("text-in-utf-16", NOT_SUPPORTED, holding(lambda w: "My holiday notes".encode("utf-16"))),
    Hostile("web-page", r"Not a video: it is a web page", holding(lambda w: "<!DOCTYPE html><title>404</title>")),
    Hostile("json", TEXT, holding(lambda w: json.dumps({"url": f"http://{w.address}/a.mp4"}))),
    Hostile("hls", PLAYLIST, holding(hls)),
    Hostile("hls-to-clip", PLAYLIST, hls_of(lambda w: w.clip), "hls-to-clip.m3u8"),
    Hostile("hls-to-text", PLAYLIST, hls_of(lambda w: w.text), "hls-to-text.ts"),
    Hostile("hls-to-pipe", PLAYLIST, hls_of(lambda w: w.pipe), "hls-to-pipe.mkv"),
    Hostile("hls-to-web", PLAYLIST, hls_of(lambda w: f"http://{w.address}/a.ts"), "hls-to-web.m3u8"),
    Hostile("hls-to-concat", PLAYLIST, hls_of(lambda w: f"concat:{w.text}|{w.clip}"), "hls-to-concat.m3u"),
    Hostile("ffconcat", TEXT, holding(concat)),
    Hostile("ffconcat-by-name", TEXT, holding(concat), "ffconcat-by-name.ffconcat"),
    Hostile("dash", TEXT, holding(dash), "dash.mpd"),
    Hostile("sdp", TEXT, holding(sdp), "sdp.sdp"),
    Hostile("asx", TEXT, holding(lambda w: f'<asx><entry><ref href="http://{w.address}/a"/></entry></asx>'), "asx.asx"),
    Hostile("avisynth", TEXT, holding(lambda w: f'DirectShowSource("{w.clip}")\n'), "avisynth.avs"),
    Hostile("svg", TEXT, holding(svg), "svg.svg"),
    # names
    Hostile("-i", SOUND, holding(lambda w: w.mp4)),
    Hostile("--help", SOUND, holding(lambda w: w.mp4)),
    Hostile("pattern", SOUND, holding(lambda w: w.mp4), "%03d %s %n [pattern].mp4"),
    Hostile("web-name", SOUND, holding(lambda w: w.mp4), "http:/127.0.0.1/[web-name].mp4"),
    Hostile("concat-name", SOUND, holding(lambda w: w.mp4), "concat:a|b [concat-name].mp4"),
    Hostile("subfile-name", SOUND, holding(lambda w: w.mp4), "subfile,,start,0,end,9,,:[subfile-name].mp4"),
    Hostile("unicode", SOUND, holding(lambda w: w.mkv), "\u202efilm \N{CLAPPER BOARD} 映画 [unicode].mkv"),
    Hostile("bytes", NO_INDEX, holding(lambda w: w.mp4[:999]), b"\xff\xfe\x1b[31m\n [bytes].mp4"),
    Hostile("long", r'The file is empty: "n{200,} \[long\]\.mp4"$', holding(lambda w: b""), f"{'n' * 243} [long].mp4"),
    Hostile(
        "twice",
        r"2 files in the media directory have this ID: ",
        lambda w, path: [path.with_suffix(end).write_bytes(w.mp4) for end in (".mp4", ".mkv")],
    ),
    # not regular files
    Hostile("pipe", r'"pipe\.mp4" is not a regular file\.$', lambda w, path: os.mkfifo(path)),
    Hostile("socket", r'"socket\.mp4" is not a regular file\.$', socket_file),
    Hostile("directory", r"No file for this ID in the media directory", lambda w, path: path.mkdir()),
    Hostile("link-to-clip", OUTSIDE, lambda w, path: path.symlink_to(w.clip)),
    Hostile("link-to-text", OUTSIDE, lambda w, path: path.symlink_to(w.text)),
    Hostile("link-to-pipe", OUTSIDE, lambda w, path: path.symlink_to(w.pipe)),
    Hostile("link-to-device", OUTSIDE, lambda w, path: path.symlink_to("/dev/zero")),
    Hostile("link-to-process", OUTSIDE, lambda w, path: path.symlink_to("/proc/self/environ")),
    Hostile(
        "link-to-directory",
        r"No file for this ID .*\(a link to a directory\)",
        lambda w, path: path.symlink_to(w.clip.parent),
    ),
    Hostile(
        "link-in-a-circle", r'"link-in-a-circle\.mp4" is reached through a link', lambda w, path: path.symlink_to(path)
    ),
    Hostile(
        "link-to-nothing",
        r'".*nothing-there" cannot be read: No such file',
        lambda w, path: path.symlink_to("nothing-there"),
    ),
)
