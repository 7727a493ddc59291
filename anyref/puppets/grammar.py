"""The grammar of the world's captions, backwards and forwards: what a caption names, and a caption for what was seen.

Backwards it is the world's tagger, a rule matcher as curation's other one is; forwards it writes what the captioner has found out. No model.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from anyref.worlds import captions
from anyref.worlds.actions import travel_of
from anyref.worlds.identities import COLOURS, LABELS, STICKER, kind_of

TRAVEL = "travel"
"""Moving across the frame, whose word depends on who moves."""


@dataclass(frozen=True)
class Named:
    """Something that a caption names: `caption[start:end]` is its phrase. `kind` as in `anyref.samples`, `label` its class."""

    start: int
    end: int
    kind: str
    label: str


@dataclass(frozen=True)
class Seen:
    """A subject as the captioner saw it."""

    label: str
    action: str
    """One of the world's actions for one subject, or TRAVEL."""
    way: str = ""
    """"left" or "right" for TRAVEL, "" where it cannot be told."""


def named_in(caption: str) -> list[Named]:
    """What a caption of the world names, in its order: subjects, a garment worn, and the setting.

    A phrase is what the world itself calls the subject's phrase: "the small dog on the left", "a woman in a red shirt", "a beach".
    """
    found = []
    for match in _subject().finditer(caption.lower()):
        label = _label(match["noun"])
        found.append(Named(*match.span(), kind_of(label), label))
    for match in _garment().finditer(caption.lower()):
        found.append(Named(*match.span("garment"), "clothing", match["noun"]))
    setting = _setting().search(caption.lower())
    if setting is not None:
        found.append(Named(*setting.span("name"), "background", _setting_of(setting["name"])))
    kept: list[Named] = []
    for tag in sorted(found, key=lambda one: (one.start, -one.end)):
        if not kept or tag.start >= kept[-1].end:
            kept.append(tag)
    return kept


def sentence(subjects: Sequence[Seen], setting: str, night: bool) -> str:
    """A caption in the world's words for up to three subjects from left to right: "the dog on the left jumps and ..."."""
    sides = captions.SIDES.get(len(subjects), ("",) * len(subjects))
    clauses = []
    for subject, side in zip(subjects, sides, strict=True):
        article = "the" if len(subjects) > 1 else "an" if subject.label[0] in "aeiou" else "a"
        clauses.append(f"{article} {subject.label} {side}".strip() + " " + _verb(subject))
    joined = ", ".join(clauses[:-1]) + " and " + clauses[-1] if len(clauses) > 1 else "".join(clauses)
    preposition, name = captions.PLACES[setting][0]
    time = captions.TIMES[night][0]
    return f"{joined} {preposition} {name} {time}." if subjects else f"{preposition} {name} {time}."


def _verb(subject: Seen) -> str:
    action = travel_of(subject.label) if subject.action == TRAVEL else subject.action
    verb = captions.VERBS[action][0][0]
    return f"{verb} to the {subject.way}" if subject.action == TRAVEL and subject.way else verb


def _label(noun: str) -> str:
    return STICKER if noun in captions.NOUNS[STICKER] else noun


def _setting_of(name: str) -> str:
    return next(label for label, forms in captions.PLACES.items() if any(name == form for _, form in forms))


@lru_cache(maxsize=1)
def _subject() -> re.Pattern[str]:
    nouns = "|".join(sorted({*LABELS, *captions.NOUNS[STICKER]}, key=len, reverse=True))
    colour = "|".join(COLOURS)
    return re.compile(
        rf"\b(?:a|an|the) (?:(?:small|big|{colour}) )?(?P<noun>{nouns})\b"
        rf"(?: in (?:an? (?:{colour}) (?:shirt|skirt)|(?:{colour}) trousers))?"
        r"(?: on the left| on the right| in the middle)?"
    )


@lru_cache(maxsize=1)
def _garment() -> re.Pattern[str]:
    return re.compile(r" (?:wearing|with|in) (?P<garment>an? (?P<noun>hat|shirt))\b")


@lru_cache(maxsize=1)
def _setting() -> re.Pattern[str]:
    forms = [form for each in captions.PLACES.values() for form in each]
    prepositions = "|".join(sorted({preposition for preposition, _ in forms}))
    names = "|".join(sorted({name for _, name in forms}, key=len, reverse=True))
    return re.compile(rf"\b(?:{prepositions}) (?P<name>{names})\b")
