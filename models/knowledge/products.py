"""What an agent reads of a product: the catalogue's text, bounded and cleaned, without the item's id or price.

Without the id, equal products share one answer; without the price, a price change asks nothing anew.
"""

import re
import unicodedata

from contracts.digests import digest_value
from models.knowledge.schema import Strict

_MAX_TITLE_CHARS = 400
_MAX_NAME_CHARS = 120
_CONTROL = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]+"
)
"""Control characters, marks of direction, and what nobody sees but a model reads (the last are the "tag" letters)."""
_WORD = re.compile(r"\w+")
_SPACES = re.compile(r"\s+")


class Product(Strict):
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
        return ". ".join(part for part in (self.title, self.brand, self.category, self.description) if part)


def fold(text: str) -> str:
    """Case-folded words with one space before, between and after: ` word ` in it is a test for a whole word."""
    return f" {' '.join(_WORD.findall(text.casefold()))} "


def printable(text: str) -> str:
    """Text whose control characters are shown, not obeyed, for terminals: catalogues and models may write anything."""
    return _CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def read_product(row: dict[str, str | None], *, max_description_chars: int) -> Product:
    """The product in a row of the ITEMS table."""
    return Product(
        title=clean(row["title"], _MAX_TITLE_CHARS),
        brand=clean(row["brand"], _MAX_NAME_CHARS),
        category=clean(row["category"], 2 * _MAX_NAME_CHARS),
        description=clean(row["description"], max_description_chars),
    )


def clean(text: str | None, max_chars: int) -> str:
    """Normalised text (NFC) without control and invisible characters, cut to `max_chars`."""
    # The first cut bounds the work on huge texts; cleaning only ever shortens what follows.
    bounded = (text or "")[: 4 * max_chars]
    visible = _CONTROL.sub(" ", unicodedata.normalize("NFC", bounded))
    return _SPACES.sub(" ", visible).strip()[:max_chars].rstrip()
