"""Image file -> Reference: pixels, what kind of thing it shows, and the words of the prompt it belongs to.

What enters: a path, a PIL image or an array. What leaves: a `Reference`, uint8 RGB [Y, X, 3] or RGBA [Y, X,
4]. Files are read the way a viewer shows them (EXIF rotation, palettes, CMYK, 16 bits); what cannot be read
is one ValueError of one sentence. No torch here.
"""

import io
import struct
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from anyref.samples import KINDS, Kind

MAX_PIXELS = 100_000_000
"""Larger files are refused before they are decoded."""
MIN_SIDE = 4
"""Smaller pictures show nothing that could be recognised."""

_DECODE_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, AttributeError, OverflowError, struct.error, zlib.error,
)  # fmt: skip
"""What Pillow's decoders raise on damaged files: each format has its own."""


@dataclass(frozen=True, eq=False)
class Reference:
    """One reference image and what the user says about it.

    `image` is uint8 RGB [Y, X, 3] or RGBA [Y, X, 4] (alpha straight, not premultiplied). `subject_mask` True:
    the subject is there. `weight` in [0, 2]: 1 is the published behaviour, 0 leaves the reference out; each
    method says what lies between. `phrase` are words of the prompt, named by the user; `label` is a class
    noun ("dog") that a method may look for in the prompt. Raises ValueError for another dtype or shape, a
    weight outside the range, and an image that is transparent everywhere.
    """

    image: NDArray[np.uint8]
    kind: Kind = "object"
    phrase: str | None = None
    subject_mask: NDArray[np.bool_] | None = None
    weight: float = 1.0
    label: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        image, what = self.image, self.title
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (3, 4) or 0 in image.shape:
            raise ValueError(
                f"{what} is an array of {image.dtype} {image.shape}; it must be uint8 of shape (rows, columns, 3 or 4); "
                "convert it or pass a PIL image"
            )
        if image.shape[2] == 4 and not image[..., 3].any():
            raise ValueError(f"{what} is transparent everywhere; give an image with something visible in it")
        if self.kind not in KINDS:
            raise ValueError(f"{what} has kind {self.kind!r}; it must be one of {', '.join(KINDS)}")
        if not 0 <= self.weight <= 2:
            raise ValueError(
                f"{what} has weight {self.weight}; it must lie between 0 and 2; 1 is the published behaviour"
            )
        if self.phrase is not None and not self.phrase.strip():
            raise ValueError(f"{what} has an empty phrase; give words of the prompt or leave the phrase out")
        mask = self.subject_mask
        if mask is not None and (mask.dtype != np.bool_ or mask.shape != image.shape[:2]):
            raise ValueError(
                f"the subject mask of {what} is {mask.dtype} {mask.shape}; it must be bool of the image's {image.shape[:2]}"
            )

    @property
    def title(self) -> str:
        """What messages call this reference."""
        return f"reference {self.name!r}" if self.name else "the reference image"


class Fitted(NamedTuple):
    """An image scaled into a box, and where in the box its top left corner goes."""

    image: NDArray[np.uint8]
    top: int
    left: int


Source = str | Path | Image.Image | NDArray[np.uint8] | Reference
"""What a reference can be given as."""


def load_references(
    sources: Source | Sequence[Source] | Sequence[Sequence[Source]] | None, count: int
) -> list[list[Reference]]:
    """One list of references for each of `count` prompts, from one image, a list (all prompts share it) or a
    list per prompt; None: none.

    Raises ValueError where lists and images are mixed, and where the lists are not as many as the prompts.
    """
    if sources is None:
        return [[] for _ in range(count)]
    entries: list[Any] = list(sources) if isinstance(sources, list | tuple) else [sources]
    nested = [isinstance(entry, list | tuple) for entry in entries]
    if not any(nested):
        return [[load_reference(entry) for entry in entries]] * count
    if not all(nested):
        raise ValueError(
            "reference_images mixes images and lists of images; give one list, or one list for each prompt"
        )
    if len(entries) != count:
        raise ValueError(
            f"reference_images has {len(entries)} lists for {count} prompts; give one list for each prompt"
        )
    return [[load_reference(entry) for entry in row] for row in entries]


def load_reference(
    source: Source,
    *,
    phrase: str | None = None,
    kind: Kind | None = None,
    label: str | None = None,
    weight: float | None = None,
) -> Reference:
    """Read one reference image.

    Files: anything Pillow reads; the first frame of an animation, turned as its EXIF data say, CMYK through
    its colour profile where it has one, 16 bits scaled to 8, transparency kept. A PIL image is taken at the
    frame it stands on; an array is uint8, grey, RGB or RGBA. A `Reference` comes back with the given fields
    replaced. Where the image has transparency, the subject mask is alpha >= 128. Raises ValueError: missing,
    a folder, empty, damaged, not an image, over 100 megapixels, under 4 pixels on a side, transparent
    everywhere.
    """
    if isinstance(source, Reference):
        reference = source
    elif isinstance(source, Image.Image):
        reference = _reference_from(source, "the reference image", None)
    elif isinstance(source, np.ndarray):
        array = source[..., 0] if source.ndim == 3 and source.shape[2] == 1 else source
        if array.ndim == 2:
            array = np.repeat(array[..., None], 3, axis=2)
        reference = Reference(np.ascontiguousarray(array))
        _check_size(array.shape[1], array.shape[0], "the reference image")
        reference = replace(reference, subject_mask=_mask_of(array))
    elif isinstance(source, str | Path):
        reference = _read(Path(source))
    else:
        raise ValueError(
            f"a reference is a {type(source).__name__}; it must be a path, a PIL image, a uint8 array or a Reference"
        )
    return replace(
        reference,
        phrase=reference.phrase if phrase is None else phrase,
        kind=reference.kind if kind is None else kind,
        label=reference.label if label is None else label,
        weight=reference.weight if weight is None else weight,
    )


