"""The clips and pictures of test identities that embedded models are measured with; no caption names a colour.

Clip n of a set is the same for every model of the same video size. The picture that the judge compares a subject with (`shown_by`) is never
one that a video was made from.
"""

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from anyref.references import Reference
from anyref.samples import Sample, Subject
from anyref.worlds import PuppetWorld
from anyref.worlds.identities import COLOURS

CANDIDATES = 8
"""A subject's own picture and those of seven others of its class."""
STILL = ("jump", "spin", "grow", "shrink", "dance", "nod", "bow", "wave", "stand", "float")
"""Actions in which a subject stays on its side of the frame."""
_COLOURS = {*COLOURS, "grey", "gray"}
# Numbers of a subject's pictures: the judge's are those of the clips, from 0.
_VIEWS, _CUT_OUTS = 1_000_000, 2_000_000


def single_clips(world: PuppetWorld, count: int) -> list[Sample]:
    """Clips of one subject, no other references."""

    def draw(index: int) -> Sample:
        return world.clip(index, num_subjects=1, background_reference=False, clothing_reference=False)

    return _colourless(draw, count)


def pair_clips(world: PuppetWorld, count: int, *, same_kind: bool) -> list[Sample]:
    """Clips of two subjects that stay on their sides."""

    def draw(index: int) -> Sample:
        return world.clip(
            index,
            num_subjects=2,
            same_kind=same_kind,
            background_reference=False,
            clothing_reference=False,
            actions=STILL,
        )

    return _colourless(draw, count)


def trio_clips(world: PuppetWorld, count: int) -> list[Sample]:
    """Clips of three subjects of three classes, then their setting as a fourth."""

    def draw(index: int) -> Sample:
        return world.clip(
            index, num_subjects=3, same_kind=False, background_reference=True, clothing_reference=False
        )

    return _colourless(draw, count)


def moving(sample: Sample) -> list[Subject]:
    """The subjects of a clip that are not its setting."""
    return [subject for subject in sample.subjects if subject.kind != "background"]


def reference_of(subject: Subject) -> Reference:
    """The cross-paired reference of a subject, with its phrase."""
    image = next(variant.image for variant in subject.references if variant.variant == "cross")
    return Reference(image, subject.kind, subject.phrase, label=subject.label)


def views_of(world: PuppetWorld, subject: Subject, count: int) -> list[Reference]:
    """`count` pictures of a subject under its one phrase, the first that of `reference_of`."""
    first = reference_of(subject)
    others = [world.picture(subject, _VIEWS + index).image for index in range(count - 1)]
    return [first, *(replace(first, image=image) for image in others)]


def cut_out_of(world: PuppetWorld, subject: Subject) -> Reference:
    """A picture of a subject that the world itself cuts out: RGBA, every pixel's membership known."""
    pictures = (world.picture(subject, _CUT_OUTS + index).image for index in itertools.count())
    return replace(reference_of(subject), image=next(image for image in pictures if image.shape[2] == 4))


def shown_by(world: PuppetWorld, subject: Subject, number: int) -> NDArray[np.uint8]:
    """The picture of a subject of clip `number` that the judge compares videos with."""
    return world.picture(subject, number).image


def line_up(world: PuppetWorld, subject: Subject, number: int) -> list[NDArray[np.uint8]]:
    """`shown_by`, then pictures of seven others of the subject's class, drawn at random.

    At random, and not as unlike as can be: so a video that shows nobody in particular is right one time in eight.
    """
    others = world.distractors(subject, CANDIDATES - 1, number, unlike=False)
    return [shown_by(world, subject, number), *(other.image for other in others)]


def swapped(references: Sequence[Reference]) -> list[Reference]:
    """Each clip's reference replaced by the next clip's picture, under its own phrase."""
    pictures = [*references[1:], references[0]]
    return [
        replace(one, image=other.image, subject_mask=other.subject_mask)
        for one, other in zip(references, pictures, strict=True)
    ]


def _colourless(draw: Callable[[int], Sample], count: int) -> list[Sample]:
    # A colour in the caption would tell the subject without its reference.
    drawn = (draw(index) for index in itertools.count())
    return list(
        itertools.islice((one for one in drawn if not _COLOURS & set(re.findall(r"\w+", one.caption))), count)
    )
