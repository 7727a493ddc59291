"""How a picture becomes the tensor of an image encoder, resized, cropped, normalised: in two ways that differ in the third digit of a score.

transformers' processors resize with PIL, which smooths when it shrinks; VBench resizes tensors without smoothing. Published numbers come
from one or the other, so both are here, and neither depends on torchvision being there.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from anyref.files import sha256
from anyref.perception import ModelCard, Picture
from anyref.perception.models import Entry

_CONTENT = "sha256:"


class Colours(NamedTuple):
    """Mean and standard deviation of the channels R, G, B, of values in [0, 1]."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


CLIP = Colours((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
IMAGENET = Colours((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def check(pictures: Sequence[Picture]) -> None:
    """Raise ValueError unless each is uint8 RGB [Y, X, 3] with at least one pixel."""
    for number, picture in enumerate(pictures):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
            raise ValueError(
                f"picture {number} is {picture.dtype} of shape {picture.shape}; give uint8 RGB of shape [Y, X, 3]"
            )


def to_tensor(picture_YX3: Picture) -> Tensor:
    """float32 [1, 3, Y, X], still 0 to 255."""
    return torch.from_numpy(np.ascontiguousarray(picture_YX3)).permute(2, 0, 1)[None].float()


def normalise(pixels_B3YX: Tensor, colours: Colours) -> Tensor:
    """0 to 255 into units of standard deviation."""
    mean = torch.tensor(colours.mean).view(1, 3, 1, 1)
    std = torch.tensor(colours.std).view(1, 3, 1, 1)
    return (pixels_B3YX / 255 - mean) / std


def shorter_side(
    picture_YX3: Picture, size: int, mode: Literal["bilinear", "bicubic"], *, smooth: bool
) -> Tensor:
    """Resize so that the shorter side is `size`: float32 [1, 3, Y, X], whole numbers from 0 to 255.

    torchvision's `Resize` on a uint8 tensor, which VBench uses with `antialias=False`: the longer side is truncated, the result rounded.
    """
    height, width = picture_YX3.shape[:2]
    long = int(size * max(height, width) / min(height, width))
    target = (size, long) if height <= width else (long, size)
    resized = functional.interpolate(
        to_tensor(picture_YX3), target, mode=mode, align_corners=False, antialias=smooth
    )
    return resized.round().clamp(0, 255)


def centre(pixels_B3YX: Tensor, size: int) -> Tensor:
    """The square of `size` in the middle, with torchvision's rounding."""
    top = round((pixels_B3YX.shape[2] - size) / 2)
    left = round((pixels_B3YX.shape[3] - size) / 2)
    return pixels_B3YX[:, :, top : top + size, left : left + size]


def vbench_square(picture_YX3: Picture, size: int) -> Tensor:
    """VBench's `clip_transform`: bicubic without smoothing, centre crop, CLIP's colours. float32 [1, 3, size, size]."""
    return normalise(centre(shorter_side(picture_YX3, size, "bicubic", smooth=False), size), CLIP)


def square(picture_YX3: Picture, size: int, colours: Colours) -> Tensor:
    """Squeezed into a square, bilinear and smoothed, as SAM2 sees pictures. float32 [1, 3, size, size]."""
    resized = functional.interpolate(
        to_tensor(picture_YX3), (size, size), mode="bilinear", align_corners=False, antialias=True
    )
    return normalise(resized, colours)


def unit(vectors_BD: Tensor) -> NDArray[np.float32]:
    """Rows of length 1 as float32 on the CPU."""
    vectors: NDArray[np.float32] = functional.normalize(vectors_BD.detach().float(), dim=-1).cpu().numpy()
    return vectors


def pil(pictures: Sequence[Picture]) -> list[Image.Image]:
    """The same pictures for the processors of transformers, after `check`."""
    check(pictures)
    return [Image.fromarray(picture) for picture in pictures]


def card(entry: Entry, model: object = None) -> ModelCard:
    """Which model answers: the row of the table, with the commit that was really loaded where the model or the hub's cache knows it, else the
    files' hash. To be asked once the weights are loaded."""
    config = getattr(model, "config", None)
    revision = (
        getattr(config, "_commit_hash", None)
        or _cached_commit(entry)
        or entry.revision
        or content_hash(entry.source)
    )
    return ModelCard(entry.name, entry.source, revision, entry.licence, entry.commercial)


def _cached_commit(entry: Entry) -> str:
    """The commits, joined by "+", that the hub's cache holds of the source's repositories; "" where a commit is named or there is none."""
    if entry.revision or not entry.source or Path(entry.source).exists():
        return ""
    from huggingface_hub.constants import HF_HUB_CACHE

    commits = []
    for repository in entry.source.split("+"):
        kept = Path(HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}" / "refs" / "main"
        if "://" in repository or not kept.is_file():
            return ""
        commits.append(kept.read_text(encoding="utf-8").strip())
    return "+".join(commits)


def content_hash(place: str) -> str:
    """ "sha256:..." of a file or of a folder with all that is in it; "" for what is neither, such as an address."""
    if not place or not Path(place).exists():
        return ""
    return f"{_CONTENT}{sha256(Path(place))}"


def hub_revision(entry: Entry, number: int = 0) -> str | None:
    """The revision to ask the hub for, of the source's repository `number` where several are joined by "+"; None for a folder of the user's
    own, and where the row knows the file by its content."""
    if entry.revision.startswith(_CONTENT):
        return None
    return entry.revision.split("+")[min(number, entry.revision.count("+"))] or None


def weights_file(entry: Entry, file: str) -> Path:
    """Where the file lies: the source itself, what an address leads to, or `file` of a hub repository; fetched where it is not here yet.

    Raises ValueError where the row knows the file by its content and this is another one.
    """
    place = Path(entry.source)
    if entry.source.startswith("https://"):
        place = Path(torch.hub.get_dir()) / "checkpoints" / entry.source.rpartition("/")[2]
        if not place.is_file():
            place.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(entry.source, str(place), progress=False)
    elif not place.is_file():
        from huggingface_hub import hf_hub_download

        place = Path(hf_hub_download(entry.source, file, revision=hub_revision(entry)))
    found = f"{_CONTENT}{sha256(place)}"
    if entry.revision.startswith(_CONTENT) and found != entry.revision:
        raise ValueError(
            f"{place} is not the released {entry.name} ({found} in place of {entry.revision}); delete it, or name a file of your own: "
            f"{entry.name}@FILE"
        )
    return place
