"""A title as words: normalized, in phrases, and cut into what the thing is and what it is for.

A title is a list of phrases, divided by commas, brackets and the like. In a phrase, what follows "for",
"with" or "by" names something else: the device that an accessory fits, what comes with it, who made it. What
stands before ends with the head noun, which says what the thing is.
"""

import re
import unicodedata
from functools import lru_cache
from typing import Final, NamedTuple

_WORD = re.compile(r"\w+")
_HAS_DIGIT = re.compile(r"\d")
_APOSTROPHE = re.compile("['\u2019`\u00b4]")
_PHRASE_END = re.compile(r"[;|()\[\]{}\u2013\u2014\u2022]|,(?!\d)|:\s|\.\s|\s[-/]+\s|\s-|-\s")
_WITH_SIGN = re.compile(r"(?<!\w)w/", re.IGNORECASE)
_AND_SIGN = re.compile(r"\s[&+]\s|&")
_OTHER_SCRIPT = re.compile(
    # Words of scripts that the handbook does not read. One Greek letter is a unit (ohm, micro), not a word.
    r"[\u0370-\u1cff\u1f00-\u1fff]{2,}|[\u2e80-\ud7ff\uf900-\ufaff\ufb1d-\ufdff\ufe70-\ufefc\uff66-\uffdc]"
    r"|[\U00010000-\U0001efff\U00020000-\U0003ffff]{2,}"
)
_IRREGULAR_PLURALS: Final = {
    "knives": "knife",
    "scarves": "scarf",
    "shelves": "shelf",
    "leaves": "leaf",
    "mice": "mouse",
    "women": "woman",
    "men": "man",
    "children": "child",
    "feet": "foot",
    "batteries": "battery",
    "movies": "movie",
    "cookies": "cookie",
}
_AFTER_HEAD_WORDS: Final = (
    "for with by from featuring including includes include without compatible fits fit that made designed "
    "suitable works like inspired via using under perfect ideal great"
)
_AFTER_HEAD: Final = frozenset(_AFTER_HEAD_WORDS.split())
"""What follows one of them is not the thing itself."""
_FITTING: Final = frozenset(
    ("for", "compatible", "fits", "fit", "with", "designed", "made", "suitable", "the")
)
"""What stands between a thing and what it is for."""
_MAX_OBJECT_WORDS: Final = 3
_QUANTITY_WORDS: Final = (
    "set pack pk box bag bottle roll pair lot case tub tube jar bundle piece pcs sheet bunch packet count ct "
    "carton spool assortment kit dozen collection range pot reel"
)
_QUANTITIES: Final = frozenset(_QUANTITY_WORDS.split())
"""Before "of" they say how much, not what: "set of 6 glasses"."""
_SIZES: Final = (
    "in mm cm m km ft inch yd oz lb kg g mg ml l qt gal gallon quart litre liter w v a ah mah kv hz "
    "khz mhz ghz gb tb mb kb mp awg mil gauge gsm grit x xl xxl s large small medium mini big jumbo extra "
    "long short wide thick thin slim size pack pk set kit pc pcs piece pair count ct roll bulk lot "
    "assortment assorted multipack bundle dozen capsule drop softgel double single dual triple twin half "
    "full replacement new pro plus max deluxe"
)
_COLORS: Final = (
    "black white red blue green yellow orange purple pink brown grey gray silver gold beige navy teal "
    "ivory cream clear transparent turquoise burgundy charcoal multicolor color colour matte matt glossy "
    "brushed polished chrome dark bright neon pastel rose mint khaki sage lilac striped stripe polka dot "
    "spot spotty tartan gingham paisley floral leopard marble retro vintage print pattern design finish "
    "edition"
)
_MATERIALS: Final = (
    "steel stainless metal brass copper aluminum aluminium iron zinc nickel titanium plastic wood wooden "
    "oak walnut bamboo rubber silicone nylon cotton wool linen leather polyester ceramic porcelain "
    "galvanized galvanised plated satin silk velvet fleece mesh microfiber microfibre fabric faux braided "
    "crackle abs pvc hss carbide a2"
)
_PRAISE: Final = (
    "premium professional quality heavy duty portable adjustable waterproof universal digital electric "
    "electronic automatic manual wireless cordless rechargeable foldable folding collapsible reusable wifi "
    "disposable durable lightweight compact high low super ultra strong soft best classic modern standard "
    "basic multi smart style the a an and of your our"
)
_MODIFIERS: Final = frozenset(f"{_SIZES} {_COLORS} {_MATERIALS} {_PRAISE}".split())
"""Words that say nothing of what a thing is: they may stand within a name, and behind it."""


