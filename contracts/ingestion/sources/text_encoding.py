"""The encoding of a text file, found out of its bytes."""

import codecs
import re
from pathlib import Path
from typing import Final, TextIO

_BLOCK_BYTES: Final = 1 << 22
_SAMPLE_BYTES: Final = 1 << 18
_COMMON_CHARACTERS: Final = {
    # All of Korean would pass for Chinese, but hardly any Chinese for Korean: it comes first.
    "cp949": ("euc_kr", range(0xB0, 0xC9)),
    "gb18030": ("gb2312", range(0xB0, 0xD8)),
    "big5": ("big5", range(0xA4, 0xC7)),
    "shift_jis": ("shift_jis", range(0x81, 0x98)),
    "euc_jp": ("shift_jis", range(0x81, 0x98)),
}
"""Encoding -> national set, and the first bytes of its everyday characters (level 1, kana, Hangul)."""
_MIN_COMMON_SHARE: Final = 0.85
_LETTERS_BY_USE: Final = {
    **dict.fromkeys(("cp1251", "koi8_r", "cp866"), "оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфъё"),
    "cp1253": "αοιετσνηυρπκμλςίάγόέήωδχύθφβξζψώ",
    "cp1255": "יוהלארתבשמםנכחדקעפטצגזסןץךף",
    "cp1256": "اليمنوتربةعدسفهكقحجشصطخأذضزثغئىإءآؤظ",
}
"""Encoding of one byte a letter -> the letters of its language, the most common first."""
_LATIN_LETTERS: Final = {
    "cp1252": (
        *("äöüß", "àâæçéèêëîïôœùûüÿ", "áéíñóúü", "àèéìíòóùú", "ãáàâçéêíóôõú"),
        *("åäöé", "åæøéèòóôü", "ëïéèêöüáó", "áðéíóúýþæö", "áðíóúýæøö"),
        *("àèéíïòóúüç", "áéíïñóúü", "äëéèêöüß"),
    ),
    **dict.fromkeys(
        ("cp1250", "iso8859_2"),
        ("ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áäčďéíĺľňóôŕšťúýž", "áéíóöőúüű", "ăâîşţ", "čćđšž"),
    ),
    "cp1254": ("çğıöşüâîû",),
    "cp1257": ("ąčęėįšųūž", "āčēģīķļņšūž", "äõöüšž"),
    **dict.fromkeys(("cp850", "mac_roman"), ("äöüß", "àâçéèêëîïôùû", "áéíñóúü", "àèéìòù", "åäöæøé")),
}
"""Encoding of Latin letters -> the letters beyond ASCII of each language that is written in it."""
_MIN_LATIN_SCORE: Final = 0.95
_CLEARLY_BETTER: Final = 0.1
"""What an encoding must hold against the one of the West, which is by far the most common."""
_MIN_LATIN_WORDS: Final = 2
_MIN_LATIN_LETTERS: Final = 3
"""Fewer different ones beyond ASCII stand in languages of several encodings."""
_MIN_SCORE: Final = 0.5
"""Text that means nothing uses all letters alike, and some that the language does not have."""
_MAX_LATIN_SHARE: Final = 1 / 3
_MIN_FOREIGN_SHARE: Final = 0.8
"""Of the letters of words with accents few are beyond ASCII; in other scripts all are."""
MIXED: Final = "utf-8, and cp1252 where it is not"
"""Of files that were put together, or cut within a letter."""
_BYTE_ORDER_MARKS: Final = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def open_text(path: Path, encoding: str) -> TextIO:
    """Opens a text file in an encoding that `detect_encoding` names, or the user."""
    if encoding == MIXED:
        return path.open(encoding="utf-8", errors=_READ_AS_CP1252, newline="")
    return path.open(encoding=encoding, newline="")


