"""A captioner for the puppet world: who is there, what each does, where and when, each asked of its own model and said in the world's words.

Subjects come from the phrase segmenter asked for every class, actions from the tracks of their masks, place and time from the image-text encoder as
the nearest of 22 sentences. Nothing is written that was not found, so it can be measured slot by slot.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from anyref.puppets import action_reader, grammar, image_text, phrase_search
from anyref.puppets.action_reader import ActionReader
from anyref.puppets.grammar import Seen
from anyref.puppets.image_text import Towers
from anyref.puppets.phrase_network import PhraseSegmenter
from anyref.puppets.phrase_search import Found
from anyref.worlds import PuppetWorld
from anyref.worlds.identities import LABELS, SETTINGS

_LOOKS = 3
"""Frames in which the subjects are looked for."""
_LEAST_SCORE = 0.7
_SAME_THING = 0.4
"""Intersection over the smaller of two masks above which they are the same thing."""
_MOST = 3
Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Description:
    """What was found in a clip; subjects from left to right."""

    subjects: tuple[Seen, ...]
    setting: str
    night: bool

    @property
    def text(self) -> str:
        """The caption."""
        return grammar.sentence(self.subjects, self.setting, self.night)


@dataclass(frozen=True)
class Captioner:
    """The three models that the captioner asks."""

    segmenter: PhraseSegmenter
    towers: Towers
    reader: ActionReader

    def describe(self, frames: Sequence[Picture]) -> Description:
        """Of the frames of a clip in their order, at least one."""
        if not frames:
            raise ValueError("a caption was asked for without frames; give at least one.")
        nine = [frames[index] for index in action_reader.spread(len(frames))]
        cast = self._cast(nine)
        subjects = []
        for label, masks_FYX in self._tracks(nine, cast):
            action = action_reader.read_action(self.reader, masks_FYX, label)
            subjects.append(Seen(label, action, _way(masks_FYX) if action == grammar.TRAVEL else ""))
        vectors = self.towers.encode_pictures(nine).mean(axis=0)
        setting, night = self._places[int((self._place_vectors @ vectors).argmax())]
        return Description(tuple(subjects), setting, night)

    @cached_property
    def _places(self) -> list[tuple[str, bool]]:
        return [(label, night) for label in SETTINGS for night in (False, True)]

    @cached_property
    def _place_vectors(self) -> NDArray[np.float32]:
        return self.towers.encode_texts([image_text.place(*one) for one in self._places])

    def _cast(self, nine: Sequence[Picture]) -> list[tuple[str, Found]]:
        """The subjects, from left to right, in the first of the looked-at frames that shows the most common cast."""
        looks = [self._things(nine[int(index)]) for index in np.linspace(0, len(nine) - 1, _LOOKS).round()]
        casts = Counter(tuple(sorted(label for label, _ in things)) for things in looks)
        # A subject that is hidden or has walked out is rather missed than invented: of equally common casts the larger one.
        chosen = max(casts, key=lambda labels: (casts[labels], len(labels)))
        things = next(one for one in looks if tuple(sorted(label for label, _ in one)) == chosen)
        return sorted(things, key=lambda one: _middle(one[1].mask_YX)[1])

    def _things(self, frame: Picture) -> list[tuple[str, Found]]:
        """At most three things of any class, none of them twice, best first."""
        answers = phrase_search.find(self.segmenter, frame, LABELS)
        candidates = [
            (label, found)
            for label, each in zip(LABELS, answers, strict=True)
            for found in each
            if found.score >= _LEAST_SCORE
        ]
        kept: list[tuple[str, Found]] = []
        for label, found in sorted(candidates, key=lambda one: -one[1].score * one[1].mask_YX.sum() ** 0.5):
            if all(_overlap(found.mask_YX, other.mask_YX) < _SAME_THING for _, other in kept):
                kept.append((label, found))
        return kept[:_MOST]

    def _tracks(
        self, nine: Sequence[Picture], cast: Sequence[tuple[str, Found]]
    ) -> list[tuple[str, NDArray[np.bool_]]]:
        """Each subject's masks in the nine frames; things of one class go to the nearest before them."""
        labels = sorted({label for label, _ in cast})
        seen = [
            dict(zip(labels, phrase_search.find(self.segmenter, frame, labels), strict=True))
            for frame in nine
        ]
        tracks = []
        for label, first in cast:
            others = [found for name, found in cast if name == label and found is not first]
            tracks.append((label, _follow([one[label] for one in seen], first, others)))
        return tracks


