"""Pictures for the report's gallery: references, and strips of frames with what the metrics found in them, as data inside the page."""

import base64
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from anyref.evaluation.metrics import FileFootage, Mark

HEIGHT_PX = 128
"""Of a frame in a strip; smaller frames stay as they are, and the page enlarges them with hard pixels."""
_JPEG_QUALITY = 82
_GAP_PX = 2
COLOURS = ((230, 75, 53), (60, 120, 200), (0, 160, 110), (240, 170, 20), (150, 90, 190), (120, 120, 120))
"""By reference; the last is for what belongs to none."""


@dataclass(frozen=True)
class Strip:
    """Frames of a video side by side. `overlays`: for each metric with marks, SVG elements in the pixels of the strip."""

    source: str
    width: int
    height: int
    frame_indices: tuple[int, ...]
    small: bool
    """Whether it should be enlarged with hard pixels."""
    overlays: Mapping[str, str]


def filmstrip(path: Path, num_frames: int, marks: Mapping[str, Sequence[Mark]], count: int = 6) -> Strip:
    """Decode `count` frames spread over the video, and lay marks of the metrics over them.

    Each frame gives way to a near one that more metrics looked at. A metric that looked at neither lends the boxes of its nearest frame, dashed.
    Raises ValueError for a video that cannot be decoded.
    """
    indices = looked_at(num_frames, count, marks)
    frames = FileFootage(path).frames_at(indices)
    scale = min(1.0, HEIGHT_PX / frames[0].shape[0])
    height, width = (max(1, round(side * scale)) for side in frames[0].shape[:2])
    sheet = Image.new("RGB", (len(frames) * (width + _GAP_PX) - _GAP_PX, height), "white")
    for number, frame in enumerate(frames):
        picture = Image.fromarray(frame)
        resized = picture if scale == 1 else picture.resize((width, height), Image.Resampling.LANCZOS)
        sheet.paste(resized, (number * (width + _GAP_PX), 0))
    reach = max(1.0, num_frames / max(1, len(indices)) / 2)
    overlays = {
        metric: _overlay(_nearest(found, indices, reach), indices, scale, (height, width))
        for metric, found in marks.items()
        if found
    }
    return Strip(
        _jpeg(sheet),
        *sheet.size,
        indices,
        height < HEIGHT_PX,
        {metric: overlay for metric, overlay in overlays.items() if overlay},
    )


def reference_picture(path: Path) -> str:
    """A reference as data, at most `HEIGHT_PX` high; transparency stays. Raises ValueError where it cannot be read."""
    try:
        with Image.open(path) as opened:
            picture = ImageOps.exif_transpose(opened)
            picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    except (OSError, ValueError) as error:
        raise ValueError(f"the reference {path} is not a picture that can be read ({error})") from error
    picture.thumbnail((4 * HEIGHT_PX, HEIGHT_PX))
    return _png(picture) if picture.mode == "RGBA" else _jpeg(picture)


def spread(num_frames: int, count: int) -> tuple[int, ...]:
    """Frame indices from the first to the last, evenly apart, none twice."""
    return tuple(sorted({round(x) for x in np.linspace(0, num_frames - 1, min(count, num_frames))}))


def looked_at(num_frames: int, count: int, marks: Mapping[str, Sequence[Mark]]) -> tuple[int, ...]:
    """As `spread`, but an index gives way to the frame with marks of most metrics that is within half of the distance to the next, or beside it."""
    metrics = Counter(frame for found in marks.values() for frame in {mark.frame_index for mark in found})
    ideal = spread(num_frames, count)
    reach = max(1.0, (num_frames - 1) / max(1, len(ideal) - 1) / 2)
    chosen = set()
    for index in ideal:
        near = [frame for frame in metrics if abs(frame - index) <= reach and frame < num_frames]
        chosen.add(min(near, key=lambda frame: (-metrics[frame], abs(frame - index)), default=index))
    return tuple(sorted(chosen))


def _nearest(marks: Sequence[Mark], indices: Sequence[int], reach: float) -> list[tuple[int, Mark]]:
    """(place in the strip, mark): for each frame of the strip all marks of the frame nearest to it that has any."""
    marked = sorted({mark.frame_index for mark in marks})
    placed = []
    for place, index in enumerate(indices):
        nearest = min(marked, key=lambda frame: abs(frame - index))
        if abs(nearest - index) <= reach:
            placed += [(place, mark) for mark in marks if mark.frame_index == nearest]
    return placed


def _overlay(
    placed: Sequence[tuple[int, Mark]], indices: Sequence[int], scale: float, size: tuple[int, int]
) -> str:
    height, width = size
    parts = []
    for place, mark in placed:
        left = place * (width + _GAP_PX)
        colour = COLOURS[-1 if mark.reference is None else mark.reference % (len(COLOURS) - 1)]
        exact = mark.frame_index == indices[place]
        if mark.mask is not None and exact:
            picture = _png(_tinted(mark, size, colour))
            parts.append(f'<image x="{left}" y="0" width="{width}" height="{height}" href="{picture}"/>')
        top, box_left, bottom, right = (side * scale for side in mark.box)
        score = "" if mark.score is None else f" {mark.score:.2f}"
        away = "" if exact else f" (frame {mark.frame_index})"
        parts.append(
            f'<rect class="{"" if exact else "near"}" x="{left + box_left:.1f}" y="{top:.1f}" '
            f'width="{max(1.0, right - box_left):.1f}" height="{max(1.0, bottom - top):.1f}" '
            f'stroke="rgb{colour}"><title>{escape(mark.label + score + away)}</title></rect>'
        )
    return "".join(parts)


def _tinted(mark: Mark, size: tuple[int, int], colour: tuple[int, int, int]) -> Image.Image:
    """The mask as a transparent picture of two colours, a few hundred bytes."""
    from anyref.runlengths import RunLengths, decode

    assert mark.mask is not None
    rows, columns = np.asarray(mark.mask["size"], dtype=int).tolist()
    subject_mask = decode(RunLengths((rows, columns), str(mark.mask["counts"])))
    resized = Image.fromarray(subject_mask.astype(np.uint8) * 255).resize(
        size[::-1], Image.Resampling.NEAREST
    )
    tinted = Image.fromarray((np.asarray(resized) > 127).astype(np.uint8), mode="P")
    tinted.putpalette((0, 0, 0, *colour))
    tinted.info["transparency"] = bytes((0, 110))
    return tinted


def _jpeg(picture: Image.Image) -> str:
    return _data(picture, "JPEG", quality=_JPEG_QUALITY)


def _png(picture: Image.Image) -> str:
    return _data(picture, "PNG")


def _data(picture: Image.Image, form: str, quality: int = 0) -> str:
    out = io.BytesIO()
    if form == "JPEG":
        picture.save(out, form, quality=quality)
    else:
        picture.save(out, form, optimize=True)
    return f"data:image/{form.lower()};base64,{base64.b64encode(out.getvalue()).decode()}"
