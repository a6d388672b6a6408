"""What the words of a title say for and against each concept.

For a concept speak its terms, as phrases. What counts is where a term stands: the head noun of the title says
what the thing is. Against it speak things and words of other departments.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence, Set
from typing import Final, NamedTuple

from models.knowledge.handbook.concepts import Concept, Department, Hint
from models.knowledge.handbook.term_index import TermIndex, TermSpan
from models.knowledge.handbook.title_words import Phrase, is_modifier, split_words, turn_phrase

_SEVERAL_WORDS: Final = 1.0
_BROKEN, _BROKEN_BY_FOREIGN = 0.8, 0.6
"""Weights of a term with another word within: a color, size or material, or one that may be a noun."""
_SINGLE_WORD: Final = 0.8
_AMBIGUOUS: Final = 0.35
"""Weight of a term that other things are called too."""
_NOUN_BEHIND: Final = 0.26
"""What an unknown word right behind a term takes away: it may be the head noun, as in "dog bed ramp"."""
_ATTRIBUTE_BEHIND: Final = 0.05
"""Where a color, size, material or adjective stands there, the name has ended: those precede their noun."""
_ADJECTIVE_ENDINGS: Final = (
    "ed",
    "ing",
    "able",
    "ible",
    "ive",
    "ic",
    "al",
    "ful",
    "less",
    "ish",
    "est",
    "ous",
)
_JOINED: Final = 0.8
"""Weight of what stands behind an "and"."""
_DISPUTED: Final = 0.7
"""Weight of a term behind another noun: "hook garden fork" may be a hook in the shape of a fork."""
_LATER_PHRASE, _AFTER_OTHER_HEAD = 0.75, 0.4
"""Weights of phrases after the first: where none before has a head noun that is known, and where one has."""
_WITHIN_NAME: Final = 0.25
"""Weight of a term that another noun follows: the mouse of a mouse pad."""
_AFTER_HEAD: Final = 0.1
"""Weight of what the thing is for, or comes with."""
_SCATTERED: Final = 0.15
"""Weight of a term whose words all stand in the title, but in no phrase."""
_OTHER_HEAD, _OTHER_THING, _OTHER_WORD, _OTHER_WORD_AFTER = 1.0, 0.6, 0.5, 0.25
"""Evidence against, of other departments: a head noun, another thing, a word, a word after a "for"."""
_RARE_IN: Final = 0.04
"""A word is a concept's own when at most this share of all concepts has it."""


class TermEvidence(NamedTuple):
    """The case that a title's terms make for a concept."""

    strength: float
    """In [0, 1]."""
    num_words: int
    """Of the term."""
    words: tuple[str, ...]
    """Those of the term."""
    is_head: bool
    """Whether the term says what the thing is."""
    is_last: bool = True
    """Whether no unknown word follows in its name: a "grass seed spreader" may be no grass seed."""


class OtherEvidence(NamedTuple):
    """A thing or a word that speaks for another department."""

    words: frozenset[str]
    value: float
    """In [0, 1]."""
    is_thing: bool


class TitleEvidence(NamedTuple):
    """All that a title says."""

    by_concept: dict[int, TermEvidence]
    by_department: dict[int, list[OtherEvidence]]
    words: frozenset[str]


class _Place(NamedTuple):
    """Where a mention stands."""

    weight: float
    """In [0, 1]."""
    is_head: bool
    is_last: bool


class _Mention(NamedTuple):
    """A term of the handbook, or a thing of another department, in a phrase."""

    span: TermSpan
    owners: frozenset[int]
    """Concepts, or a department."""
    is_thing: bool
    """Whether it is of a department."""

    def is_other_than(self, mention: "_Mention") -> bool:
        """Whether two mentions mean different things."""
        return self.is_thing != mention.is_thing or not self.owners & mention.owners


