"""Which failures have the same cause: sentences that differ only in what they name are one cause."""

from __future__ import annotations

import re
from hashlib import sha256

LENGTH = 12  # hexadecimal digits of a fingerprint
LOOKED_AT = 2000  # characters of an error; what differs only behind them is one cause
NAME = "…"
QUOTED = re.compile(r'"[^"]*"|“[^”]*”|«[^»]*»|`[^`]*`|(?<!\w)\'[^\']*\'(?!\w)')
FILE_NAME = re.compile(r".+\.(?=[0-9]*[a-z])[a-z0-9]{1,5}", re.IGNORECASE)
IDENTIFIER = re.compile(r"(?=[a-z-]*[0-9])(?=[0-9-]*[a-z])(?:0x)?[0-9a-f]{8,}(?:-[0-9a-f]{4,12}){0,4}", re.IGNORECASE)
# a number that follows one of these words is a name: HTTP 404 is another cause than HTTP 500
CODE = re.compile(r"\b(http|status|code|errno|error)[\s:=(]{0,2}(-?\d{1,5})(?!\d|\.\d)", re.IGNORECASE)
QUANTITY = re.compile(r"[-+]?\d+(?:[.,:]\d+)*(?:[mun]?s|m|h|x|fps|[kmg]i?b)?", re.IGNORECASE)
NUMBER = re.compile(r"(?<![^\W_])[-+]?\d+(?:[.,:]\d+)*")
LIST = re.compile(rf"{NAME}(?:(?:,| and|, and| or) {NAME}(?: more)?)+")
LEADING, TRAILING = "([{<=", ")]}>.,;:!?"
# a video that is called like one of these keeps its name: the word is rather the sentence's own
OWN_WORDS = frozenset(
    re.findall(
        r"\S+",
        """
    a address an and another answered anything are as at audio be because been before begin beginning begins broke
    but by called cannot child closed code codec codecs connection could crashed create cut damaged dashboard
    dashboard_media_dir dashboard_video_memory_mib dashboard_video_timeout_seconds data decode decoded decoder
    decoding descriptors details device did directory disk does down empty end ended ends errno error exist exit
    failed fetch file files filled find first followed for format found from full gone had has have header http i id
    image in index input inside is it its job keep killed kind largest last leads least left limit link links log
    longer machine made make may media memory mib missing more most name named names needs neither no nor not
    nothing number of off on one only open opened or other others out output outside own packets page permission
    picture place playlist pressed probably problem process processed processor processors put ran reached read
    read-only regular report reset result room run running s saved say says second seconds send sent server set
    should signal small so sound space start started starts status stopped such system take taken task text than
    that the their them themselves then there these they this through time times to too took traceback try under
    until up us used video videos was web were what when where which while will with within without work write
    writes written wrong you your zeros
    """,
    )
)


def fingerprint(error: str, video_id: str) -> str:
    """12 hexadecimal digits, the same for every video that failed for this cause.

    What names the video, files, paths, addresses, quantities and quoted things does not count; codes such as
    `HTTP 404` or `exit status 3` do. A bare word is taken for the video's name unless it is one of `OWN_WORDS`.

    >>> fingerprint('"a.mp4" is not a regular file.', "a") == fingerprint('"b/c [x].mkv" is not a regular file.', "x")
    True
    """
    return sha256(_shape(error[:LOOKED_AT], video_id).encode("utf-8", "replace")).hexdigest()[:LENGTH]


def _shape(error: str, video_id: str) -> str:
    """The sentence with `…` for what it names."""
    text = QUOTED.sub(NAME, error)
    if not NUMBER.fullmatch(video_id) and video_id.casefold() not in OWN_WORDS:
        text = re.sub(rf"(?<![\w-]){re.escape(video_id)}(?![\w-])", NAME, text)
    words = " ".join(_without_name(word) for word in text.split())
    codes_kept = CODE.sub(lambda found: f"{found[1]} {_spelled(found[2])}", words)
    return LIST.sub(NAME, NUMBER.sub(NAME, codes_kept)).casefold()


def _without_name(word: str) -> str:
    """The word, or `…` in its punctuation when it is a path, an address, a file's name or an identifier."""
    core = word.lstrip(LEADING).rstrip(TRAILING)
    if not core or QUANTITY.fullmatch(core):
        return word
    is_name = "/" in core or "\\" in core or NAME in core or FILE_NAME.fullmatch(core) or IDENTIFIER.fullmatch(core)
    return word.replace(core, NAME, 1) if is_name else word


def _spelled(code: str) -> str:
    """The code in letters, which are not taken for a number."""
    return "".join("abcdefghij-"["0123456789-".index(digit)] for digit in code)
