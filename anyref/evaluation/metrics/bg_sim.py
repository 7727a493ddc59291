"""Bg-Sim of MAGREF: DINO's cosine of the background reference and of frames from which the subjects were painted out (appendix C.3, eqs. 24, 25).

The paper leaves out sampler, prompt, mask and number of frames, and what happens without a background reference. Ours: 8 frames; the union of
all subjects' masks, grown by 3 % of the short side; the prompt "empty LABEL, no people"; a seed from the frame's pixels; without a background
reference not applicable, as then there is nothing to compare with.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from anyref.evaluation.cases import EvaluationCase
from anyref.evaluation.metrics import JSON, Result, VideoUnderTest
from anyref.evaluation.metrics.frame_indices import linspace
from anyref.evaluation.metrics.regions import find, finder, grown, label_of, marks, subjects
from anyref.evaluation.metrics.vectors import indices_key, model_key, picture_key, picture_vectors
from anyref.perception import ImageEncoder, Inpainter, Model


@dataclass(frozen=True)
class BgSim:
    """Mean cosine over frames and background references, -1 to 1, typically 0.46 to 0.62. `strict` is the same."""

    num_frames: int = 8
    min_score: float = 0.35
    grow: float = 0.03

    name: ClassVar[str] = "magref.bg_sim"
    version: ClassVar[int] = 1
    higher_is_better: ClassVar[bool] = True
    models: ClassVar[Mapping[str, str]] = {
        "detector": "detector",
        "segmenter": "segmenter",
        "inpainter": "inpainter",
        "encoder": "image-encoder",
    }
    defaults: ClassVar[Mapping[str, str]] = {
        "detector": "grounding-dino-base",
        "segmenter": "sam2.1-large",
        "inpainter": "sdxl-inpaint",
        "encoder": "dinov2-base",
    }

    @property
    def parameters(self) -> Mapping[str, JSON]:
        """The fields."""
        return asdict(self)

    def applies(self, case: EvaluationCase) -> bool:
        """Where there is a background reference."""
        return bool(_backgrounds(case))

    def score(self, video: VideoUnderTest, models: Mapping[str, Model]) -> Result:
        """See the class."""
        encoder, inpainter = models["encoder"], models["inpainter"]
        assert isinstance(encoder, ImageEncoder)
        assert isinstance(inpainter, Inpainter)
        case, by = video.case, finder(models, self.min_score)
        places = subjects(case)
        queries = [label_of(case.references[place]) for place in places]
        indices = linspace(video.num_frames, self.num_frames)
        found = find(video, by, queries, indices) if queries else []
        backgrounds = _backgrounds(case)
        label = label_of(case.references[backgrounds[0]])

        def empty() -> NDArray[np.float32]:
            pictures = []
            for frame, picture in enumerate(video.frames_at(indices)):
                hole = np.zeros(picture.shape[:2], bool)
                for region in found:
                    if region.frame == frame:
                        hole |= region.subject_mask
                seed = int(picture_key(picture)[:8], 16)
                prompt = f"empty {label}, no people"
                hole = grown(hole, round(self.grow * min(hole.shape)))
                pictures.append(inpainter.inpaint(picture, hole, prompt, seed) if hole.any() else picture)
            return encoder.encode(pictures)

        key = ("emptied", model_key(encoder), model_key(inpainter), *by.key, f"{self.grow:g}", label)
        vectors_FD = video.features.get_or_compute((*key, indices_key(indices), *queries), empty)
        pictures = video.references()
        shown_RD = picture_vectors(video, encoder, [pictures[place] for place in backgrounds])
        per_frame = (vectors_FD.astype(np.float64) @ shown_RD.T.astype(np.float64)).mean(axis=1)
        value = float(per_frame.mean())
        details: dict[str, JSON] = {"inpainter": inpainter.card.name, "references": backgrounds}
        boxes = marks(found, indices, places, queries)
        return Result(value, value, "ok", tuple(per_frame.tolist()), indices, details, boxes)


def _backgrounds(case: EvaluationCase) -> list[int]:
    return [place for place, one in enumerate(case.references) if one.role == "background"]