def measure(captioner: Captioner, world: PuppetWorld, num_clips: int) -> dict[str, float]:
    """Shares of clips, or of subjects, that are described rightly.

    cast: all classes from left to right; subjects: classes, whatever else is said; action: of the clips whose cast is right, the actions; setting
    and time. Clips are those of `PuppetWorld.clip`.
    """
    scores: dict[str, list[float]] = {name: [] for name in ("cast", "subjects", "action", "setting", "time")}
    for index in range(num_clips):
        sample = world.clip(index, background_reference=False, clothing_reference=False)
        told = captioner.describe(list(sample.frames_FYX3))
        truth = sorted(
            zip(sample.subjects, sample.actions, strict=True),
            key=lambda one: float(one[0].boxes_F4[0][[1, 3]].sum()),
        )
        labels, found = [subject.label for subject, _ in truth], [seen.label for seen in told.subjects]
        both = sum((Counter(labels) & Counter(found)).values())
        scores["subjects"].append(both / max(len(labels), len(found)))
        scores["cast"].append(float(labels == found))
        if labels == found:
            for (_, action), seen in zip(truth, told.subjects, strict=True):
                read = action if action in action_reader.READ else grammar.TRAVEL
                scores["action"].append(float(read == seen.action))
        scores["setting"].append(float(told.setting == sample.setting))
        scores["time"].append(float(told.night == (sample.time_of_day == "night")))
    return {name: float(np.mean(values)) for name, values in scores.items() if values}


def _follow(seen: Sequence[Sequence[Found]], first: Found, others: Sequence[Found]) -> NDArray[np.bool_]:
    masks = np.zeros((len(seen), *first.mask_YX.shape), bool)
    place = _middle(first.mask_YX)
    elsewhere = [_middle(other.mask_YX) for other in others]
    for frame, found in enumerate(seen):
        if not found:
            continue
        if not others:
            masks[frame] = found[0].mask_YX
            continue
        nearest = _nearest(found, place)
        taken = [_nearest(found, other) for other in elsewhere]
        if len(found) > 1 or all(nearest is not other for other in taken):
            masks[frame] = nearest.mask_YX
            place = _middle(nearest.mask_YX)
            elsewhere = [_middle(other.mask_YX) for other in taken]
    return masks


def _nearest(found: Sequence[Found], place: tuple[float, float]) -> Found:
    return min(found, key=lambda one: _distance(_middle(one.mask_YX), place))


def _way(masks_FYX: NDArray[np.bool_]) -> str:
    there = [mask_YX for mask_YX in masks_FYX if mask_YX.any()]
    if len(there) < 2:
        return ""
    moved = (_middle(there[-1])[1] - _middle(there[0])[1]) / masks_FYX.shape[2]
    return "right" if moved > 0.05 else "left" if moved < -0.05 else ""


def _middle(mask_YX: NDArray[np.bool_]) -> tuple[float, float]:
    rows, columns = np.nonzero(mask_YX)
    return float(rows.mean()), float(columns.mean())


def _distance(first: tuple[float, float], second: tuple[float, float]) -> float:
    return float(np.hypot(first[0] - second[0], first[1] - second[1]))


def _overlap(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    return float((first & second).sum() / max(1, min(first.sum(), second.sum())))
