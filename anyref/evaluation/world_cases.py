"""A benchmark of the puppet world, shaped like MAGREF's: cases of one person, and of several subjects with at most three references, as files.

All identities, photographs and colours are of the test split; no prompt names a colour, so that looks come from the references alone.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import Any

from PIL import Image

from anyref.cases import Kind
from anyref.evaluation.cases import EvaluationCase, EvaluationReference, Role, release_lines, write_cases
from anyref.files import atomic
from anyref.media import save_image, write_video
from anyref.samples import Sample, Subject
from anyref.worlds import PuppetWorld
from anyref.worlds.identities import ANIMALS, COLOURS, OBJECTS, PEOPLE

MAX_REFERENCES = 3
_ROLES: dict[Kind, Role] = {"person": "human", "face": "face", "background": "background"}
_COLOURS = {*COLOURS, "grey", "gray"}


@dataclass(frozen=True)
class _Group:
    """A kind of case: what its clips are asked for, and how many of its subjects are people at least."""

    name: str
    category: str
    wishes: dict[str, Any]
    num_people: int


_GROUPS = (
    _Group(
        "single", "single",
        {"num_subjects": 1, "labels": PEOPLE, "background_reference": False, "clothing_reference": False}, 1,
    ),
    # MAGREF's multi-subject cases: several people; people with things or animals; a place given as well.
    _Group(
        "multi_people", "multi",
        {"num_subjects": 2, "labels": PEOPLE, "background_reference": False, "clothing_reference": False}, 2,
    ),
    _Group(
        "multi_mixed", "multi",
        {"num_subjects": 2, "same_kind": False, "background_reference": False, "clothing_reference": False}, 1,
    ),
    _Group(
        "multi_place", "multi",
        {"num_subjects": 2, "labels": (*PEOPLE, *ANIMALS, *OBJECTS), "background_reference": True, "clothing_reference": False},
        1,
    ),
    _Group(
        "multi_three", "multi",
        {"num_subjects": 3, "same_kind": False, "background_reference": False, "clothing_reference": False}, 1,
    ),
)  # fmt: skip


def write_world_cases(
    world: PuppetWorld, folder: Path, *, num_single: int = 60, num_multi: int = 60, clips: bool = False
) -> tuple[EvaluationCase, ...]:
    """Write cases.jsonl, cases.txt (for `anyref generate --case-file`) and references/; with `clips` the world's own clips as KEY.mp4.

    Scored like anybody's videos, the clips are the ceiling. The cases are a pure function of the world and the numbers. Raises ValueError
    for numbers that are not positive, or a num_multi that is no multiple of the four kinds of such cases.
    """
    kinds = len(_GROUPS) - 1
    if num_single < 0 or num_multi < 0 or num_single + num_multi == 0 or num_multi % kinds:
        raise ValueError(
            f"{num_single} single and {num_multi} multi cases were asked for; num_multi must be a multiple of {kinds}"
        )
    cases = []
    for group in _GROUPS:
        number = num_single if group.category == "single" else num_multi // kinds
        for index, sample in enumerate(islice(_clips(world, group), number)):
            key = f"{group.name}_{index:03d}"
            cases.append(_write_case(sample, key, group.category, folder))
            if clips:
                write_video(sample.frames_FYX3, folder / "clips" / f"{key}.mp4", fps=sample.fps)
    write_cases(folder / "cases.jsonl", cases)
    write_release_lines(folder / "cases.txt", cases)
    return tuple(cases)


def write_release_lines(path: Path, cases: tuple[EvaluationCase, ...] | list[EvaluationCase]) -> None:
    """Write the cases as `anyref generate` reads them, images as seen from the file's folder where they lie in it."""
    folder = path.parent.resolve()
    written = [
        replace(case, references=tuple(replace(r, path=_seen_from(folder, r.path)) for r in case.references))
        for case in cases
    ]
    with atomic(path) as partial:
        partial.write_text(release_lines(written), encoding="utf-8")


def _seen_from(folder: Path, path: Path) -> Path:
    whole = path.resolve()
    return whole.relative_to(folder) if whole.is_relative_to(folder) else whole


def _clips(world: PuppetWorld, group: _Group) -> Iterator[Sample]:
    for index in count():
        sample = world.clip(index, **group.wishes)
        people = sum(subject.kind == "person" for subject in sample.subjects)
        coloured = _COLOURS & set(re.findall(r"\w+", sample.caption))
        if people >= group.num_people and not coloured and len(sample.subjects) <= MAX_REFERENCES:
            yield sample


def _write_case(sample: Sample, key: str, category: str, folder: Path) -> EvaluationCase:
    references = []
    for number, subject in enumerate(sample.subjects):
        path = folder / "references" / f"{key}_{number}.png"
        save_image(Image.fromarray(_cross(subject)), path)
        role = _ROLES.get(subject.kind, "object")
        references.append(EvaluationReference(path, subject.label, role, subject.phrase, kind=subject.kind))
    return EvaluationCase(key, sample.caption, category, tuple(references))


def _cross(subject: Subject) -> Any:
    """The picture that is not cut from the clip."""
    return next(variant.image for variant in subject.references if variant.variant == "cross")
