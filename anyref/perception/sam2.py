"""SAM 2.1 cuts out what a box surrounds: the model of transformers without its processor, which cannot be built without torchvision."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from anyref.perception import Box, ModelCard, Picture
from anyref.perception.models import Entry
from anyref.perception.preparation import IMAGENET, card, check, hub_revision, square


class Sam2:
    """One mask per box (the released single-mask output), at the picture's own size."""

    def __init__(self, model: Any, card: ModelCard) -> None:
        self._model = model.eval()
        self._size = int(model.config.prompt_encoder_config.image_size)
        self.card = card

    @torch.no_grad()
    def segment(self, picture_YX3: Picture, boxes: Sequence[Box]) -> NDArray[np.bool_]:
        """See `anyref.perception.Segmenter`. Raises ValueError for a box without area."""
        check([picture_YX3])
        height, width = picture_YX3.shape[:2]
        if not boxes:
            return np.zeros((0, height, width), dtype=np.bool_)
        for box in boxes:
            if box.bottom <= box.top or box.right <= box.left:
                raise ValueError(
                    f"the box {tuple(box)} has no area; give (top, left, bottom, right) with bottom > top, right > left"
                )
        device, dtype = self._model.device, self._model.dtype
        scale_y, scale_x = self._size / height, self._size / width
        corners = [
            [box.left * scale_x, box.top * scale_y, box.right * scale_x, box.bottom * scale_y]
            for box in boxes
        ]
        output = self._model(
            pixel_values=square(picture_YX3, self._size, IMAGENET).to(device, dtype),
            input_boxes=torch.tensor([corners], device=device, dtype=dtype),
            multimask_output=False,
        )
        logits = functional.interpolate(
            output.pred_masks[0].float(), (height, width), mode="bilinear", align_corners=False
        )
        masks: NDArray[np.bool_] = (logits[:, 0] > 0).cpu().numpy()
        return masks


def open_sam2(entry: Entry, device: str) -> Sam2:
    """Load the image model; the weights of the video model serve it, so what only that one has is left aside."""
    from transformers import Sam2Model

    model = Sam2Model.from_pretrained(entry.source, revision=hub_revision(entry)).to(device)
    return Sam2(model, card(entry, model))
