"""The facts that a processor found out about a video, in words."""

from __future__ import annotations

from ui.video_facts import facts, summary

PROBED = {
    "container": "mp4",
    "duration_seconds": 62.4,
    "bit_rate": 4_250_000,
    "size_bytes": 33_150_000,
    "video": {"codec": "h264", "width": 1280, "height": 720, "frame_rate": 29.97, "frames": 1870},
    "audio": {"codec": "aac", "channels": 2, "sample_rate": 48_000},
    "poster": "poster.jpg",
    "packets": 3000,
    "bad_packets": 0,
}


def test_a_probed_video_has_a_summary_and_a_table() -> None:
    assert summary(PROBED) == "1280 × 720 · h264 + aac · 1 min 2 s"
    assert dict(facts(PROBED)) == {
        "Resolution": "1280 × 720",
        "Duration": "1 min 2 s",
        "Video": "h264, 29.97 frames/s, 1,870 frames",
        "Audio": "aac, 2 channels, 48,000 Hz",
        "Container": "mp4",
        "Bit rate": "4.2 Mbit/s",
        "Size": "33.1 MB",
    }


def test_a_silent_and_damaged_video_is_described_as_such() -> None:
    shown = dict(facts({**PROBED, "audio": None, "bad_packets": 30}))
    assert shown["Audio"] == "none"
    assert shown["Damage"] == "30 of 3,000 packets could not be decoded"


def shown_of(**video: object) -> dict[str, str]:
    return dict(facts({**PROBED, "video": {"codec": "h264", "width": 1280, "height": 720, **video}}))


def test_a_turned_film_is_shown_with_the_size_at_which_it_is_seen() -> None:
    turned = shown_of(width=1920, height=1080, display_width=1080, display_height=1920)
    assert turned["Resolution"] == "1080 × 1920"


def test_a_film_whose_pixels_are_not_square_is_shown_with_both_sizes() -> None:
    wide = shown_of(width=720, height=576, display_width=1024, display_height=576)
    assert wide["Resolution"] == "720 × 576, shown as 1024 × 576"
    upright = shown_of(width=720, height=576, display_width=576, display_height=1024)
    assert upright["Resolution"] == "720 × 576, shown as 576 × 1024"


def test_a_difference_that_nobody_sees_is_not_shown() -> None:
    assert shown_of(width=854, height=480, display_width=853, display_height=480)["Resolution"] == "854 × 480"
    assert shown_of(display_width=1280, display_height=720)["Resolution"] == "1280 × 720"


def test_sound_that_was_not_read_is_named_as_such() -> None:
    unread = {"codec": "tta", "channels": 1, "sample_rate": 48_000, "decoded": False}
    assert dict(facts({**PROBED, "audio": unread}))["Audio"] == "not read (tta)"
    read = {**unread, "codec": "aac", "decoded": True}
    assert dict(facts({**PROBED, "audio": read}))["Audio"] == "aac, 1 channel, 48,000 Hz"


def test_one_picture_is_one_frame_and_has_a_length() -> None:
    one = {**PROBED, "duration_seconds": 0.04, "video": {"codec": "h264", "frame_rate": 1.0, "frames": 1}}
    assert dict(facts(one))["Video"] == "h264, 1 frame/s, 1 frame"
    assert dict(facts(one))["Duration"] == "0.04 s"
    assert dict(facts({**one, "duration_seconds": 0.001}))["Duration"] == "< 0.01 s"
    assert dict(facts({**one, "duration_seconds": 0.097}))["Duration"] == "0.1 s"


def test_a_video_says_how_much_of_it_was_verified() -> None:
    sentences = ["The first 0.08 s cannot be shown.", "A track of sound (tta) was not decoded."]
    partly = {**PROBED, "verified_share": 0.9928, "passed_over": sentences}
    assert summary(partly) == "1280 × 720 · h264 + aac · 1 min 2 s · 99.2 % verified"
    assert dict(facts(partly))["Verified"] == "99.2 %"
    assert dict(facts(partly))["Passed over"] == " ".join(sentences)


def test_a_sound_video_has_nothing_passed_over() -> None:
    sound = {**PROBED, "verified_share": 1.0, "passed_over": []}
    assert summary(sound) == summary(PROBED)
    assert dict(facts(sound))["Verified"] == "100 %"
    assert "Passed over" not in dict(facts(sound))


def test_values_of_another_type_are_skipped() -> None:
    odd = {"video": "h264", "audio": ["aac"], "duration_seconds": "long", "size_bytes": 900, "container": 7}
    odd |= {"verified_share": "much", "passed_over": "nothing"}
    assert (summary(odd), facts(odd)) == ("", [("Size", "900 bytes")])
