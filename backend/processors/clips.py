"""Writes small real videos with a moving test pattern and a tone, for the demo and for tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import av
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.filter import Graph
from av.video.stream import VideoStream

FASTEST = {
    "libx264": {"preset": "ultrafast", "crf": "30"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
}
PIXEL_FORMATS = {"mjpeg": "yuvj420p", "magicyuv": "gbrp"}  # yuv420p for all others
SAMPLE_RATE = 48_000  # Hz


@dataclass(frozen=True)
class Clip:
    """The properties of a clip: `size` in pixels, `hue` as degrees to rotate the colours by, `tone` in Hz."""

    seconds: float = 1.0
    size: tuple[int, int] = (160, 120)
    fps: int = 15
    codec: str = "libx264"
    audio_codec: str | None = None
    hue: int = 0
    tone: int = 440


def write_clip(path: Path, clip: Clip) -> None:
    """Write the clip in the format of the path's extension, as `<name>.part` until it is complete."""
    part = path.with_name(f"{path.name}.part")
    container = {"mkv": "matroska"}.get(path.suffix[1:], path.suffix[1:])
    with av.open(str(part), "w", format=container) as output:
        video = cast(VideoStream, output.add_stream(clip.codec, rate=clip.fps, options=FASTEST.get(clip.codec, {})))
        video.width, video.height = clip.size
        video.pix_fmt = PIXEL_FORMATS.get(clip.codec, "yuv420p")
        video.codec_context.thread_count = 1
        audio = cast(AudioStream, output.add_stream(clip.audio_codec, rate=SAMPLE_RATE)) if clip.audio_codec else None
        _write_streams(output, clip, video, audio)
    os.replace(part, path)


def _write_streams(output: OutputContainer, clip: Clip, video: VideoStream, audio: AudioStream | None) -> None:
    """Write both streams interleaved, so that no reader has to read far ahead for one of them."""
    sounds = _sounds(clip) if audio is not None else iter(())
    audio_seconds = 0.0
    for picture in _pictures(clip, video.pix_fmt or "yuv420p"):
        output.mux(video.encode(picture))
        while audio is not None and audio_seconds < (picture.time or 0.0) and (sound := next(sounds, None)) is not None:
            audio_seconds += sound.samples / sound.sample_rate
            output.mux(audio.encode(sound))
    output.mux(video.encode(None))
    if audio is not None:
        for sound in sounds:
            output.mux(audio.encode(sound))
        output.mux(audio.encode(None))


def _pictures(clip: Clip, pixels: str) -> Iterator[av.VideoFrame]:
    width, height = clip.size
    source = f"size={width}x{height}:rate={clip.fps}:duration={clip.seconds}"
    for picture in _generate(("testsrc2", source), ("hue", f"h={clip.hue}"), ("format", pixels), ("buffersink", "")):
        picture.pict_type = av.video.frame.PictureType.NONE  # the encoder chooses key frames itself
        yield picture


def _sounds(clip: Clip) -> Iterator[av.AudioFrame]:
    source = f"frequency={clip.tone}:sample_rate={SAMPLE_RATE}:duration={clip.seconds}"
    return _generate(("sine", source), ("abuffersink", ""))


def _generate(*filters: tuple[str, str]) -> Iterator[Any]:
    graph = Graph()
    graph.link_nodes(*(graph.add(name, arguments or None) for name, arguments in filters)).configure()
    while True:
        try:
            yield graph.pull()
        except (av.error.EOFError, av.error.BlockingIOError):  # the pattern has ended
            return
