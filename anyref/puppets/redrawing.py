"""Pictures of the puppet world drawn on: a hole filled with what could be behind it, and a subject drawn again by an embedded generator.

The world itself can redraw only who it knows by name, and a curated subject has none; so another view is a frame of a video of the embedded
Kaleido or MAGREF model. It errs as such models do, and whoever uses it checks that it shows the same subject and is not a copy.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from anyref.puppets import image_text, phrase_search, phrases
from anyref.puppets.grammar import named_in
from anyref.puppets.image_text import Towers
from anyref.puppets.models import WEIGHTS
from anyref.puppets.phrase_network import PhraseSegmenter
from anyref.references import Reference
from anyref.worlds.identities import LABELS, kind_of

GENERATORS = ("kaleido", "magref")
"""Which embedded models draw, in order of preference."""
_STEPS, _FRAMES = 8, 5
"""Five frames are the shortest video that moves; the last of them is the picture."""
_MARGIN = 0.1
_SMALLEST = 60
"""Pixels of a subject in the generated frame, of 64 x 96, below which it counts as not found."""
Picture = NDArray[np.uint8]


def fill(picture_YX3: Picture, hole_YX: NDArray[np.bool_]) -> Picture:
    """The picture with its hole filled row by row, in a straight line from what is left of it to what is right of it.

    The world's places are made of level bands (sky, ground, water), so rows carry on where OpenCV's methods smear the bands into one another.
    Rows that are all hole go on from the nearest ones. Raises ValueError where nothing is left to fill from.
    """
    if hole_YX.all():
        raise ValueError(
            "the hole is the whole picture, so nothing is left to fill it from; mask less of it."
        )
    filled = picture_YX3.astype(np.float32)
    known_Y = np.flatnonzero(~hole_YX.all(axis=1))
    for row in known_Y[hole_YX[known_Y].any(axis=1)]:
        hole, known = np.flatnonzero(hole_YX[row]), np.flatnonzero(~hole_YX[row])
        for channel in range(3):
            filled[row, hole, channel] = np.interp(hole, known, filled[row, known, channel])
    for row in np.flatnonzero(hole_YX.all(axis=1)):
        filled[row] = filled[known_Y[np.abs(known_Y - row).argmin()]]
    return np.where(hole_YX[..., None], np.rint(filled), picture_YX3).astype(np.uint8)


def generator_folder(weights: Path = WEIGHTS) -> Path:
    """The model that draws. Raises ValueError where neither is there."""
    for name in GENERATORS:
        if (weights / name / "anyref.json").is_file():
            return weights / name
    raise ValueError(
        f"there is no embedded model under {weights} to draw with; train one: anyref puppets train --stages kaleido"
    )


def what_is_it(towers: Towers, picture_YX3: Picture) -> str:
    """The class, of the world's 29, whose name is nearest to a picture of one subject."""
    classes = towers.encode_texts([image_text.named(label, 0) for label in LABELS])
    return LABELS[int((classes @ towers.encode_pictures([picture_YX3])[0]).argmax())]


def prompt_for(label: str, prompt: str) -> str:
    """The prompt, if it names a subject in the world's words; else one that names the class."""
    if any(named.kind != "background" for named in named_in(prompt)):
        return prompt
    setting = next((named for named in named_in(prompt)), None)
    place = prompt[setting.start : setting.end] if setting else "a room"
    return f"{image_text.named(label, 0)} jumps in {place} by day."


def redraw(
    pipeline: Any, segmenter: PhraseSegmenter, picture_YX3: Picture, words: Sequence[str], seed: int
) -> Picture:
    """The subject of a picture in another pose and place, cut from the last frame of a short new video with a margin.

    `pipeline`: an AnyRefPipeline of an embedded model; `words`: the prompt, then the subject's class. The whole frame where the subject
    is not found in it.
    """
    prompt, label = words
    height, width = picture_YX3.shape[:2]
    mask = phrase_search.cut(segmenter, picture_YX3, [(0.0, 0.0, float(height), float(width))])[0]
    alpha = (
        np.where(mask, 255, 0).astype(np.uint8) if mask.mean() > 0.02 else np.full(mask.shape, 255, np.uint8)
    )
    frames = pipeline(
        prompt=prompt,
        reference_images=[Reference(np.dstack([picture_YX3, alpha]), kind=kind_of(label), label=label)],
        num_inference_steps=_STEPS,
        num_frames=_FRAMES,
        generator=torch.Generator("cpu").manual_seed(seed),
        output_type="np",
    ).frames[0]
    frame = np.rint(np.asarray(frames[-1]) * 255).astype(np.uint8)
    found = phrase_search.find(segmenter, frame, [label])[0]
    largest = max((thing.mask_YX for thing in found), key=np.count_nonzero, default=np.zeros((0, 0), bool))
    if largest.sum() < _SMALLEST:
        return frame
    rows, columns = phrases.window_around(phrases.box_of(largest), frame.shape[:2], _MARGIN)
    return np.ascontiguousarray(frame[rows, columns])
