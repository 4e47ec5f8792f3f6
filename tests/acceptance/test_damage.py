"""A ladder of damages: what the program says of a damaged film, beside the pictures that ffmpeg still decodes.

In the gate a part of it runs; `python -m tests.acceptance.test_damage [formats]` climbs all of it and prints each rung.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.ffmpeg import HOW_TO_GET, ffmpeg, has_sound, needs_ffmpeg, pictures, source
from tests.support.probing import said_of

pytestmark = [pytest.mark.acceptance, needs_ffmpeg]

H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "50", "-c:a", "aac")
CODECS: dict[str, Sequence[str]] = {
    "mp4": H264,
    "fast.mp4": (*H264, "-movflags", "+faststart"),
    "mov": H264,
    "mkv": H264,
    "ts": H264,
    "flv": H264,
    "webm": (
        "-c:v",
        "libvpx",
        "-deadline",
        "realtime",
        "-cpu-used",
        "8",
        "-g",
        "50",
        "-b:v",
        "500k",
        "-c:a",
        "libopus",
    ),
    "mpg": ("-c:v", "mpeg2video", "-b:v", "800k", "-c:a", "mp2"),
    "avi": ("-c:v", "mpeg4", "-b:v", "600k", "-c:a", "mp3"),
}
SHARES = (0.01, 0.05, 0.2, 0.4)
MAX_LOST, MIN_LOST = 0.02, 0.005  # what loses more is never silently complete; what loses less never fails
LADDER_SECONDS, GATE_SECONDS = 20, 10


@dataclass(frozen=True)
class Damage:
    """A share of a file that is overwritten ("zeros", "noise") or left out ("removed"), and where."""

    kind: str
    where: str
    share: float

    def of(self, content: bytes) -> bytes:
        """Return the damaged content."""
        hole = int(len(content) * self.share)
        begin = {"start": 0, "middle": (len(content) - hole) // 2, "end": len(content) - hole}[self.where]
        filling = {"zeros": bytes(hole), "noise": random.Random(1).randbytes(hole), "removed": b""}[self.kind]
        return content[:begin] + filling + content[begin + hole :]


@dataclass(frozen=True)
class Rung:
    """One damaged film: what ffmpeg counts, and what the program says.

    `is_bare`: the header is destroyed, so that ffmpeg finds pictures but neither the container nor the sound.
    """

    format: str
    damage: Damage
    lost: int
    of: int
    is_bare: bool
    failure: str
    result: dict[str, Any]

    @property
    def lost_share(self) -> float:
        """The share of the film's pictures that ffmpeg does not decode any more."""
        return self.lost / self.of

    @property
    def says_so(self) -> bool:
        """True if the program fails the film, or completes it and says that not all of it could be verified."""
        return bool(self.failure) or (self.result["verified_share"] < 1 and self.result["passed_over"] != [])

    @property
    def remark(self) -> str:
        """The rule that the program breaks; "" if none."""
        if self.lost_share > MAX_LOST and not self.says_so:
            return "SILENT"
        return "REFUSED" if self.failure and self.lost_share < MIN_LOST and not self.is_bare else ""

    def __str__(self) -> str:
        lost = f"{self.lost:4} of {self.of} lost ({self.lost_share:6.1%})"
        said = self.failure or f"completes, verified {self.result['verified_share']:.1%} {self.result['passed_over']}"
        where = f"{self.format:9} {self.damage.kind:8} {self.damage.share:4.0%} {self.damage.where:7}"
        return f"{where} {lost} {self.remark:8} {said}"


LADDER = tuple(
    Damage(kind, where, share)
    for kind in ("zeros", "noise", "removed")
    for where in ("start", "middle", "end")
    for share in SHARES
)
IN_THE_GATE = (
    Damage("noise", "middle", 0.01),
    Damage("zeros", "middle", 0.05),
    Damage("noise", "middle", 0.4),
    Damage("zeros", "end", 0.05),
    Damage("removed", "end", 0.2),
)


def climb(home: Path, formats: Iterable[str], damages: Sequence[Damage], seconds: int) -> Iterator[Rung]:
    """Make a film of each format, damage it in each way, and yield what is counted and said."""
    for name in formats:
        sound = home / f"sound.{name}"
        ffmpeg(*source(seconds), *CODECS[name], sound)
        of, content = pictures(sound), sound.read_bytes()
        damaged = home / f"damaged.{name}"
        for damage in damages:
            damaged.write_bytes(damage.of(content))
            failure, result = said_of(damaged)
            lost = max(0, of - pictures(damaged))
            is_bare = lost < MIN_LOST * of and not has_sound(damaged)
            yield Rung(name, damage, lost, of, is_bare, failure, result)


@pytest.fixture(scope="module")
def rungs(tmp_path_factory: pytest.TempPathFactory) -> list[Rung]:
    """Return the rungs of the gate."""
    return list(climb(tmp_path_factory.mktemp("ladder"), CODECS, IN_THE_GATE, GATE_SECONDS))


def test_no_film_that_lost_pictures_is_complete_without_a_word(rungs: list[Rung]) -> None:
    lossy = [rung for rung in rungs if rung.lost_share > MAX_LOST]
    assert len(lossy) >= len(rungs) // 2
    assert [str(rung) for rung in lossy if not rung.says_so] == []


def test_no_film_that_lost_nearly_nothing_is_refused(rungs: list[Rung]) -> None:
    assert [str(rung) for rung in rungs if rung.remark == "REFUSED"] == []


def test_each_hole_in_the_middle_is_found_and_its_place_is_named(rungs: list[Rung]) -> None:
    large = [rung for rung in rungs if rung.damage == Damage("noise", "middle", 0.4)]
    assert len(large) == len(CODECS)
    for rung in large:
        assert rung.failure.startswith("File is damaged: "), rung
        assert " of its pictures (" in rung.failure, rung
        assert " from 0:0" in rung.failure, rung


@pytest.mark.parametrize("name", CODECS)
def test_an_undamaged_film_is_sound(tmp_path: Path, name: str) -> None:
    sound = tmp_path / f"sound.{name}"
    ffmpeg(*source(3), *CODECS[name], sound)
    failure, result = said_of(sound)
    assert failure == ""
    assert (result["verified_share"], result["passed_over"]) == (1.0, [])
    assert result["video"]["frames"] == pictures(sound) == 75


def main(*formats: str) -> None:
    """Print each rung of the ladder; exit with 1 if the program breaks a rule on one."""
    if needs_ffmpeg.args[0]:
        sys.exit(HOW_TO_GET)
    broken = count = 0
    with tempfile.TemporaryDirectory() as home:
        for rung in climb(Path(home), formats or CODECS, LADDER, LADDER_SECONDS):
            print(rung, flush=True)
            broken += rung.remark != ""
            count += 1
    print(f"{count} damaged films; rules broken: {broken}")
    sys.exit(broken > 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