def composite_on(reference: Reference, rgb: tuple[int, int, int] = (255, 255, 255)) -> NDArray[np.uint8]:
    """The reference on a plain background: uint8 RGB [Y, X, 3], rounded as Pillow's paste does."""
    if reference.image.shape[2] == 3:
        return reference.image
    image = Image.fromarray(reference.image)
    background = Image.new("RGB", image.size, rgb)
    background.paste(image, mask=image.getchannel("A"))
    return np.asarray(background)


def fit(image: NDArray[np.uint8], height: int, width: int) -> Fitted:
    """Scale an RGB or RGBA image up or down with LANCZOS until it touches two sides of the box; centred, an
    odd pixel going right and down.

    The free side is floored, at least 1. The quotients are floats and in this order because the release's
    are: exact integers would round a few sizes differently.
    """
    source = Image.fromarray(image)
    aspect = source.width / source.height
    wide = aspect > width / height
    size = (width, max(1, int(width / aspect))) if wide else (max(1, int(height * aspect)), height)
    scaled = np.asarray(source.resize(size, Image.Resampling.LANCZOS))
    return Fitted(scaled, (height - size[1]) // 2, (width - size[0]) // 2)


def _read(path: Path) -> Reference:
    what = f"the reference image {str(path)!r}"
    try:
        if path.is_dir():
            raise ValueError(f"{what} is a folder; name one image file")
        if not path.is_file():
            raise ValueError(f"{what} does not exist; check the path")
        if path.stat().st_size == 0:
            raise ValueError(f"{what} is empty (0 bytes); export or download it again")
        file = path.open("rb")
    except OSError as error:
        raise ValueError(
            f"{what} cannot be read ({error.strerror}); check the path and its permissions"
        ) from error
    with file:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore", Image.DecompressionBombWarning
                )  # refused by MAX_PIXELS, just above Pillow's
                opened = Image.open(file)
        except Image.DecompressionBombError as error:
            raise ValueError(
                f"{what} has over {MAX_PIXELS // 1_000_000} megapixels; scale it down first"
            ) from error
        except UnidentifiedImageError as error:
            raise ValueError(f"{what} is not an image that can be read; save it as PNG or JPEG") from error
        except _DECODE_ERRORS as error:
            raise ValueError(f"{what} is damaged; export or download it again") from error
        return _reference_from(opened, what, path.stem)


def _reference_from(image: Image.Image, what: str, name: str | None) -> Reference:
    _check_size(image.width, image.height, what)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", UserWarning
            )  # Pillow warns about odd metadata of images it reads well
            image.load()
            upright = ImageOps.exif_transpose(image)
    except _DECODE_ERRORS as error:
        raise ValueError(f"{what} is damaged or cut short; export or download it again") from error
    array = np.array(_to_rgb(upright, what))
    if array.shape[2] == 4 and (array[..., 3] == 255).all():
        array = np.ascontiguousarray(array[..., :3])
    if array.shape[2] == 4 and not array[..., 3].any():
        raise ValueError(f"{what} is transparent everywhere; give an image with something visible in it")
    return Reference(array, subject_mask=_mask_of(array), name=name)


def _to_rgb(image: Image.Image, what: str) -> Image.Image:
    """RGB, or RGBA where the image has transparency; 16 and 32 bits scaled to 8."""
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_eight_bits(np.asarray(image), what)).convert("RGB")
    if image.mode == "CMYK" and image.info.get("icc_profile"):
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
            converted = ImageCms.profileToProfile(
                image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
            assert converted is not None
            return converted
        except (ImageCms.PyCMSError, OSError):
            pass  # a broken profile: the plain conversion below
    try:
        return image.convert("RGBA" if image.has_transparency_data else "RGB")
    except ValueError as error:
        raise ValueError(f"{what} has the colour mode {image.mode}; save it as an RGB PNG or JPEG") from error


def _eight_bits(values: NDArray[np.generic], what: str) -> NDArray[np.uint8]:
    """Grey values of more than 8 bits to uint8: 16-bit integers over 65535, floats over 1, 255 or 65535,
    whichever holds them.
    """
    grey = values.astype(np.float64)
    if not np.isfinite(grey).all() or grey.min() < 0 or grey.max() > 65535:
        raise ValueError(f"{what} has grey values outside 0..65535; save it with 8 or 16 bits")
    if values.dtype.kind == "f" and grey.max() <= 1:
        top = 1.0
    elif values.dtype.itemsize > 2 and grey.max() <= 255:
        top = 255.0
    else:
        top = 65535.0
    return np.rint(grey * (255.0 / top)).astype(np.uint8)


def _check_size(width: int, height: int, what: str) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(
            f"{what} is {width} x {height} pixels; at most {MAX_PIXELS // 1_000_000} megapixels are read; scale it down first"
        )
    if min(width, height) < MIN_SIDE:
        raise ValueError(
            f"{what} is {width} x {height} pixels; each side must have at least {MIN_SIDE}; give a larger picture"
        )


def _mask_of(array: NDArray[np.uint8]) -> NDArray[np.bool_] | None:
    if array.shape[2] == 3 or (array[..., 3] == 255).all():
        return None
    return array[..., 3] >= 128