class TitleReader:
    """Reads titles with the terms of all concepts and departments."""

    def __init__(self, concepts: Sequence[Concept], departments: Sequence[Department]) -> None:
        self._departments = departments
        owned_terms: dict[tuple[str, ...], list[int]] = defaultdict(list)
        ambiguous_terms: set[tuple[str, ...]] = set()
        for number, concept in enumerate(concepts):
            own_terms = {tuple(split_words(term)) for term in concept.terms}
            name_words = tuple(split_words(concept.name))
            ambiguous_terms |= {tuple(split_words(term)) for term in concept.ambiguous}
            # A name of one word that is no term was not chosen for telling things apart.
            if len(name_words) == 1 and name_words not in own_terms:
                ambiguous_terms.add(name_words)
            for words in own_terms | {name_words}:
                owned_terms[words].append(number)
        self._known_terms = frozenset(owned_terms)
        self._term_owners = [frozenset(numbers) for numbers in owned_terms.values()]
        things = [(thing, number) for number, one in enumerate(departments) for thing in one.things]
        self._thing_owners = [frozenset((number,)) for _, number in things]
        self._things = TermIndex(thing for thing, _ in things)
        self._nouns = frozenset(words[-1] for words in (*owned_terms, *self._things.words) if words)
        self._terms = TermIndex((" ".join(words) for words in owned_terms), nouns=self._nouns)
        other_words = [(word, number) for number, one in enumerate(departments) for word in one.words]
        self._word_owners = [number for _, number in other_words]
        self._other_words = TermIndex(word for word, _ in other_words)
        evident_things = {
            self._things.words[term]
            for term, (_, number) in enumerate(things)
            if departments[number].is_evidence
        }
        self._is_ambiguous = [
            term_words in ambiguous_terms or term_words in evident_things for term_words in self._terms.words
        ]
        self._by_word: defaultdict[str, list[int]] = defaultdict(list)
        for term, term_words in enumerate(self._terms.words):
            if len(term_words) > 1:
                for word in set(term_words):
                    self._by_word[word].append(term)

    def is_term(self, text: str) -> bool:
        """Whether a text is just a term of a concept."""
        return tuple(split_words(text)) in self._known_terms

    def read_title(self, phrases: Sequence[Phrase]) -> TitleEvidence:
        """What a parsed title says."""
        by_concept: dict[int, TermEvidence] = {}
        by_department: defaultdict[int, list[OtherEvidence]] = defaultdict(list)
        title_words = frozenset(word for phrase in phrases for word in phrase.words)
        has_head = False
        for number, phrase in enumerate(phrases):
            weight = 1.0 if not number else (_AFTER_OTHER_HEAD if has_head else _LATER_PHRASE)
            mentions = _keep_longest(self._list_mentions(phrase))
            for mention in mentions:
                place = _weigh_place(mention, phrase, mentions, self._nouns)
                has_head = has_head or (place.is_head and self._is_sure(mention))
                if not mention.is_thing:
                    evidence = self._weigh_term(mention, place._replace(weight=weight * place.weight))
                    for concept in mention.owners:
                        by_concept[concept] = max(by_concept.get(concept, evidence), evidence)
                    continue
                (department,) = mention.owners
                if self._departments[department].is_evidence:
                    thing_words = frozenset(self._things.words[mention.span.term])
                    is_in_name = place.weight > _AFTER_HEAD
                    value = _OTHER_HEAD if place.is_head else _OTHER_THING if is_in_name else 0.0
                    by_department[department].append(OtherEvidence(thing_words, weight * value, True))
            self._add_turned_terms(phrase, weight, by_concept)
            for span in self._other_words.find_terms(phrase.words):
                value = _OTHER_WORD if span.start < phrase.joined_end else _OTHER_WORD_AFTER
                other_words = frozenset(self._other_words.words[span.term])
                by_department[self._word_owners[span.term]].append(OtherEvidence(other_words, value, False))
        self._add_scattered_terms(title_words, by_concept)
        return TitleEvidence(by_concept, by_department, title_words)

    def _add_turned_terms(self, phrase: Phrase, weight: float, by_concept: dict[int, TermEvidence]) -> None:
        """Terms such as "iPad case", where a phrase says "case for iPad"."""
        words, num_object_words = turn_phrase(phrase)
        for span in self._terms.find_terms(words):
            if span.start < num_object_words and span.end == len(words):
                mention = _Mention(span, self._term_owners[span.term], False)
                evidence = self._weigh_term(mention, _Place(weight, is_head=True, is_last=True))
                for concept in mention.owners:
                    by_concept[concept] = max(by_concept.get(concept, evidence), evidence)

    def _list_mentions(self, phrase: Phrase) -> list[_Mention]:
        terms = self._terms.find_terms(phrase.words)
        things = self._things.find_terms(phrase.words)
        return [
            *(_Mention(span, self._term_owners[span.term], False) for span in terms),
            *(_Mention(span, self._thing_owners[span.term], True) for span in things),
        ]

    def _is_sure(self, mention: _Mention) -> bool:
        """Whether a head noun says what the thing is: later phrases then count less."""
        return mention.is_thing or not self._is_ambiguous[mention.span.term]

    def _weigh_term(self, mention: _Mention, place: _Place) -> TermEvidence:
        term_words = self._terms.words[mention.span.term]
        if self._is_ambiguous[mention.span.term]:
            strength = _AMBIGUOUS
        elif len(term_words) == 1:
            strength = _SINGLE_WORD
        else:
            strength = _SEVERAL_WORDS
        if not mention.span.is_unbroken:
            strength *= _BROKEN_BY_FOREIGN if mention.span.has_foreign_word else _BROKEN
        return TermEvidence(
            strength * place.weight, len(term_words), term_words, place.is_head, place.is_last
        )

    def _add_scattered_terms(self, title_words: frozenset[str], by_concept: dict[int, TermEvidence]) -> None:
        word_hits = Counter(term for word in title_words for term in self._by_word.get(word, ()))
        for term, num_hits in word_hits.items():
            term_words = self._terms.words[term]
            if num_hits == len(set(term_words)):
                evidence = TermEvidence(_SCATTERED, len(term_words), term_words, False)
                for concept in self._term_owners[term]:
                    by_concept[concept] = max(by_concept.get(concept, evidence), evidence)


