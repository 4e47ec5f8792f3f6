"""The facts that `probe` finds, side by side with those of Debian's ffprobe, for clips of many kinds and origins.

Every fact is equal, or `EXPLAINED` has the value that is right here, and why. The gate looks at every fourth file;
`python -m tests.acceptance.test_against_ffprobe [part of a name]` looks at all, prints both sides of each, and exits
with 1 at a difference without an explanation.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.clips import DEBIAN, FOREIGN, debian_clips, foreign_clips
from tests.support.ffprobe import Facts, facts_of, ffprobe
from tests.support.probing import said_of
from tests.support.recipes import RECIPES, Recipe, make

MADE = {recipe.name: recipe for recipe in RECIPES}
NAMES = [*MADE, *(name for names in (*FOREIGN.values(), *DEBIAN.values()) for name in names)]
IN_THE_GATE = NAMES[::4]
REFUSED = "refused"
NO_AVERAGE = "ffprobe has no average for this format; the pictures come 25 a second"
NO_LENGTH = "written live, so the file has no length; counted here"
MILLISECONDS = "the file's clock rounds milliseconds up; its tracks end there"
LAST_SOUND = "no length in the file; ffprobe's estimate leaves out the last packet of sound"
TWICE = "the file's length counts the time before its first picture twice"
SECOND_FILM = "Another track of pictures (h264) was not looked at."
NOT_READ = "A track of sound ({}) was not decoded: its codec is not one that is read here, or it is damaged."
SAID = "ffprobe decodes every track"
CUT_SOUND = "its sound begins, and ends, in the middle of a packet"
RARE_FORMAT = "a format of editors and scripts, not of films that are passed on"
RARE_CODEC = "a decoder that is not opened here, because each one more could be attacked"
UNKNOWN = "Not a video: its format is not supported, or its beginning is damaged."
# ffprobe says nothing of damage; none of the files has any
WHOLE: Facts = {"bad packets": 0, "verified": 1.0, "said": ""}
Value = str | int | float | None


@dataclass(frozen=True)
class Explained:
    """A fact of a file that differs from ffprobe's: the right value here, and why it is right."""

    name: str
    fact: str
    ours: Value
    why: str


