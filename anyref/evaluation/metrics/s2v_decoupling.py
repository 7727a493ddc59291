"""S2V Decoupling of Kaleido: 1 - CLIP's cosine of what lies around the subjects in references and in frames (section 5.2).

Read it only beside a score of the prompt: noise, or a video of something else, scores best. The paper leaves out what the subjects are replaced
with, the number of frames, and references that have no background; ours: the mean colour of what is left, 16 frames, and see `strict`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from anyref.evaluation.cases import EvaluationCase
from anyref.evaluation.metrics import JSON, Result, VideoUnderTest
from anyref.evaluation.metrics.frame_indices import linspace
from anyref.evaluation.metrics.regions import Mask, find, finder, label_of, marks, reference_masks, subjects
from anyref.evaluation.metrics.vectors import indices_key, model_key, picture_vectors
from anyref.perception import ImageEncoder, Model, Picture


@dataclass(frozen=True)
class S2VDecoupling:
    """1 - mean cosine over frames and references, 0 to 2, typically 0.25 to 0.32.

    `value` takes every subject's reference as it is, cut-outs on white among them. `strict` leaves out references that have no background to
    be copied, cut-outs and those with less than `min_background` of it, and is None where none is left. details: "background_leak", the highest
    cosine of a whole frame without its subjects, not of patches: 1 where a reference's background is there as it was, and little moved by
    a piece of it.
    """

    num_frames: int = 16
    min_score: float = 0.35
    min_background: float = 0.1

    name: ClassVar[str] = "kaleido.s2v_decoupling"
    version: ClassVar[int] = 1
    higher_is_better: ClassVar[bool] = True
    models: ClassVar[Mapping[str, str]] = {
        "detector": "detector",
        "segmenter": "segmenter",
        "encoder": "image-text-encoder",
    }
    defaults: ClassVar[Mapping[str, str]] = {
        "detector": "grounding-dino-base",
        "segmenter": "sam2.1-large",
        "encoder": "clip-b32",
    }

    @property
    def parameters(self) -> Mapping[str, JSON]:
        """The fields."""
        return asdict(self)

    def applies(self, case: EvaluationCase) -> bool:
        """Where a reference shows a subject."""
        return bool(subjects(case))

    def score(self, video: VideoUnderTest, models: Mapping[str, Model]) -> Result:
        """See the class."""
        by, encoder = finder(models, self.min_score), models["encoder"]
        assert isinstance(encoder, ImageEncoder)
        case, places = video.case, subjects(video.case)
        queries = [label_of(case.references[place]) for place in places]
        indices = linspace(video.num_frames, self.num_frames)
        found = find(video, by, queries, indices)

        def around() -> NDArray[np.float32]:
            rest = []
            for frame, picture in enumerate(video.frames_at(indices)):
                mask = np.zeros(picture.shape[:2], bool)
                for region in found:
                    if region.frame == frame:
                        mask |= region.subject_mask
                rest.append(without(picture, mask))
            return encoder.encode(rest)

        key = ("around", model_key(encoder), *by.key, indices_key(indices), *queries)
        frames_FD = video.features.get_or_compute(key, around).astype(np.float64)
        pictures = video.references()
        masks = reference_masks(video, by, places, pictures)
        rests = [without(pictures[place], mask) for place, mask in zip(places, masks, strict=True)]
        cosines_FR = frames_FD @ picture_vectors(video, encoder, rests).T.astype(np.float64)
        cut_outs = [_is_cut_out(case, place, video.reference_masks()[place]) for place in places]
        kept = [
            not cut and float((~mask).mean()) >= self.min_background
            for cut, mask in zip(cut_outs, masks, strict=True)
        ]
        details: dict[str, JSON] = {
            "per_reference": [1 - float(cosine) for cosine in cosines_FR.mean(axis=0)],
            "references": places,
            "without_background": [place for place, keep in zip(places, kept, strict=True) if not keep],
            "background_leak": float(cosines_FR[:, kept].max()) if any(kept) else None,
        }
        return Result(
            1 - float(cosines_FR.mean()),
            1 - float(cosines_FR[:, kept].mean()) if any(kept) else None,
            "ok",
            tuple(1 - float(cosine) for cosine in cosines_FR.mean(axis=1)),
            indices,
            details,
            marks(found, indices, places, queries),
        )


def without(picture_YX3: Picture, mask_YX: Mask) -> Picture:
    """The picture with the masked part in the mean colour of the rest; mid grey where there is no rest."""
    rest = picture_YX3[~mask_YX]
    colour = np.rint(rest.mean(axis=0)).astype(np.uint8) if len(rest) else np.full(3, 127, np.uint8)
    return np.where(mask_YX[..., None], colour, picture_YX3)


def _is_cut_out(case: EvaluationCase, place: int, given_mask: Mask | None) -> bool:
    """Whether the mask came with the picture as transparency: then there is no background in it."""
    return case.references[place].mask_path is None and given_mask is not None
