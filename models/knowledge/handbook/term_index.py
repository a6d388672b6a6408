"""Finds terms in the words of a phrase: whole, in their order, and at most one foreign word between."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from typing import Final, NamedTuple

from models.knowledge.handbook.title_words import is_modifier, split_words

_MAX_FOREIGN_WORDS: Final = 1
"""Foreign words within a term: "PLA silk filament" is a PLA filament."""


class TermSpan(NamedTuple):
    """Where a term stands in a phrase."""

    start: int
    end: int
    """One past its last word."""
    term: int
    """Its number, in the order of adding."""
    is_unbroken: bool
    has_foreign_word: bool = False
    """Whether a word within may be a noun: a "roller blind chain" is no roller chain."""


class TermIndex:
    """Terms by their last word, which ends a name in English."""

    def __init__(self, terms: Iterable[str], *, nouns: Collection[str] | None = None) -> None:
        """Takes terms, and nouns that may not stand within one; without nouns nothing may."""
        self.words = [tuple(split_words(term)) for term in terms]
        self._by_last_word: defaultdict[str, list[int]] = defaultdict(list)
        self._needs_unbroken: list[bool] = []
        self._nouns = nouns or ()
        for term, words in enumerate(self.words):
            if words:
                self._by_last_word[words[-1]].append(term)
            # Letters and numbers are names only side by side: the o of "o ring", the 2 of "m 2 ssd".
            self._needs_unbroken.append(
                nouns is None or any(len(word) == 1 or word[0].isdigit() for word in words)
            )

    def find_terms(self, words: tuple[str, ...]) -> Iterator[TermSpan]:
        """All terms that stand in a phrase."""
        for last, word in enumerate(words):
            for term in self._by_last_word.get(word, ()):
                term_words = self.words[term]
                size = len(term_words)
                if size == 1 or words[last + 1 - size : last + 1] == term_words:
                    yield TermSpan(last + 1 - size, last + 1, term, True)
                elif not self._needs_unbroken[term]:
                    start = self._match_backwards(words, last, term_words)
                    if start is not None:
                        words_within = set(words[start : last + 1]) - set(term_words)
                        has_foreign_word = not all(map(is_modifier, words_within))
                        yield TermSpan(start, last + 1, term, False, has_foreign_word)

    def _match_backwards(self, words: tuple[str, ...], last: int, term_words: tuple[str, ...]) -> int | None:
        """The place of a term's first word, where its last word stands at `last`; none where it does not."""
        num_foreign, place = 0, last - 1
        for term_word in reversed(term_words[:-1]):
            while place >= 0 and words[place] != term_word:
                if not is_modifier(words[place]):
                    num_foreign += 1
                    # "Cutting board oil" is no cutting oil.
                    if num_foreign > _MAX_FOREIGN_WORDS or words[place] in self._nouns:
                        return None
                place -= 1
            if place < 0:
                return None
            place -= 1
        return place + 1
