"""Letters of all scripts: one form for what is the same letter, and words where no space divides them.

It imports nothing heavy: the gateway splits queries by it.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final

_UNSPACED: Final = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ece\u0edc-\u0edf"  # Thai, Lao
    "\u0f40-\u0fbc\u1000-\u103f\u1050-\u109f\ua9e0-\ua9ef\uaa60-\uaa7f"  # Tibetan, Myanmar
    "\u1780-\u17d3\u1950-\u1974\u1980-\u19c9\u1a20-\u1a7c\u1b05-\u1b4c\ua984-\ua9c0"  # Khmer, Tai, Bali, Java
    "\u3005-\u3007\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"  # Japanese
    "\u3105-\u312f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese
    "\ua000-\ua48c\u1100-\u11ff\uac00-\ud7af"  # Yi, Korean
)
"""Letters of scripts that run words together: always, or as Korean does with particles and compounds."""
_EMOJI: Final = "\u2190-\u21ff\u2300-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff"
_LAST_CHECKED: Final = 0x20000
"""No script in use has marks or digits beyond."""


def _join_ranges(codes: Iterable[int]) -> str:
    """Characters as the inside of a character class."""
    ranges: list[list[int]] = []
    for code in codes:
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)


_CATEGORIES: Final = {code: unicodedata.category(chr(code)) for code in range(0x80, _LAST_CHECKED)}
_OPTIONAL: Final = (
    "\u00ad\u034f\u0591-\u05bd\u05bf-\u05c7\u0640\u064b-\u065f\u0670"
    "\u200b-\u200f\u2060\u20e3\ufe00-\ufe0f\ufeff"
)
"""What writers leave out or put in as they like: joiners, vowel points of Arabic and Hebrew, the Arabic
stretch, selectors of a glyph."""
MARKS: Final = _join_ranges(code for code, category in _CATEGORIES.items() if category[0] == "M")
"""Combining characters: they belong to the letter before them."""
_DIGITS: Final = {
    code: str(unicodedata.digit(chr(code))) for code, category in _CATEGORIES.items() if category == "Nd"
}
_DROPPED_SYMBOLS: Final = re.compile("[\u2120\u2122\u00ae\u00a9\u2117]")
"""Signs of a right: letters to NFKC, but no part of the word before them."""
_SYMBOLS: Final = re.compile(
    "[\u00bc-\u00be\u2150-\u215f\u2189"
    + _join_ranges(code for code, category in _CATEGORIES.items() if category == "So")
    + "]"
)
"""Fractions, and signs that stand for words (a square meter): words of their own."""
_WIDTHS: Final = re.compile("[\u3000\uff01-\uffef]+")
_OPTIONAL_PATTERN: Final = re.compile(f"[{_OPTIONAL}]+")
_WORD: Final = re.compile(rf"[{_UNSPACED}][{MARKS}]*|[^\W{_UNSPACED}]+(?:[{MARKS}]+[^\W{_UNSPACED}]*)*")
_ASCII_WORD: Final = re.compile(r"\w+")
_EMOJI_PATTERN: Final = re.compile(f"[{_EMOJI}]")
_PIECE: Final = re.compile(rf"((?:[{_UNSPACED}][{MARKS}]*)+)|[^{_UNSPACED}]+")
_CLUSTER: Final = re.compile(rf"[{_UNSPACED}][{MARKS}]*")


def split_words(text: str) -> list[str]:
    """Splits a text into case-folded words in one form; of scripts without spaces each letter is a word.

    So a quotation from the midst of a Chinese title is a run of whole words, as an English one is. Full-width
    and half-width letters are the same, and so are the digits of all scripts, however a letter is composed.
    """
    if text.isascii():
        return _ASCII_WORD.findall(text.casefold())
    # The Turkish capital keeps its dot as a mark when it is folded.
    return _WORD.findall(normalize_letters(text).casefold().replace("i\u0307", "i"))


def normalize_letters(text: str) -> str:
    """One form (NFKC) for what is the same letter, figure or sign; what may be left out is left out."""
    if text.isascii():
        return text
    text = _SYMBOLS.sub(lambda match: f" {match.group()} ", _DROPPED_SYMBOLS.sub(" ", text))
    return _OPTIONAL_PATTERN.sub("", unicodedata.normalize("NFKC", text)).translate(_DIGITS)


def find_emoji(text: str) -> list[str]:
    """All emoji and other pictures of a text."""
    return _EMOJI_PATTERN.findall(text)


def fold_widths(text: str) -> str:
    """Lower-case text with letters of one width, digits of one script, and marks in their letters (NFC)."""
    if text.isascii():
        return text.lower()
    text = _WIDTHS.sub(lambda match: unicodedata.normalize("NFKC", match.group()), text)
    text = unicodedata.normalize("NFC", text)
    return _OPTIONAL_PATTERN.sub("", text).translate(_DIGITS).lower()


def measure_other_scripts(texts: Iterable[str]) -> float:
    """The share of texts most of whose letters are not Latin."""
    num_texts = num_others = 0
    for text in texts:
        num_texts += 1
        letters = [] if text.isascii() else [letter for letter in text if letter.isalpha()]
        num_others += 2 * sum(map(_is_latin, letters)) < len(letters)
    return num_others / num_texts if num_texts else 0.0


def _is_latin(letter: str) -> bool:
    return letter < "\u0250" or "\u1e00" <= letter <= "\u1eff" or "\uff21" <= letter <= "\uff5a"


def split_unspaced_runs(words: Iterable[str]) -> Iterator[str]:
    """Splits words where scripts meet, and runs of scripts without spaces into overlapping pairs of letters.

    Pairs are what search engines index of such scripts: no dictionary is needed, and a part of a title still
    meets the whole. A single letter stays as it is.
    """
    for word in words:
        if word.isascii() or ":" in word:  # a brand or a category is one word, however long it is
            yield word
            continue
        for piece in _PIECE.finditer(word):
            if piece.group(1) is None:
                if stripped := piece.group().strip("-."):
                    yield stripped
                continue
            letters = _CLUSTER.findall(piece.group())
            yield from map("".join, pairwise(letters)) if len(letters) > 1 else letters