EXPLAINED = {
    (line.name, line.fact): line
    for line in (
        Explained("av1.ivf", "frames/s", 25.0, NO_AVERAGE),
        Explained("vp9.ivf", "frames/s", 25.0, NO_AVERAGE),
        Explained("theora-silent.ogv", "frames/s", 25.0, NO_AVERAGE),
        Explained("Effet_force_magnetique.ogv", "frames/s", 25.0, NO_AVERAGE),
        Explained("one-picture.ts", "frames/s", 25.0, NO_AVERAGE),
        Explained("late-sound.mp4", "seconds", 1.499, MILLISECONDS),
        Explained("adpcm-ima.mov", "seconds", 1.001, MILLISECONDS),
        Explained("ac3.mp4", "seconds", 1.018, MILLISECONDS),
        Explained("hevc.ts", "seconds", 1.024, LAST_SOUND),
        Explained("short.ts", "seconds", 0.149, LAST_SOUND),
        Explained("constant-rate.ts", "seconds", 1.024, LAST_SOUND),
        Explained("discontinuity.ts", "seconds", 1.024, LAST_SOUND),
        Explained("offset.ts", "seconds", 1.024, LAST_SOUND),
        Explained("aac-latm.ts", "seconds", 1.024, LAST_SOUND),
        Explained("opus.ts", "seconds", 1.02, LAST_SOUND),
        Explained("eac3.ts", "seconds", 1.024, LAST_SOUND),
        Explained("pcm-dvd.vob", "seconds", 1.003, LAST_SOUND),
        Explained("mpeg1.mpg", "seconds", 1.01, "ffprobe's estimate is of the sound, which ends before the pictures"),
        Explained("size-changes.ts", "seconds", 2.0, "ffprobe's estimate is of the pictures; the sound begins before"),
        Explained("clock-set-back.ts", "seconds", 3.024, "for ffprobe, a clock that is set back runs on for 26 h"),
        Explained("joined.ts", "seconds", 2.024, "its clock goes back by 1 s; the pictures follow without a gap"),
        Explained("wmv.wmv", "seconds", 1.043, TWICE),
        Explained("wmv1.asf", "seconds", 1.046, TWICE),
        Explained("offset.mkv", "seconds", 1.021, "the file's length is the end on a clock that begins at 3600 s"),
        Explained("offset-unknown.flv", "seconds", 0.981, "ffprobe's estimate is the time stamp of the last picture"),
        Explained("chapters.mp4", "seconds", 1.0, "its chapters end after the film"),
        Explained("two-films.mkv", "said", SECOND_FILM, SAID),
        Explained("two-angles.mp4", "said", SECOND_FILM, SAID),
        Explained("two-programs.ts", "said", SECOND_FILM, SAID),
        Explained("tta.mkv", "said", NOT_READ.format("tta"), RARE_CODEC),
        Explained("wavpack.mkv", "said", NOT_READ.format("wavpack"), RARE_CODEC),
        Explained("tta-then-aac.mkv", "said", NOT_READ.format("tta"), RARE_CODEC),
        Explained("cut-open-gop.ts", "verified", 0.9744, "its first picture refers to one that was cut away"),
        Explained("cut-open-gop.ts", "said", "The first 0.04 s cannot be shown.", "as above"),
        Explained(
            "Megamind.avi",
            "said",
            "0.3 % of its sound (0.03 s) cannot be read from 0:00 to 0:01. "
            "Another 0.03 s of its sound are damaged from 0:11 to 0:12.",
            "ffprobe does not say what it cannot decode",
        ),
        Explained("Megamind.avi", "bad packets", 1, CUT_SOUND),
        Explained("Megamind.avi", "verified", 0.9943, CUT_SOUND),
        Explained("balle-jbart.mp4", "seconds", 10.2, "its edit list leaves out the first 22 ms of the sound"),
        Explained("offset.mp4", "seconds", 1.022, "ffprobe adds the 60 s before the film begins"),
        Explained("live.webm", "seconds", 1.007, NO_LENGTH),
        Explained("live.mkv", "seconds", 1.023, NO_LENGTH),
        Explained("box.mp4", "sound", "mp3", "the header says mp3; ffprobe sees while decoding that it is layer 2"),
        Explained("animation.gif", REFUSED, UNKNOWN, "a GIF is a picture here, not a film"),
        Explained("animation.webp", REFUSED, UNKNOWN, "a WebP is a picture here, not a film"),
        Explained("raw.y4m", REFUSED, UNKNOWN, RARE_FORMAT),
        Explained("nut.nut", REFUSED, UNKNOWN, RARE_FORMAT),
        Explained("stream.h264", REFUSED, UNKNOWN, "a film without a container has no clock"),
        Explained("uncompressed.avi", REFUSED, "Its video codec (rawvideo) is not supported.", RARE_CODEC),
        Explained("huffyuv.avi", REFUSED, "Its video codec (huffyuv) is not supported.", RARE_CODEC),
        Explained("real.rm", REFUSED, "Its video codec (rv10) is not supported.", RARE_CODEC),
        Explained("tree.avi", REFUSED, "Its video codec (cinepak) is not supported.", RARE_CODEC),
    )
}


@dataclass(frozen=True)
class Comparison:
    """The facts of one file as found here and by ffprobe."""

    name: str
    ours: Facts
    theirs: Facts

    @property
    def different(self) -> dict[str, tuple[Value, Value]]:
        """The facts that are not equal, with both values. A file that is refused here has only that fact."""
        names = [REFUSED] if REFUSED in self.ours else list(dict.fromkeys((*self.ours, *self.theirs)))
        pairs = {fact: (self.ours.get(fact), self.theirs.get(fact)) for fact in names}
        return {fact: pair for fact, pair in pairs.items() if not _is_equal(fact, *pair)}

    @property
    def unexplained(self) -> dict[str, tuple[Value, Value]]:
        """Those of them whose value here is not the explained one."""
        return {
            fact: pair
            for fact, pair in self.different.items()
            if (self.name, fact) not in EXPLAINED or EXPLAINED[self.name, fact].ours != pair[0]
        }

    @property
    def verdict(self) -> str:
        """What to say of the comparison, in one line."""
        if self.unexplained:
            return f"DIFFERENT: {', '.join(self.unexplained)}"
        return "; ".join(dict.fromkeys(EXPLAINED[self.name, fact].why for fact in self.different)) or "equal"


