"""The classes of subjects that captions are matched against, with their synonyms, and a tagger that needs no model.

Kaleido section 3.2 (2): "over 100 distinct subject categories and over 800 candidate synonyms and instances, enabling captions to be matched
against a rich vocabulary". Its list is not public; ours is data, `taxonomy.json` beside this file, or a file of yours of the same form. Every
word belongs to one class, so that a match has one meaning.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

from anyref.perception import ModelCard, Tag
from anyref.samples import KINDS, Kind

OURS = Path(__file__).with_name("taxonomy.json")
_WORD = re.compile(r"[a-z0-9]+(?:['-][a-z0-9]+)*")
_DETERMINERS = frozenset(
    "a an the his her their its my your our this that these those one two three four five several some many "
    "another each every both of with in on wearing holding".split()
)
_MODIFIERS = frozenset(
    "red green blue yellow orange purple pink black white brown grey gray golden silver beige dark light bright colorful colourful "
    "small big large little tiny huge tall short long round square young old elderly middle-aged adult new vintage antique modern "
    "wooden metal plastic glass leather denim cotton silk lace woollen knitted paper stone brick striped plaid floral checkered "
    "patterned fluffy furry shiny wet fresh ripe sliced open empty full toy stuffed electric wild baby sleeveless long-sleeved "
    "short-sleeved short-haired long-haired curly bald blond blonde smiling sandy grassy snowy cute beautiful handsome".split()
)
_PLACES = re.compile(r" (?:on|in|at|to) the (?:far )?(?:left|right|middle|center|centre)(?: side)?\b")
_PREPOSITION = re.compile(r"\b(?:with|wearing|in|on|of|at|near|under|holding|from|by|behind|beside|riding)\b")
BODY_PARTS = frozenset(
    "head face hair eye eyes ear ears nose mouth lip lips chin cheek cheeks neck shoulder shoulders arm arms elbow hand hands finger "
    "fingers wrist chest back waist hip leg legs knee knees foot feet toe toes tail paw paws wing wings skin beard mustache".split()
)
"""Never tags of their own (OpenS2V's rule for its tagger, which we follow): the face has its own stage."""


@dataclass(frozen=True)
class SubjectClass:
    """A class: its noun, what kind of reference it makes, classes it can be taken for (same domain), and what it is a sort of."""

    name: str
    kind: Kind
    domain: str
    parent: str | None
    synonyms: tuple[str, ...]


class Match(NamedTuple):
    """`text[start:end]` names a class."""

    start: int
    end: int
    name: str


@dataclass(frozen=True)
class Taxonomy:
    """All classes. `also_verbs`: words that name a class only behind an article, a number or the like ("watch", "model")."""

    version: int
    classes: tuple[SubjectClass, ...]
    also_verbs: frozenset[str] = frozenset()

    @cached_property
    def by_name(self) -> dict[str, SubjectClass]:
        """Classes by name."""
        return {entry.name: entry for entry in self.classes}

    @cached_property
    def by_word(self) -> dict[tuple[str, ...], SubjectClass]:
        """Classes by each of their names, as a tuple of words."""
        return {_words(word): entry for entry in self.classes for word in (entry.name, *entry.synonyms)}

    @cached_property
    def _longest(self) -> int:
        return max(len(words) for words in self.by_word)

    def find(self, text: str) -> tuple[Match, ...]:
        """All mentions of classes, longest names first at each place, singular or plural, in the order of the text, without overlaps."""
        tokens = [(m.start(), m.end(), m.group()) for m in _WORD.finditer(text.lower())]
        found, at = [], 0
        while at < len(tokens):
            match = self._match(tokens, at)
            found += [match] if match else []
            at += max(1, sum(1 for token in tokens[at:] if match and token[1] <= match.end))
        return tuple(found)

    def classify(self, phrase: str) -> SubjectClass | None:
        """The class of a noun phrase: the last one named before its first preposition ("a dog in a red coat" is a dog), or None."""
        head = _PREPOSITION.split(phrase.lower(), maxsplit=1)[0]
        for part in (head, phrase):
            tokens = [(m.start(), m.end(), m.group()) for m in _WORD.finditer(part.lower())]
            matches = [found for at in range(len(tokens)) if (found := self._match(tokens, at, strict=False))]
            if matches:
                return self.by_name[max(matches, key=lambda match: (match.end, -match.start)).name]
        return None

    def ancestors(self, name: str) -> tuple[str, ...]:
        """What a class is a sort of, nearest first."""
        chain: list[str] = []
        entry = self.by_name.get(name)
        while entry is not None and entry.parent is not None:
            chain.append(entry.parent)
            entry = self.by_name.get(entry.parent)
        return tuple(chain)

    def rivals(self, name: str) -> tuple[str, ...]:
        """The classes that a thing of this class could be mistaken for: of its domain, neither above nor below it."""
        own = self.by_name[name]
        related = {name, *self.ancestors(name)}
        return tuple(
            entry.name
            for entry in self.classes
            if entry.domain == own.domain
            and entry.name not in related
            and name not in self.ancestors(entry.name)
        )

    def _match(self, tokens: list[tuple[int, int, str]], at: int, *, strict: bool = True) -> Match | None:
        for length in range(min(self._longest, len(tokens) - at), 0, -1):
            words = tuple(token[2] for token in tokens[at : at + length])
            for candidate in _singulars(words):
                entry = self.by_word.get(candidate)
                if entry and not (strict and length == 1 and self._is_verb(tokens, at)):
                    return Match(tokens[at][0], tokens[at + length - 1][1], entry.name)
        return None

    def _is_verb(self, tokens: list[tuple[int, int, str]], at: int) -> bool:
        if not any(word[0] in self.also_verbs for word in _singulars((tokens[at][2],))):
            return False
        for token in reversed(tokens[max(0, at - 3) : at]):
            if token[2] in _DETERMINERS:
                return False
            if token[2] not in _MODIFIERS:
                return True
        return True


@lru_cache(maxsize=4)
def load_taxonomy(path: Path | None = None) -> Taxonomy:
    """The taxonomy of a JSON file, or ours; raises ValueError naming the first thing that `complaints` finds wrong with it."""
    file = path or OURS
    if not file.is_file():
        raise FileNotFoundError(f"there is no taxonomy {file}; check the path")
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        classes = tuple(
            SubjectClass(
                row["name"], row["kind"], row["domain"], row.get("parent"), tuple(row.get("synonyms", ()))
            )
            for row in record["classes"]
        )
        taxonomy = Taxonomy(int(record["version"]), classes, frozenset(record.get("also_verbs", ())))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"the taxonomy {file} is not of the form of ours ({error!r}); see anyref/curation/taxonomy.json"
        ) from error
    for complaint in complaints(taxonomy):
        raise ValueError(f"the taxonomy {file} cannot be used: {complaint}; mend the file")
    return taxonomy


