"""How texts are searched and sorted, in Python and in the browser alike."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.domain.words import folded, folded_unless_ascii, sort_key

WORDS_JS = Path("ui/components/shared/words.js").resolve()
NAMES = [
    *(
        "ÜBUNG",
        "Übung",
        "U\u0308bung",
        "übung 9",
        "Übung 10",
        "ubung",
        "Zebra",
        "Червоний",
        "ЧЕРВОНИЙ",
        "червонии\u0306",
    ),
    *(
        "Straße",
        "STRASSE",
        "ΟΔΟΣ",
        "οδος",
        "ﬁlm",
        "Film",
        "İstanbul",
        "istanbul",
        "Ａｂｃ",
        "日本",
        "🎬 clip",
        "\uffee",
        "a_1",
        "A 1",
        "é",
    ),
    *("list 2", "list 10", "list 002", "7", "", "١٢", "ą", "Å", "A\u030a", "ǅ", "ẞ", "x\u0301\u0323", "x\u0323\u0301"),
]
SCRIPT = """
const { folded, sortKey, compareNames } = await import(process.argv[1]);
const names = JSON.parse(process.argv[2]);
console.log(JSON.stringify([names.map(folded), names.map(sortKey), [...names].sort(compareNames)]));
"""


@pytest.mark.parametrize(
    "same",
    [
        ("ÜBUNG", "Übung", "U\u0308bung", "übung"),
        ("Червоний", "ЧЕРВОНИЙ", "червонии\u0306"),
        ("Straße", "STRASSE", "straẞe"),
        ("ΟΔΟΣ", "οδος"),
        ("Ｆｉｌｍ", "ﬁlm", "FILM"),
    ],
)
def test_case_and_spelling_make_no_difference_in_a_search(same: tuple[str, ...]) -> None:
    assert len({folded(text) for text in same}) == 1


def test_other_letters_are_another_word() -> None:
    assert folded("Übung") != folded("Ubung")
    assert folded("И") != folded("Й")


def test_names_are_sorted_without_accents_and_by_the_value_of_numbers() -> None:
    names = ["Zebra", "Übung 10", "übung 9", "Ubung", "list 10", "List 2", "Червоний", "étude"]
    assert sorted(names, key=sort_key) == [
        *("étude", "List 2", "list 10", "Ubung", "übung 9", "Übung 10", "Zebra", "Червоний"),
    ]


def test_composed_and_decomposed_names_have_one_place() -> None:
    assert sort_key("Übung") == sort_key("U\u0308bung")


def test_only_texts_beyond_ascii_are_stored_folded() -> None:
    assert folded_unless_ascii("Cut OFF") is None
    assert folded_unless_ascii(None) is None
    assert folded_unless_ascii("GRÖSSE") == "grösse"


@given(st.text(max_size=20))
def test_folding_a_folded_text_changes_nothing(text: str) -> None:
    assert folded(folded(text)) == folded(text)


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed: apt-get install nodejs")
def test_the_browser_folds_and_sorts_as_the_server_does(tmp_path: Path) -> None:
    module = tmp_path / "words.mjs"
    module.write_text(WORDS_JS.read_text(encoding="utf-8"), encoding="utf-8")
    command = ["node", "--input-type=module", "--eval", SCRIPT, str(module), json.dumps(NAMES)]
    answer = subprocess.run(command, capture_output=True, check=True, text=True, encoding="utf-8").stdout
    folds, keys, in_order = json.loads(answer)
    assert folds == [folded(name) for name in NAMES]
    assert keys == [sort_key(name) for name in NAMES]
    assert in_order == sorted(NAMES, key=sort_key)
