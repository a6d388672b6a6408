"""What an agent reads of a product: the catalogue's text, bounded and cleaned, without id or price.

Without the id, equal products share one answer; without the price, a price change asks nothing anew.
"""

import re
import unicodedata

from contracts.digests import digest_value
from models.knowledge.knowledge_schema import StrictModel
from models.knowledge.writing_systems import find_emoji, split_words

_MAX_TITLE_CHARS = 400
_MAX_NAME_CHARS = 120
_MAX_DESCRIPTION_CHARS = 1000
"""What decides about a product stands early in its description; the rest mostly costs tokens."""
_LETTER = r"[^\x00-\x7f\u200c\u200d]"
_CONTROL = re.compile(
    r"(?:[\x00-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    r"\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
    rf"|(?<!{_LETTER})[\u200c\u200d]|[\u200c\u200d](?!{_LETTER}))+"
)
"""Control characters, marks of direction, and what only a model reads (the last are the "tag" letters). A
single joiner between letters stays: Persian, the scripts of India and emoji are written with it."""
_SPACES = re.compile(r"\s+")


class Product(StrictModel):
    """A product as an agent sees it."""

    title: str
    brand: str = ""
    category: str = ""
    description: str = ""

    @property
    def digest(self) -> str:
        """Digest (16 hex digits) of all that was read: `source_digest` of the KNOWLEDGE table."""
        return digest_value(self.model_dump())

    @property
    def text(self) -> str:
        """Everything in one string, the most telling first."""
        return ". ".join(
            field_text
            for field_text in (self.title, self.brand, self.category, self.description)
            if field_text
        )


def fold_words(text: str) -> str:
    """Case-folded words with one space before, between and after: ` word ` in it tests for a whole word."""
    return f" {' '.join(split_words(text))} "


class QuotableText:
    """A text and what can be quoted from it."""

    def __init__(self, text: str) -> None:
        self._folded_text = fold_words(text)
        self._text = text

    def holds_quotation(self, quotation: str) -> bool:
        """Says whether the words of a quotation stand in the text in a row.

        Only words count, not what stands between them. A quotation of nothing but emoji needs these.
        """
        folded_quotation = fold_words(quotation)
        if folded_quotation.strip():
            return folded_quotation in self._folded_text
        quoted_emoji = "".join(find_emoji(quotation))
        return quoted_emoji != "" and quoted_emoji in "".join(find_emoji(self._text))


def escape_control_chars(text: str) -> str:
    """Shows control characters instead of obeying them: catalogues and models may write anything."""
    return _CONTROL.sub(lambda match: match.group().encode("unicode_escape").decode(), text)


def read_product(row: dict[str, str | None]) -> Product:
    """The product in a row of the ITEMS table."""
    return Product(
        title=clean_catalogue_text(row["title"], _MAX_TITLE_CHARS),
        brand=clean_catalogue_text(row["brand"], _MAX_NAME_CHARS),
        category=clean_catalogue_text(row["category"], 2 * _MAX_NAME_CHARS),
        description=clean_catalogue_text(row["description"], _MAX_DESCRIPTION_CHARS),
    )


def clean_catalogue_text(text: str | None, max_chars: int) -> str:
    """Normalized text (NFC) without control and invisible characters, cut to `max_chars`."""
    # The first cut bounds the work on huge texts; cleaning only ever shortens what follows.
    bounded_text = (text or "")[: 4 * max_chars]
    # NFC: the same letters in another composition must not be another product.
    visible_text = _CONTROL.sub(" ", unicodedata.normalize("NFC", bounded_text))
    return _SPACES.sub(" ", visible_text).strip()[:max_chars].rstrip()