def complaints(taxonomy: Taxonomy) -> Iterator[str]:
    """What is wrong with a taxonomy: words of two classes, unknown kinds and parents, circles, body parts, capitals."""
    counts = Counter(_words(w) for entry in taxonomy.classes for w in (entry.name, *entry.synonyms))
    for words, count in counts.items():
        if count > 1:
            yield f"{' '.join(words)!r} stands {count} times"
        if not words:
            yield "a name has no letters"
        elif words[-1] in BODY_PARTS:
            yield f"{' '.join(words)!r} is part of a body, not a subject"
    names = {entry.name for entry in taxonomy.classes}
    for entry in taxonomy.classes:
        if entry.kind not in KINDS:
            yield f"{entry.name!r} has kind {entry.kind!r}; it must be one of {', '.join(KINDS)}"
        if entry.parent is not None and entry.parent not in names:
            yield f"{entry.name!r} is a sort of {entry.parent!r}, which is no class"
        for word in (entry.name, *entry.synonyms):
            if word != word.lower().strip() or not word.isascii():
                yield f"{word!r} is not lower-case ASCII"
    if any(_is_circular(taxonomy, entry.name) for entry in taxonomy.classes):
        yield "parents run in a circle"


@dataclass(frozen=True)
class TaxonomyTagger:
    """Finds the subjects a caption names by the taxonomy alone: a `perception.Tagger`.

    A tag's span takes in adjectives before the noun and a place behind it ("the small dog on the left" without its article). Of several
    mentions of a class in the same words only the first is a tag.
    """

    taxonomy: Taxonomy

    @property
    def card(self) -> ModelCard:
        """Which model answers."""
        return ModelCard(
            "taxonomy", "anyref.curation.taxonomy", str(self.taxonomy.version), "Apache-2.0", True
        )

    def tags(self, caption: str) -> list[Tag]:
        """See `perception.Tagger`."""
        found: list[Tag] = []
        seen: set[tuple[str, str]] = set()
        end_of_last = 0
        for match in self.taxonomy.find(caption):
            start, end = _with_adjectives(caption, match.start, end_of_last), match.end
            if place := _PLACES.match(caption.lower(), end):
                end = place.end()
            key = (match.name, caption[start:end].lower())
            if key not in seen:
                found.append(Tag(start, end, self.taxonomy.by_name[match.name].kind, match.name))
                seen.add(key)
            end_of_last = end
        return found


def split_place(phrase: str) -> tuple[str, str]:
    """A phrase without the words that say where its subject is, and "left", "right", "middle" or "" for those words."""
    found = _PLACES.search(phrase.lower())
    if found is None:
        return phrase, ""
    words = found.group()
    side = next((side for side in ("left", "right") if side in words), "middle")
    return (phrase[: found.start()] + phrase[found.end() :]).strip(), side


def _with_adjectives(caption: str, start: int, first: int) -> int:
    """Where the adjectives before a noun at `start` begin, not before `first`."""
    before = list(_WORD.finditer(caption.lower(), first, start))
    for word in reversed(before):
        if word.group() not in _MODIFIERS or caption[word.end() : start].strip(" ,"):
            break
        start = word.start()
    return start


def _is_circular(taxonomy: Taxonomy, name: str) -> bool:
    seen: set[str] = set()
    at: str | None = name
    while at is not None and at in taxonomy.by_name:
        if at in seen:
            return True
        seen.add(at)
        at = taxonomy.by_name[at].parent
    return False


def _words(text: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(text.lower()))


def _singulars(words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The words as they are, then with the last one's plural ending taken off."""
    yield words
    last = words[-1]
    if len(last) < 4 or last.endswith("ss"):
        return
    if last.endswith("ies"):
        yield (*words[:-1], last[:-3] + "y")
    if last.endswith("ves"):
        yield (*words[:-1], last[:-3] + "f")
        yield (*words[:-1], last[:-3] + "fe")
    if last.endswith(("ses", "xes", "ches", "shes", "oes")):
        yield (*words[:-1], last[:-2])
    if last.endswith("s"):
        yield (*words[:-1], last[:-1])