def _keep_longest(mentions: list[_Mention]) -> list[_Mention]:
    """Without what stands within a longer name: the camera of a camera bag."""
    unbroken = [one.span for one in mentions if one.span.is_unbroken]
    return [
        one
        for one in mentions
        if not any(
            other.start <= one.span.start
            and one.span.end <= other.end
            and other.end - other.start > one.span.end - one.span.start
            for other in unbroken
        )
    ]


def _weigh_place(mention: _Mention, phrase: Phrase, mentions: Sequence[_Mention], nouns: Set[str]) -> _Place:
    span = mention.span
    if span.end > phrase.joined_end or span.start < phrase.start:
        return _Place(_AFTER_HEAD, is_head=False, is_last=False)
    is_first = span.end <= phrase.head_end
    name_end = phrase.head_end if is_first else phrase.joined_end
    others = [
        other.span for other in mentions if other.is_other_than(mention) and _is_noun(other.span, phrase)
    ]
    words_behind = phrase.words[span.end : name_end]
    is_followed = any(other.start >= span.end and other.end <= name_end for other in others)
    if is_followed or (words_behind and words_behind[0] in nouns and not is_modifier(words_behind[0])):
        return _Place(_WITHIN_NAME, is_head=False, is_last=False)
    loss = _weigh_words_behind(words_behind)
    weight = 1.0 - loss
    name_start = phrase.start if is_first else phrase.head_end
    if any(name_start <= other.start < span.start and other.end < span.end for other in others):
        weight *= _DISPUTED
    return _Place(weight * (1.0 if is_first else _JOINED), is_head=True, is_last=loss < _NOUN_BEHIND)


def _weigh_words_behind(words: tuple[str, ...]) -> float:
    """What the words behind a term take away from it."""
    if not words or all(map(is_modifier, words)):
        return 0.0
    is_attribute = is_modifier(words[0]) or words[0].endswith(_ADJECTIVE_ENDINGS)
    return _ATTRIBUTE_BEHIND if is_attribute else _NOUN_BEHIND


def _is_noun(span: TermSpan, phrase: Phrase) -> bool:
    """Whether a mention may be a head noun: not a color or material, and whole."""
    return span.is_unbroken and not all(is_modifier(word) for word in phrase.words[span.start : span.end])


def list_own_words(concepts: Sequence[Concept]) -> list[frozenset[str]]:
    """The words of each concept that few others have: company in which an ambiguous term means it."""
    texts = [
        [*one.terms, one.name, one.summary, *(" ".join(path.split(">")) for path in one.categories)]
        + [hint.text for hint in _iterate_hints(one)]
        for one in concepts
    ]
    words = [{word for text in one for word in split_words(text) if not is_modifier(word)} for one in texts]
    num_concepts = Counter(word for one in words for word in one)
    most = max(_RARE_IN * len(concepts), 1)
    return [frozenset(word for word in one if num_concepts[word] <= most and len(word) > 2) for one in words]


def _iterate_hints(concept: Concept) -> Iterator[Hint]:
    for facet in ("demands", "attributes", "complements", "scenarios"):
        yield from getattr(concept, facet)
