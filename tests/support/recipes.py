"""Recipes of clips for Debian's ffmpeg: what cameras, recorders, broadcasters and editors write, one second each."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from tests.support.ffprobe import run_tool

QUIET = ("-nostdin", "-hide_banner", "-v", "error", "-y")
X264 = "-c:v libx264 -preset ultrafast -threads 1"
X265 = "-c:v libx265 -preset ultrafast -x265-params log-level=none:pools=1:frame-threads=1"
OPEN = "-x265-params log-level=none:pools=1:frame-threads=1:open-gop=1:bframes=4:scenecut=0"
VPX = "-deadline realtime -cpu-used 8 -threads 1"
AOM = "-c:v libaom-av1 -cpu-used 8 -usage realtime -threads 1"
VARIABLE = "'select=lt(n\\,8)+not(mod(n\\,5))' -fps_mode vfr"
SPARSE = "'select=not(mod(n\\,125))' -fps_mode vfr"
BYTES = "-map 0 -c copy -f data"  # as they are, so that the clocks stay as they were
YUV = "-pix_fmt yuv420p"
HDR = (
    ":colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:hdr10=1:max-cll=1000,400"
    ":master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
)


@dataclass(frozen=True)
class Recipe:
    """How to make one clip: the arguments of ffmpeg, and the names of the `MATERIAL` that is made first, beside it."""

    name: str
    arguments: str
    needs: tuple[str, ...] = ()
    # A part of ffprobe's answer that shows that the clip is what its name says.
    proof: str = ""
    # The places of the tracks that are the film and its sound, among those of their kind.
    film: int = 0
    sound: int = 0

    @property
    def command(self) -> str:
        """The commands for a shell, those of the clips that it needs included."""
        first = [MATERIAL[name].command for name in self.needs if name in MATERIAL]
        return " && ".join((*first, shlex.join(("ffmpeg", *self.inputs, *self.output))))

    @property
    def inputs(self) -> tuple[str, ...]:
        """The arguments up to the last input."""
        return self._divided[0]

    @property
    def output(self) -> tuple[str, ...]:
        """The arguments after the inputs: what is done with them, and the name of the clip."""
        return (*self._divided[1], self.name)

    @property
    def _divided(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        words = tuple(shlex.split(self.arguments))
        after = len(words) - words[::-1].index("-i") + 1
        return words[:after], words[after:]


def make(recipe: Recipe, directory: Path) -> Path:
    """Make a clip in this directory, unless it is there, and return its path.

    All clips of the same inputs are made at once: most of the time of one clip is that in which ffmpeg starts.
    """
    path = directory / recipe.name
    if not path.exists():
        for name in recipe.needs:
            if name in TEXTS:
                (directory / name).write_text(TEXTS[name])
            else:
                make(MATERIAL[name], directory)
        alike = [other for other in (*RECIPES, recipe) if (other.inputs, other.needs) == (recipe.inputs, recipe.needs)]
        outputs = [argument for other in dict.fromkeys(alike) for argument in other.output]
        run_tool("ffmpeg", *QUIET, *recipe.inputs, *outputs, directory=directory)
    return path


def pictures(size: str = "160x120", rate: str = "25", seconds: str = "1") -> str:
    """Return the arguments for a moving test pattern."""
    return f"-f lavfi -i testsrc2=size={size}:rate={rate}:duration={seconds}"


def tone(layout: str = "mono", rate: int = 48000, seconds: str = "1") -> str:
    """Return the arguments for a tone in all channels of the layout."""
    channels = {"mono": 1, "stereo": 2, "5.1": 6, "7.1": 8}[layout]
    return f"-f lavfi -i aevalsrc={'|'.join(['sin(2765*t)/4'] * channels)}:c={layout}:s={rate}:d={seconds}"


P, T = pictures(), tone()
MATERIAL = {
    recipe.name: recipe
    for recipe in (
        Recipe("base.mp4", f"{P} {tone('stereo')} {X264} {YUV} -g 12 -c:a aac"),
        Recipe("base.ts", f"{P} {T} {X264} {YUV} -g 12 -c:a aac"),
        Recipe("later.ts", f"{pictures(seconds='2')} {tone(seconds='2')} {X264} {YUV} -c:a aac -output_ts_offset 100"),
        Recipe("wide.ts", f"{pictures('320x180')} {X264} {YUV} -output_ts_offset 1"),
        Recipe("open-gop.mkv", f"{pictures(seconds='2')} -c:v libx265 -preset fast -g 12 {YUV} {OPEN}"),
        Recipe("thumb.jpg", f"{pictures('64x64')} -frames:v 1"),
    )
}
TEXTS = {
    "words.srt": "1\n00:00:00,100 --> 00:00:00,900\nHello\n",
    "chapters.txt": (
        ";FFMETADATA1\n"
        "[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=400\ntitle=One\n"
        "[CHAPTER]\nTIMEBASE=1/1000\nSTART=400\nEND=1900\ntitle=Two\n"
    ),
}

PICTURES = (
    Recipe("h264.mp4", f"{P} {tone('stereo')} {X264} {YUV} -c:a aac"),
    Recipe("h264-10-bit.mkv", f"{P} {T} {X264} -pix_fmt yuv420p10le -c:a aac", proof='"pix_fmt": "yuv420p10le"'),
    Recipe("h264-422.mov", f"{P} {X264} -pix_fmt yuv422p10le"),
    Recipe("h264-444-odd.mkv", f"{P} -vf format=yuv444p,scale=161:121 {X264}", proof='"width": 161'),
    Recipe(
        "h264-b-frames.mp4",
        f"{P} {T} -c:v libx264 -preset fast -threads 1 -bf 3 {YUV} -c:a aac",
        proof='"has_b_frames": 2',
    ),
    Recipe("h264-b-frames.avi", f"{P} -c:v libx264 -preset fast -threads 1 -bf 3 {YUV}"),
    Recipe("h264-b-frames.ts", f"{P} {T} -c:v libx264 -preset fast -threads 1 -bf 3 {YUV} -c:a mp2"),
    Recipe("h264-interlaced.mkv", f"{P} {X264} {YUV} -flags +ilme+ildct -x264-params tff=1"),
    Recipe(
        "h264-interlaced.ts", f"{P} {X264} {YUV} -flags +ilme+ildct -x264-params tff=1", proof='"field_order": "tt"'
    ),
    Recipe("h264-intra-refresh.mp4", f"{P} {X264} {YUV} -x264-params intra-refresh=1:keyint=10"),
    Recipe("hevc.mp4", f"{P} {T} {X265} {YUV} -tag:v hvc1 -c:a aac"),
    Recipe("hevc-hdr.mkv", f"{P} {X265}{HDR} -pix_fmt yuv420p10le", proof='"color_transfer": "smpte2084"'),
    Recipe("hevc-hdr.mp4", f"{P} {X265}{HDR} -pix_fmt yuv420p10le", proof='"color_transfer": "smpte2084"'),
    Recipe("hevc.ts", f"{P} {T} {X265} {YUV} -c:a ac3"),
    Recipe("av1.mp4", f"{P} {T} {AOM} {YUV} -c:a libopus"),
    Recipe("av1.webm", f"{P} {AOM} {YUV}"),
    Recipe("av1.ivf", f"{P} {AOM} {YUV}"),
    Recipe("svt-av1.mkv", f"{P} -c:v libsvtav1 -preset 12 -svtav1-params lp=1 -pix_fmt yuv420p10le"),
    Recipe("vp8.webm", f"{P} {T} -c:v libvpx {VPX} {YUV} -c:a libvorbis"),
    Recipe("vp8-alt-ref.webm", f"{P} -c:v libvpx -cpu-used 5 -threads 1 -auto-alt-ref 1 -lag-in-frames 16 {YUV}"),
    Recipe("vp8-alpha.webm", f"{P} -c:v libvpx {VPX} -auto-alt-ref 0 -pix_fmt yuva420p", proof='"alpha_mode": "1"'),
    Recipe("vp9-alpha.webm", f"{P} -c:v libvpx-vp9 {VPX} -pix_fmt yuva420p", proof='"alpha_mode": "1"'),
    Recipe("vp9-alt-ref.webm", f"{P} -c:v libvpx-vp9 -cpu-used 5 -threads 1 -auto-alt-ref 1 -lag-in-frames 16 {YUV}"),
    Recipe("vp9-10-bit.mkv", f"{P} -c:v libvpx-vp9 {VPX} -profile:v 2 -pix_fmt yuv420p10le"),
    Recipe("vp9.mp4", f"{P} {T} -c:v libvpx-vp9 {VPX} {YUV} -c:a libopus"),
    Recipe("vp9.ivf", f"{P} -c:v libvpx-vp9 {VPX} {YUV}"),
    Recipe("prores.mov", f"{P} {T} -c:v prores_ks -c:a pcm_s24le"),
    Recipe("prores-4444-alpha.mov", f"{P} -c:v prores_ks -profile:v 4444 -pix_fmt yuva444p10le", proof="yuva444p"),
    Recipe("dnxhr.mov", f"{pictures('256x120')} -c:v dnxhd -profile:v dnxhr_lb -pix_fmt yuv422p"),
    Recipe(
        "ffv1-odd.mkv", f"{P} {T} -vf format=yuv420p,scale=161:121 -c:v ffv1 -level 3 -c:a flac", proof='"width": 161'
    ),
    Recipe("mjpeg.avi", f"{P} {T} -c:v mjpeg -pix_fmt yuvj420p -c:a pcm_s16le"),
    Recipe("mjpeg.mov", f"{P} {T} -c:v mjpeg -pix_fmt yuvj422p -c:a pcm_u8"),
    Recipe("mpeg4.avi", f"{P} {T} -c:v mpeg4 -bf 2 -c:a libmp3lame"),
    Recipe("xvid.avi", f"{P} {T} -c:v libxvid -c:a libmp3lame"),
    Recipe("mpeg4.mp4", f"{P} {T} -c:v mpeg4 -c:a libmp3lame"),
    Recipe("mpeg4-3gp.3gp", f"{pictures('176x144', '15')} {tone(rate=16000)} -c:v mpeg4 -c:a aac"),
    Recipe("h263.3gp", f"{pictures('176x144', '15')} {tone(rate=16000)} -c:v h263 -c:a aac"),
    Recipe("msmpeg4.avi", f"{P} {T} -c:v msmpeg4 -c:a libmp3lame"),
    Recipe("wmv.wmv", f"{P} {T} -c:v wmv2 -c:a wmav2"),
    Recipe("wmv1.asf", f"{P} {tone('stereo', 44100)} -c:v wmv1 -c:a wmav1"),
    Recipe("flv1.flv", f"{P} {tone(rate=44100)} -c:v flv -c:a libmp3lame"),
    Recipe("h264.flv", f"{P} {T} {X264} {YUV} -c:a aac"),
    Recipe("theora.ogv", f"{P} {T} -c:v libtheora -c:a libvorbis"),
    Recipe("theora-silent.ogv", f"{P} -c:v libtheora"),
    Recipe("theora-odd.ogv", f"{pictures('150x110')} {T} -c:v libtheora -c:a libopus"),
    Recipe("mpeg1.mpg", f"{P} {T} -c:v mpeg1video -c:a mp2"),
    Recipe(
        "mpeg2-interlaced.mpg",
        f"{P} {T} -c:v mpeg2video -flags +ilme+ildct -c:a mp2 -f vob",
        proof='"field_order": "bb"',
    ),
    Recipe(
        "dvd-wide.vob",
        f"{pictures('720x576')} {tone('5.1')} -c:v mpeg2video -aspect 16:9 -c:a ac3 -f vob",
        proof='"display_aspect_ratio": "16:9"',
    ),
    Recipe("dvd.vob", f"{pictures('720x480', '30000/1001')} {T} -target ntsc-dvd -aspect 4:3"),
    Recipe("mpeg2.ts", f"{P} {T} -c:v mpeg2video -bf 2 -c:a mp2"),
    Recipe("camera.m2ts", f"{P} {tone('5.1')} {X264} {YUV} -c:a ac3 -f mpegts -mpegts_m2ts_mode 1"),
    Recipe("tape.dv", f"{pictures('720x576')} {tone('stereo')} -target pal-dv"),
    Recipe("tape-ntsc.dv", f"{pictures('720x480', '30000/1001')} {tone('stereo')} -target ntsc-dv"),
    Recipe("tape.avi", f"{pictures('720x576')} {tone('stereo')} -c:v dvvideo -pix_fmt yuv420p -c:a pcm_s16le"),
    Recipe("broadcast.mxf", f"{P} {T} -c:v mpeg2video -g 12 -c:a pcm_s16le"),
    Recipe("broadcast-h264.mxf", f"{P} {T} {X264} {YUV} -c:a pcm_s16le"),
)

TIMES = (
    Recipe("24000-1001.mp4", f"{pictures(rate='24000/1001')} {X264} {YUV}"),
    Recipe("24000-1001.mkv", f"{pictures(rate='24000/1001')} {X264} {YUV}"),
    Recipe("24000-1001.ts", f"{pictures(rate='24000/1001')} {X264} {YUV}"),
    Recipe(
        "drop-frame.mov",
        f"{pictures(rate='30000/1001')} {T} {X264} {YUV} -c:a aac -timecode 00:00:00;00",
        proof="00:00:00;00",
    ),
    Recipe(
        "drop-frame.mxf",
        f"{pictures(rate='30000/1001')} {T} -c:v mpeg2video -c:a pcm_s16le -timecode 00:00:00;00",
        proof="00:00:00;00",
    ),
    Recipe("60000-1001.mkv", f"{pictures(rate='60000/1001')} {X264} {YUV}"),
    Recipe("120.mp4", f"{pictures(rate='120')} {T} {X264} {YUV} -c:a aac"),
    Recipe("120.mkv", f"{pictures(rate='120')} {X264} {YUV}"),
    Recipe("1-a-second.mp4", f"{pictures(rate='1', seconds='3')} {X264} {YUV}"),
    Recipe("1-a-second.mkv", f"{pictures(rate='1', seconds='3')} {X264} {YUV}"),
    Recipe("vfr.mkv", f"{P} {T} -vf {VARIABLE} {X264} {YUV} -c:a aac"),
    Recipe("vfr.mp4", f"{P} {T} -vf {VARIABLE} {X264} {YUV} -c:a aac"),
    Recipe("vfr.webm", f"{P} -vf {VARIABLE} -c:v libvpx {VPX} {YUV}"),
    Recipe("dropped.avi", f"{P} -vf {VARIABLE} -c:v mpeg4"),
    Recipe(
        "sparse.mkv",
        f"{pictures(seconds='12')} {tone(seconds='12')} -vf {SPARSE} {X264} {YUV} -c:a aac",
    ),
    Recipe("sparse.mp4", f"{pictures(seconds='12')} -vf {SPARSE} {X264} {YUV}"),
    Recipe("60.flv", f"{pictures(rate='60')} {X264} {YUV}"),
    Recipe("one-picture.mp4", f"{P} -frames:v 1 {X264} {YUV}"),
    Recipe("one-picture.mkv", f"{P} -frames:v 1 {X264} {YUV}"),
    Recipe("one-picture.avi", f"{P} -frames:v 1 -c:v mpeg4"),
    Recipe("one-picture.ts", f"{P} -frames:v 1 {X264} {YUV}"),
    Recipe("one-picture.webm", f"{P} -frames:v 1 -c:v libvpx-vp9 {VPX} {YUV}"),
    Recipe("two-pictures.mov", f"{P} -frames:v 2 {X264} {YUV}"),
    Recipe("still-with-sound.mp4", f"-i thumb.jpg {tone(seconds='2')} {X264} {YUV} -c:a aac", ("thumb.jpg",)),
    Recipe("short.mp4", f"{pictures(seconds='0.12')} {tone(seconds='0.12')} {X264} {YUV} -c:a aac"),
    Recipe("short.ts", f"{pictures(seconds='0.12')} {tone(seconds='0.12')} {X264} {YUV} -c:a aac"),
    Recipe("short-sound.mp4", f"{pictures(seconds='2')} {tone(seconds='0.5')} {X264} {YUV} -c:a aac"),
    Recipe("long-sound.mkv", f"{P} {tone(seconds='2')} {X264} {YUV} -c:a aac"),
    Recipe(
        "late-sound.mp4",
        "-i base.mp4 -itsoffset 0.5 -i base.mp4 -map 0:v -map 1:a -c copy",
        ("base.mp4",),
        proof='"start_time": "0.478000"',
    ),
    Recipe("late-pictures.mkv", "-itsoffset 0.5 -i base.mp4 -i base.mp4 -map 0:v -map 1:a -c copy", ("base.mp4",)),
    Recipe("late-pictures.mp4", "-itsoffset 0.5 -i base.mp4 -i base.mp4 -map 0:v -map 1:a -c copy", ("base.mp4",)),
    Recipe("long-sound.mp4", f"{P} {tone(seconds='2')} {X264} {YUV} -c:a aac"),
    Recipe("edit-list.mp4", "-ss 0.6 -i base.mp4 -c copy", ("base.mp4",)),
    Recipe("edit-list.mov", "-ss 0.6 -i base.mp4 -c copy -an", ("base.mp4",)),
    Recipe("no-edit-list.mp4", f"{P} {T} {X264} -bf 2 {YUV} -c:a aac -use_editlist 0"),
    Recipe("negative-offsets.mp4", f"{P} {T} {X264} -bf 2 {YUV} -c:a aac -movflags negative_cts_offsets"),
    Recipe("fragmented.mp4", f"{P} {T} {X264} {YUV} -g 10 -c:a aac -movflags frag_keyframe+empty_moov"),
    Recipe("dash-segment.mp4", f"{P} {X264} {YUV} -g 10 -movflags dash+frag_keyframe+empty_moov+default_base_moof"),
    Recipe("index-first.mp4", f"{P} {T} {X264} {YUV} -c:a aac -movflags faststart"),
    Recipe("constant-rate.ts", f"{P} {T} {X264} {YUV} -c:a aac -muxrate 3M"),
    Recipe("discontinuity.ts", f"{P} {T} {X264} {YUV} -c:a aac -mpegts_flags initial_discontinuity"),
    Recipe("joined.ts", f"-f data -i concat:base.ts|base.ts {BYTES}", ("base.ts",)),
    Recipe("index-first.mkv", f"{P} {T} {X264} {YUV} -c:a aac -cues_to_front 1 -reserve_index_space 4096"),
    Recipe("cut-open-gop.mkv", "-ss 0.7 -i open-gop.mkv -c copy", ("open-gop.mkv",)),
    Recipe("cut-open-gop.ts", "-ss 0.7 -i open-gop.mkv -c copy", ("open-gop.mkv",)),
    Recipe(
        "offset.mkv", "-i base.mp4 -c copy -output_ts_offset 3600", ("base.mp4",), proof='"start_time": "3599.979000"'
    ),
    Recipe("offset.ts", "-i base.mp4 -c copy -output_ts_offset 3600", ("base.mp4",)),
    Recipe("offset.mp4", "-i base.mp4 -c copy -output_ts_offset 60", ("base.mp4",)),
    Recipe("offset.flv", "-i base.mp4 -c copy -output_ts_offset 60", ("base.mp4",)),
    Recipe(
        "offset-unknown.flv", "-i base.mp4 -c copy -output_ts_offset 60 -flvflags no_duration_filesize", ("base.mp4",)
    ),
    Recipe("live.webm", f"{P} {T} -c:v libvpx {VPX} {YUV} -c:a libopus -live 1"),
    Recipe("live.mkv", "-i base.mp4 -c copy -live 1", ("base.mp4",)),
    Recipe("clock-set-back.ts", f"-f data -i concat:later.ts|base.ts {BYTES}", ("later.ts", "base.ts")),
)

SOUNDS = (
    Recipe("mono-8000.avi", f"{P} {tone(rate=8000)} -c:v mpeg4 -c:a pcm_mulaw"),
    Recipe("alaw.mov", f"{P} {tone(rate=8000)} {X264} {YUV} -c:a pcm_alaw"),
    Recipe("adpcm-ms.avi", f"{P} {tone(rate=22050)} -c:v mpeg4 -c:a adpcm_ms"),
    Recipe("adpcm-ima.avi", f"{P} {tone(rate=22050)} -c:v mpeg4 -c:a adpcm_ima_wav"),
    Recipe("adpcm-ima.mov", f"{P} {tone('stereo', 44100)} {X264} {YUV} -c:a adpcm_ima_qt"),
    Recipe("pcm-big-endian.mov", f"{P} {tone('stereo')} {X264} {YUV} -c:a pcm_s16be"),
    Recipe("pcm-24-96000.mov", f"{P} {tone('stereo', 96000)} {X264} {YUV} -c:a pcm_s24be"),
    Recipe("pcm-float.mkv", f"{P} {T} {X264} {YUV} -c:a pcm_f32le"),
    Recipe("pcm-32.mkv", f"{P} {T} {X264} {YUV} -c:a pcm_s32le"),
    Recipe("pcm-bluray.m2ts", f"{P} {tone('5.1')} {X264} {YUV} -c:a pcm_bluray -f mpegts -mpegts_m2ts_mode 1"),
    Recipe("pcm-dvd.vob", f"{P} {tone('stereo')} -c:v mpeg2video -c:a pcm_dvd -f vob"),
    Recipe("aac-5.1.mp4", f"{P} {tone('5.1')} {X264} {YUV} -c:a aac"),
    Recipe("aac-7.1.mkv", f"{P} {tone('7.1')} {X264} {YUV} -c:a aac"),
    Recipe("aac-latm.ts", f"{P} {T} {X264} {YUV} -c:a aac -mpegts_flags latm"),
    Recipe("opus-5.1.mkv", f"{P} {tone('5.1')} {X264} {YUV} -c:a libopus"),
    Recipe("opus.webm", f"{P} {tone('stereo')} -c:v libvpx-vp9 {VPX} {YUV} -c:a libopus"),
    Recipe("opus.ts", f"{P} {tone('stereo')} {X264} {YUV} -c:a libopus"),
    Recipe("flac-7.1.mkv", f"{P} {tone('7.1')} {X264} {YUV} -c:a flac"),
    Recipe("flac.mp4", f"{P} {T} {X264} {YUV} -c:a flac -strict -2"),
    Recipe("alac.mov", f"{P} {tone('stereo', 44100)} {X264} {YUV} -c:a alac"),
    Recipe("ac3.mp4", f"{P} {tone('5.1')} {X264} {YUV} -c:a ac3"),
    Recipe("eac3.ts", f"{P} {tone('5.1')} {X264} {YUV} -c:a eac3"),
    Recipe("dts.mkv", f"{P} {tone('5.1')} {X264} {YUV} -c:a dca -strict -2"),
    Recipe("truehd.mkv", f"{P} {tone('stereo')} {X264} {YUV} -c:a truehd -strict -2"),
    Recipe("mp2.mkv", f"{P} {tone('stereo', 44100)} {X264} {YUV} -c:a mp2"),
    Recipe("mp3-24000.mkv", f"{P} {tone(rate=24000)} {X264} {YUV} -c:a libmp3lame"),
    Recipe("vorbis.mkv", f"{P} {tone('stereo')} {X264} {YUV} -c:a libvorbis"),
    Recipe("tta.mkv", f"{P} {T} {X264} {YUV} -c:a tta"),
    Recipe("wavpack.mkv", f"{P} {T} {X264} {YUV} -c:a wavpack"),
    Recipe("tta-then-aac.mkv", f"{P} {T} {X264} {YUV} -map 0 -map 1 -map 1 -c:a:0 tta -c:a:1 aac", sound=1),
    Recipe("many-sounds.mkv", f"{P} {tone('5.1')} {T} {X264} {YUV} -map 0 -map 1 -map 2 -c:a:0 ac3 -c:a:1 aac"),
    Recipe(
        "second-sound-is-default.mkv",
        f"{P} {T} {tone('5.1')} {X264} {YUV} -map 0 -map 1 -map 2 -c:a aac -disposition:a:0 0 -disposition:a:1 default",
        sound=1,
    ),
    Recipe("many-sounds.mp4", f"{P} {tone('stereo')} {T} {X264} {YUV} -map 0 -map 1 -map 2 -c:a aac"),
    Recipe("many-sounds.mxf", f"{P} {T} {T} -c:v mpeg2video -map 0 -map 1 -map 2 -c:a pcm_s24le"),
    Recipe("many-sounds.ts", f"{P} {tone('stereo')} {T} {X264} {YUV} -map 0 -map 1 -map 2 -c:a mp2"),
    Recipe("sound-first.mkv", f"{P} {T} {X264} {YUV} -map 1 -map 0 -c:a aac"),
)

TRACKS = (
    Recipe("rotated-90.mp4", "-i base.mp4 -c copy -metadata:s:v rotate=90", ("base.mp4",), proof='"rotation": 90'),
    Recipe("rotated-180.mov", "-i base.mp4 -c copy -metadata:s:v rotate=180", ("base.mp4",), proof='"rotation": -180'),
    Recipe("rotated-270.mp4", "-i base.mp4 -c copy -metadata:s:v rotate=270", ("base.mp4",), proof='"rotation": -90'),
    Recipe(
        "anamorphic.mp4", f"{pictures('180x144')} -vf setsar=64/45 {X264} {YUV}", proof='"sample_aspect_ratio": "64:45"'
    ),
    Recipe(
        "anamorphic.mkv", f"{pictures('180x144')} -vf setsar=64/45 {X264} {YUV}", proof='"sample_aspect_ratio": "64:45"'
    ),
    Recipe(
        "anamorphic.webm",
        f"{pictures('180x144')} -vf setsar=64/45 -c:v libvpx-vp9 {VPX} {YUV}",
        proof='"sample_aspect_ratio": "64:45"',
    ),
    Recipe(
        "anamorphic.avi", f"{pictures('180x144')} -vf setsar=64/45 -c:v mpeg4", proof='"sample_aspect_ratio": "64:45"'
    ),
    Recipe("upright.mp4", f"{pictures('120x160')} {X264} {YUV}"),
    Recipe("cropped.mp4", f"{pictures('162x122')} {T} {X264} {YUV} -c:a aac"),
    Recipe(
        "cover-art.mp4",
        "-i base.mp4 -i thumb.jpg -map 0 -map 1 -c copy -disposition:v:1 attached_pic",
        ("base.mp4", "thumb.jpg"),
        proof='"attached_pic": 1',
    ),
    Recipe(
        "cover-art.mkv",
        "-i base.mp4 -c copy -attach thumb.jpg -metadata:s:t mimetype=image/jpeg",
        ("base.mp4", "thumb.jpg"),
        proof='"attached_pic": 1',
    ),
    Recipe(
        "still-is-first.mkv",
        "-i thumb.jpg -i base.mp4 -map 0:v -map 1:v -map 1:a -c copy -disposition:v:0 0 -disposition:v:1 default",
        ("thumb.jpg", "base.mp4"),
        film=1,
    ),
    Recipe(
        "still-is-first.mp4",
        "-i thumb.jpg -i base.mp4 -map 0:v -map 1:v -map 1:a -c copy",
        ("thumb.jpg", "base.mp4"),
        film=1,
    ),
    Recipe(
        "two-films.mkv",
        f"{P} {pictures('320x180')} {X264} {YUV} -map 0 -map 1 -disposition:v:0 0 -disposition:v:1 default",
        film=1,
    ),
    Recipe("two-angles.mp4", f"{P} {pictures('96x80')} {X264} {YUV} -map 0 -map 1"),
    Recipe(
        "subtitles.mp4",
        "-i base.mp4 -i words.srt -c copy -c:s mov_text",
        ("base.mp4", "words.srt"),
        proof='"codec_name": "mov_text"',
    ),
    Recipe("subtitles.mkv", "-i base.mp4 -i words.srt -c copy -c:s ass", ("base.mp4", "words.srt")),
    Recipe("subtitles.webm", f"{P} -i words.srt -c:v libvpx {VPX} {YUV} -c:s webvtt", ("words.srt",)),
    Recipe(
        "dvd-subtitles.mkv", "-i base.mp4 -i words.srt -map 0 -c copy -map 1 -c:s subrip", ("base.mp4", "words.srt")
    ),
    Recipe("chapters.mp4", "-i base.mp4 -i chapters.txt -map_metadata 1 -c copy", ("base.mp4", "chapters.txt")),
    Recipe("chapters.mkv", "-i base.mp4 -i chapters.txt -map_metadata 1 -c copy", ("base.mp4", "chapters.txt")),
    Recipe("hint-track.mp4", "-i base.mp4 -c copy -movflags rtphint", ("base.mp4",)),
    Recipe("size-changes.ts", "-i concat:base.ts|wide.ts -c copy -copyts", ("base.ts", "wide.ts")),
    Recipe(
        "two-programs.ts",
        f"{P} {T} {X264} {YUV} -map 0 -map 1 -map 0 -map 1 -c:a mp2 -program st=0:st=1 -program st=2:st=3",
    ),
)

RARE = (
    Recipe("animation.gif", f"{P} -pix_fmt rgb8"),
    Recipe("raw.y4m", f"{P} {YUV}"),
    Recipe("uncompressed.avi", f"{P} -c:v rawvideo {YUV}"),
    Recipe("huffyuv.avi", f"{P} -c:v huffyuv"),
    Recipe("real.rm", f"{pictures('176x144')} -c:v rv10"),
    Recipe("stream.h264", f"{P} {X264} {YUV}"),
    Recipe("nut.nut", f"{P} -c:v mpeg4"),
    Recipe("animation.webp", f"{P} -c:v libwebp"),
)

RECIPES = (*PICTURES, *TIMES, *SOUNDS, *TRACKS, *RARE)