def _is_equal(fact: str, ours: Value, theirs: Value) -> bool:
    if fact == "container":
        return str(ours) in str(theirs).split(",")  # ffprobe names all formats of the family
    return ours == theirs


def compare(name: str, directory: Path) -> Comparison:
    """Make or unpack the clip with this name, and look at it from both sides."""
    recipe = MADE.get(name, Recipe(name, ""))
    path = make(recipe, directory) if name in MADE else _made_by_others(name)
    answer = ffprobe(path)
    assert recipe.proof in answer, f"This clip is not what its name says: {recipe.command}"
    return Comparison(name, _found_here(path), facts_of(answer, recipe.film, recipe.sound) | WHOLE)


def _made_by_others(name: str) -> Path:
    clips = foreign_clips() if any(name in names for names in FOREIGN.values()) else debian_clips()
    return next(clip for clip in clips if clip.name == name)


def _found_here(path: Path) -> Facts:
    """Return the facts that `probe` finds, under the names that ffprobe's have."""
    failure, found = said_of(path)
    if failure:
        return {REFUSED: failure}
    video, sound = found["video"], found["audio"]
    facts: Facts = {
        "container": found["container"],
        "pixels": f"{video['width']} × {video['height']}",
        "codec": video["codec"],
        "frames/s": video["frame_rate"],
        "frames": video["frames"],
        "seconds": found["duration_seconds"],
        "sound": sound and sound["codec"],
    }
    facts |= {"channels": sound["channels"], "Hz": sound["sample_rate"]} if sound else {}
    said = " ".join(found["passed_over"])
    return facts | {"bad packets": found["bad_packets"], "verified": found["verified_share"], "said": said}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of all clips, so that those that others need are made once."""
    return tmp_path_factory.mktemp("clips")


@pytest.mark.parametrize("name", IN_THE_GATE)
def test_the_facts_are_those_that_ffprobe_finds(name: str, directory: Path) -> None:
    comparison = compare(name, directory)
    assert comparison.unexplained == {}, MADE[name].command if name in MADE else "made by others"


def test_each_explanation_is_of_a_file_that_is_compared() -> None:
    assert {name for name, _ in EXPLAINED} <= set(NAMES)


def test_a_difference_without_an_explanation_is_noticed() -> None:
    facts: Facts = {"container": "mp4", "frames": 25, "seconds": 1.0}
    assert Comparison("a.mp4", facts, facts | {"container": "mov,mp4"}).unexplained == {}
    assert Comparison("a.mp4", facts, facts | {"frames": 26}).unexplained == {"frames": (25, 26)}
    assert Comparison("live.mkv", facts, facts | {"seconds": None}).unexplained == {"seconds": (1.0, None)}
    assert Comparison("a.mp4", {REFUSED: "No."}, facts).unexplained == {REFUSED: ("No.", None)}


def main(part: str = "") -> None:
    """Print both sides of each file whose name has this part, and exit with 1 at an unexplained difference."""
    unexplained = 0
    with tempfile.TemporaryDirectory() as directory:
        for name in (name for name in NAMES if part in name):
            try:
                comparison = compare(name, Path(directory))
            except pytest.skip.Exception as missing:
                sys.exit(f"{name} {missing}")
            unexplained += bool(comparison.unexplained)
            _print(comparison)
    print(f"{unexplained} files with an unexplained difference")
    sys.exit(unexplained > 0)


def _print(comparison: Comparison) -> None:
    theirs = "the same" if not comparison.different else _words(comparison.theirs)
    print(f"{comparison.name:28} ours     {_words(comparison.ours)}\n{'':28} ffprobe  {theirs}")
    print(f"{'':28} verdict  {comparison.verdict}", flush=True)


def _words(facts: Facts) -> str:
    return ", ".join(f"{fact} {value}" for fact, value in facts.items())


if __name__ == "__main__":
    main(*sys.argv[1:])
