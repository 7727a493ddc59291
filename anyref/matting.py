"""Where the subject of a reference is: a given mask, its transparency, the whole of a background, or a matting model's cut.

What enters: a `Reference`, and a `Matter` if there is one. What leaves: the reference with its `subject_mask`. Saber cuts its
references out with BiRefNet (paper: "Loss & Training"); any other model is a class with `cut`. Nothing here is downloaded before it is needed.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from anyref.references import Reference

# ImageNet's colours: what BiRefNet and SegFormer were both trained with.
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


class Matter(Protocol):
    """A model that finds the subject of a picture."""

    def cut(self, image_YX3: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """uint8 RGB [Y, X, 3] to bool [Y, X], True on the subject; False everywhere if it finds none."""


def matte(reference: Reference, matter: Matter | None = None) -> Reference:
    """The reference with its subject mask: the one it has (see `given_mask`), else the matter's.

    Raises ValueError: an empty mask, nothing to cut the subject out with, a cut in which there is no subject.
    """
    mask = given_mask(reference)
    if mask is None and matter is None:
        raise ValueError(
            f"the subject of {reference.title} is not cut out and there is no matting model; give an image with transparency "
            "or a subject mask, call it a background to use it whole, or give the model a matter such as BiRefNet"
        )
    if mask is None:
        assert matter is not None
        mask = matter.cut(np.ascontiguousarray(reference.image[..., :3]))
        assert mask.dtype == np.bool_ and mask.shape == reference.image.shape[:2], (  # noqa: PT018 - one contract
            "a matter gives a bool mask of the image's size"
        )
        if not mask.any():
            raise ValueError(
                f"no subject was found in {reference.title}; give an image that is cut out (with transparency), "
                "or call it a background to use it whole"
            )
    return replace(reference, subject_mask=mask)


def given_mask(reference: Reference) -> NDArray[np.bool_] | None:
    """The mask that needs no model, in this order: the given one, alpha >= 128, all of a background; None where there is none.

    An image that is opaque everywhere counts as one without alpha. Raises ValueError where the mask is empty.
    """
    mask, image = reference.subject_mask, reference.image
    if mask is None and image.shape[2] == 4 and not (image[..., 3] == 255).all():
        mask = image[..., 3] >= 128
    if mask is None and reference.kind == "background":
        mask = np.ones(image.shape[:2], dtype=bool)
    if mask is not None and not mask.any():
        raise ValueError(
            f"nothing of {reference.title} belongs to its subject (its mask is empty, or it is transparent everywhere); "
            "mark the subject, or leave the mask out"
        )
    return mask


@dataclass(frozen=True)
class Segmenter:
    """A matter from a segmentation model of transformers with two labels, 0 background and 1 subject, such as the embedded one.

    `model.config.image_size` is the side of the square it was trained on; pictures are squeezed into it.
    """

    model: Any

    @classmethod
    def from_pretrained(cls, path: str | Path, dtype: torch.dtype = torch.float32) -> "Segmenter":
        """Load a folder that `save_pretrained` wrote."""
        from transformers import SegformerForSemanticSegmentation

        return cls(SegformerForSemanticSegmentation.from_pretrained(path, dtype=dtype).eval())

    def save_pretrained(self, path: str | Path) -> None:
        """Write an ordinary folder of transformers: config.json and safetensors."""
        self.model.save_pretrained(path)

    @torch.no_grad()
    def cut(self, image_YX3: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """See `Matter`."""
        parameter = next(self.model.parameters())
        pixels = to_pixels(image_YX3, int(self.model.config.image_size)).to(parameter.device, parameter.dtype)
        logits_2YX = self.model(pixel_values=pixels).logits[0].float()
        return _at_size(logits_2YX[1] - logits_2YX[0], image_YX3)


@dataclass(frozen=True)
class BiRefNet:
    """BiRefNet from the hub, the paper's choice: downloaded when the first picture is cut out.

    Its model class comes with its weights, so using it runs that repository's code (`trust_remote_code`); name a `revision` that you
    have read to keep it from changing. That code needs timm, kornia and einops.
    """

    model_id: str = "ZhengPeng7/BiRefNet"
    revision: str | None = None
    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    image_size: int = 1024
    """Side of the square that it was trained on; pictures are squeezed into it, as in its own example."""

    @cached_property
    def model(self) -> Any:
        """The network. Raises ValueError where it cannot be had."""
        from transformers import AutoModelForImageSegmentation

        try:
            loaded = AutoModelForImageSegmentation.from_pretrained(
                self.model_id, revision=self.revision, trust_remote_code=True
            )
        except (OSError, ValueError, ImportError) as error:
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise ValueError(
                f"the matting model {self.model_id!r} cannot be loaded ({reason.rstrip('.')}); check the connection and "
                "`pip install timm kornia einops`, or give cut-out images"
            ) from error
        return loaded.eval().requires_grad_(False).to(self.device, self.dtype)

    @torch.no_grad()
    def cut(self, image_YX3: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """See `Matter`."""
        pixels = to_pixels(image_YX3, self.image_size).to(self.device, self.dtype)
        stages = self.model(pixels)  # one map of logits for each of its stages, the last at full size
        return _at_size(stages[-1][0, 0].float(), image_YX3)


def to_pixels(image_YX3: NDArray[np.uint8], size: int) -> Tensor:
    """A picture as [1, 3, size, size], squeezed into the square, in ImageNet's colours."""
    square = Image.fromarray(image_YX3).resize((size, size), Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(square)).permute(2, 0, 1)[None].float() / 255
    return (pixels - torch.tensor(_MEAN).view(1, 3, 1, 1)) / torch.tensor(_STD).view(1, 3, 1, 1)


def _at_size(logits_YX: Tensor, image_YX3: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where the logits, stretched to the image's size, are positive."""
    size = image_YX3.shape[:2]
    stretched = functional.interpolate(logits_YX[None, None], size=size, mode="bilinear", align_corners=False)
    return np.asarray((stretched[0, 0] > 0).cpu().numpy())