class Phrase(NamedTuple):
    """A part of a title."""

    words: tuple[str, ...]
    """Normalized."""
    start: int
    """First word of the phrase that says what the thing is: those before say how much of it."""
    head_end: int
    """One past the last word of the first noun phrase."""
    joined_end: int
    """One past the last word of all joined noun phrases: "knife and fork" has two."""


def is_readable(title: str) -> bool:
    """Whether a title has no word in a script other than the Latin one."""
    return not _OTHER_SCRIPT.search(unicodedata.normalize("NFKC", title))


def split_words(text: str) -> list[str]:
    """Normalized words: lower case, no apostrophes, singular."""
    return [normalize_word(word) for word in _WORD.findall(_APOSTROPHE.sub("", text).casefold())]


@lru_cache(1 << 16)
def normalize_word(word: str) -> str:
    """A word in lower case, made singular."""
    if word in _IRREGULAR_PLURALS:
        return _IRREGULAR_PLURALS[word]
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("shes", "ches", "xes", "sses", "zzes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us")):
        return word[:-1]
    return word


@lru_cache(1 << 16)
def is_modifier(word: str) -> bool:
    """Whether a normalized word is a number, size, color, material or praise: not what a thing is."""
    return word in _MODIFIERS or _HAS_DIGIT.search(word) is not None


def parse_title(title: str, brand: str = "") -> list[Phrase]:
    """The phrases of a title that have words, in their order; the brand's name ends one and is left out."""
    text = unicodedata.normalize("NFKC", title)
    if brand:
        start = text.lower().find(brand.lower())
        end = start + len(brand)
        if start >= 0 and not text[end : end + 1].isalnum() and not text[start - 1 : start].isalnum():
            text = f"{text[:start]};{text[end:]}"
    text = _AND_SIGN.sub(" and ", _WITH_SIGN.sub(" with ", text))
    return [_parse_phrase(words) for part in _PHRASE_END.split(text) if (words := tuple(split_words(part)))]


def turn_phrase(phrase: Phrase) -> tuple[tuple[str, ...], int]:
    """A phrase with what it is for in front, and how many words these are: "case for iPad" is "iPad case"."""
    words = phrase.words
    place = phrase.joined_end
    while place < len(words) and words[place] in _FITTING:
        place += 1
    if place in (phrase.joined_end, len(words)):
        return (), 0
    object_words = words[place : place + _MAX_OBJECT_WORDS]
    return object_words + words[phrase.start : phrase.head_end], len(object_words)


def _parse_phrase(words: tuple[str, ...]) -> Phrase:
    start, joined_end, head_end = 0, len(words), 0
    for place, word in enumerate(words):
        if word == "of" and place and _tells_only_quantity(words[start:place]):
            start = place + 1
        elif place > start and (word in _AFTER_HEAD or word == "of" or _is_preposition_in(words, place)):
            # "Lock nut, box of 100": the box is no part of the name.
            joined_end = place - (word == "of" and words[place - 1] in _QUANTITIES)
            break
        elif place > start and word == "and" and not head_end:
            head_end = place
    return Phrase(words, start, min(head_end or joined_end, joined_end), joined_end)


def _tells_only_quantity(words: tuple[str, ...]) -> bool:
    """Whether words before an "of" say how much: "large box", but not "resistance band set"."""
    return words[-1] in _QUANTITIES and all(word in _QUANTITIES or is_modifier(word) for word in words)


def _is_preposition_in(words: tuple[str, ...], place: int) -> bool:
    """Whether an "in" is the preposition: behind a number it is the inch, and "in ear" is a name."""
    if words[place] != "in" or words[place - 1][-1].isdigit():
        return False
    return words[place + 1 : place + 2] not in (("ear",), ("one",), ("wall",), ("line",), ("dash",), ())