def _decode_as_cp1252(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return error.object[error.start : error.end].decode("cp1252", errors="replace"), error.end


_READ_AS_CP1252: Final = "reaseq-cp1252"
codecs.register_error(_READ_AS_CP1252, _decode_as_cp1252)


def detect_encoding(path: Path) -> tuple[str, bool]:
    """A file's encoding, and whether it is a guess."""
    with path.open("rb") as stream:
        start = stream.read(_SAMPLE_BYTES)
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if start.startswith(mark):
            return encoding, False
    # Text of the West in UTF-16 has a zero byte beside each letter.
    for first_byte, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        if start[first_byte::2].count(0) > 0.4 * len(start):
            return encoding, True
    if is_utf8(path):
        return "utf-8", False
    sample = _sample_foreign_lines(path)
    if _is_mostly_utf8(sample):
        return MIXED, True
    latin = _guess_latin_encoding(sample)
    # A few letters beside ASCII ones may make characters of East Asia.
    if latin != "cp1252" and _measure_foreign_share(sample) < _MAX_LATIN_SHARE and _decodes(path, latin):
        return latin, True
    eastern = _guess_eastern_encoding(sample)
    if eastern and _decodes(path, eastern):
        return eastern, True
    alphabetic = _guess_alphabet(sample)
    if alphabetic and _decodes(path, alphabetic):
        return alphabetic, True
    if latin != "cp1252" and _decodes(path, latin):
        return latin, True
    # Spreadsheets of the West write this one.
    return "cp1252" if _decodes(path, "cp1252") else "latin-1", True


def _is_mostly_utf8(sample: bytes) -> bool:
    lines = sample.splitlines()
    num_sound = sum("\ufffd" not in line.decode("utf-8", errors="replace") for line in lines)
    return num_sound > len(lines) / 2


def _guess_alphabet(sample: bytes) -> str | None:
    """The encoding of a script of one byte a letter; None where it is that of Latin letters, or unclear."""
    if _measure_foreign_share(sample) < _MIN_FOREIGN_SHARE:
        return None
    letters = b"".join(_list_foreign_words(sample))
    scores = {}
    for encoding, by_use in _LETTERS_BY_USE.items():
        text = letters.decode(encoding, errors="replace")
        ranks = {letter: 1 - rank / len(by_use) for rank, letter in enumerate(by_use)}
        # Read in a wrong encoding, letters are capitals of another script.
        ranks |= {letter.upper(): 0.0 for letter in by_use if letter.upper() != letter}
        scores[encoding] = sum(ranks.get(letter, -1.0) for letter in text) / len(text)
    best = max(scores, key=lambda encoding: scores[encoding])
    return best if scores[best] >= _MIN_SCORE else None


def _list_foreign_words(sample: bytes) -> list[bytes]:
    """Words with letters beyond ASCII, each once: what stands in each row, as a currency does, would drown
    the rest."""
    return sorted({word for word in re.findall(rb"[A-Za-z\x80-\xff]{3,}", sample) if not word.isascii()})


def _measure_foreign_share(sample: bytes) -> float:
    """Share of the bytes beyond ASCII in such words."""
    letters = b"".join(_list_foreign_words(sample))
    return sum(letter > 0x7F for letter in letters) / max(len(letters), 1)


def _guess_latin_encoding(sample: bytes) -> str:
    """The encoding of Latin letters in which the words of a text have the letters of one language."""
    words = _list_foreign_words(sample)
    letters = b" ".join(words)
    num_letters = len({letter for letter in letters if letter > 0x7F})
    if len(words) < _MIN_LATIN_WORDS or num_letters < _MIN_LATIN_LETTERS:
        return "cp1252"
    scores = {}
    for encoding, alphabets in _LATIN_LETTERS.items():
        foreign = [letter for letter in letters.decode(encoding, errors="replace") if not letter.isascii()]
        scores[encoding] = max(
            sum(letter.lower() in alphabet for letter in foreign) / len(foreign) for alphabet in alphabets
        )
    best = max(scores, key=lambda encoding: scores[encoding])
    is_better = scores[best] >= max(_MIN_LATIN_SCORE, scores["cp1252"] + _CLEARLY_BETTER)
    return best if is_better else "cp1252"


def _guess_eastern_encoding(sample: bytes) -> str | None:
    """The encoding of East Asia under which a text holds common characters; None where it is none of them.

    Each of them decodes most texts of the others, but into characters that nobody writes.
    """
    shares = {}
    for encoding, (national_set, first_bytes) in _COMMON_CHARACTERS.items():
        text = sample.decode(encoding, errors="replace")
        # Signs such as a full-width currency tell nothing; what cannot be decoded does.
        foreign = [c for c in text if not c.isascii() and (c.isalpha() or c == "\ufffd")]
        # Each once: a word that stands in every row would drown the rest.
        letters = {*foreign} - {"\ufffd"}
        num_common = sum(_is_common(character, national_set, first_bytes) for character in letters)
        sound_share = 1 - foreign.count("\ufffd") / max(len(foreign), 1)
        shares[encoding] = sound_share * num_common / max(len(letters), 1)
    best = max(shares, key=lambda encoding: shares[encoding])
    return best if shares[best] >= _MIN_COMMON_SHARE else None


def _is_common(character: str, national_set: str, first_bytes: range) -> bool:
    try:
        return character.encode(national_set)[0] in first_bytes
    except UnicodeEncodeError:
        return False


def is_utf8(path: Path) -> bool:
    """Whether a whole file is UTF-8."""
    return _decodes(path, "utf-8")


def _decodes(path: Path, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    with path.open("rb") as stream:
        try:
            while block := stream.read(_BLOCK_BYTES):
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True


def _sample_foreign_lines(path: Path) -> bytes:
    """The first lines that hold a byte beyond ASCII."""
    sample = b""
    with path.open("rb") as stream:
        for line in stream:
            if not line.isascii():
                sample += line
            if len(sample) > _SAMPLE_BYTES:
                break
    return sample
