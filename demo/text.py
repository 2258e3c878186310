# SPDX-License-Identifier: Apache-2.0
"""Plain text -> sentences, one a segment.

Always the same sentences for the same text. A blank line ends a sentence (so a heading is one);
otherwise a full stop, a question or an exclamation mark does, where what follows looks like a
beginning. The number in front of a heading or a clause ("0. Definitions.", "b) Convey") ends none.
A sentence of more than BREATH characters is read in several breaths, each a segment of its own, cut
at the semicolon, colon or comma nearest to its middle.
"""
import re
from pathlib import Path

LICENSES = Path("/usr/share/common-licenses")
DEFAULT_TEXT = tuple(str(LICENSES / name) for name in ("GPL-3", "GFDL-1.3", "LGPL-2.1"))
BREATH = 220

_BLANK = re.compile(r"\n[ \t\f\v]*\n|\f")
_END = re.compile(r"""[.!?]+["')\]]*\s+(?=["'(\[<]?[A-Z0-9])""")
_ABBREVIATION = re.compile(
    r"""(?:\b(?:Inc|Ltd|Co|Mr|Mrs|Ms|Dr|St|No|vs|etc|e\.g|i\.e|cf|[A-Z])|^\(?[0-9a-z]{1,3})\.$""")
_PAUSE = re.compile(r"""[;:,]["')\]]*\s+""")
# What nobody can pronounce, such as a rule of dashes, is no sentence.
_SPEAKABLE = re.compile(r"\w")


class TextError(Exception):
    """What failed, on what, what to do."""


def _sentences(paragraph):
    start = 0
    for end in _END.finditer(paragraph):
        candidate = paragraph[start:end.end()].rstrip()
        if not _ABBREVIATION.search(candidate):
            yield candidate
            start = end.end()
    yield paragraph[start:]


def _breaths(sentence):
    if len(sentence) <= BREATH:
        return [sentence]
    # A pause next to either end would only make a stump.
    pauses = [pause.end() for pause in _PAUSE.finditer(sentence)
              if len(sentence) // 6 < pause.end() < len(sentence) * 5 // 6]
    if not pauses:
        return [sentence]
    cut = min(pauses, key=lambda place: abs(place - len(sentence) // 2))
    return _breaths(sentence[:cut].rstrip()) + _breaths(sentence[cut:])


def split(text):
    """The segments of one text, in order."""
    segments = []
    for paragraph in _BLANK.split(text.replace("\r\n", "\n")):
        for sentence in _sentences(" ".join(paragraph.split())):
            segments += _breaths(sentence)
    return [segment for segment in segments if _SPEAKABLE.search(segment)]


def read(paths):
    """The segments of several files, one file after the other."""
    segments = []
    for path in paths:
        try:
            segments += split(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise TextError(f"{path}: {error.strerror}; name a text by TEXT='path …'") from None
        except UnicodeDecodeError:
            raise TextError(f"{path}: not UTF-8; convert it with iconv") from None
    if not segments:
        raise TextError(f"{' '.join(map(str, paths))}: nothing to read aloud in it")
    return segments
