"""Read and write videos, and lay references and frames out on a contact sheet.

Frames are uint8 RGB [F, Y, X, 3], images uint8 RGB or RGBA [Y, X, 3 or 4].
"""

import textwrap
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from anyref.files import atomic

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv")
_BT709 = 1  # the number of BT.709 in H.264's tables of matrices, primaries and transfer curves
_CELL = 192  # height in pixels of a picture on a contact sheet
_MARGIN = 8


class Video(NamedTuple):
    """A decoded video: uint8 frames [F, Y, X, 3], and frames per second."""

    frames_FYX3: NDArray[np.uint8]
    fps: float


def check_video_path(path: Path) -> None:
    """Raise ValueError unless `path` could name a video of ours: a known suffix, and no folder of that name."""
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        raise ValueError(
            f"the output {str(path)!r} does not end in a video suffix; use one of {', '.join(VIDEO_SUFFIXES)}"
        )
    if path.is_dir():
        raise ValueError(f"the output {path} is a folder; give the name of a file in it")


def write_video(frames_FYX3: NDArray[np.uint8], path: Path, *, fps: float, crf: int = 14) -> None:
    """Write frames as H.264, yuv420p, BT.709, playable everywhere; atomically.

    `crf` is x264's quality, lower is better; 14 cannot be told from the frames by eye. The format halves the colour planes, so an odd
    width or height grows by one pixel, a copy of the last.
    """
    _check_frames(frames_FYX3)
    check_video_path(path)
    if not 0 < fps <= 240:
        raise ValueError(f"fps is {fps}; it must be above 0 and at most 240")
    odd_rows, odd_columns = frames_FYX3.shape[1] % 2, frames_FYX3.shape[2] % 2
    even = np.pad(frames_FYX3, ((0, 0), (0, odd_rows), (0, odd_columns), (0, 0)), mode="edge")
    matroska = path.suffix.lower() == ".mkv"
    options = {} if matroska else {"movflags": "faststart"}  # starts to play before it is loaded whole
    with (
        atomic(path) as partial,
        av.open(str(partial), "w", format="matroska" if matroska else "mp4", options=options) as out,
    ):
        stream = out.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.height, stream.width = even.shape[1:3]
        stream.pix_fmt = "yuv420p"
        # Macroblock-tree rate control is not deterministic here: one clip in ten came out with other bytes.
        stream.options = {"crf": str(crf), "x264-params": "no-mbtree=1"}
        context = stream.codec_context
        context.color_range = ColorRange.MPEG
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        for picture in even:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24").reformat(
                format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
            )
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def read_video(path: Path) -> Video:
    """Decode a whole video file. Raises ValueError when it cannot be decoded, FileNotFoundError when it is not there."""
    if not path.exists():
        raise FileNotFoundError(f"there is no video {path}; check the path")
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
            fps = float(stream.average_rate or 0)
    except (av.FFmpegError, IndexError) as error:
        raise ValueError(f"{path} is not a video that can be decoded ({error}); convert it to MP4") from error
    if not frames:
        raise ValueError(f"{path} holds no frames; give another video")
    return Video(np.stack(frames).astype(np.uint8), fps)


def write_gif(frames_FYX3: NDArray[np.uint8], path: Path, *, fps: float, scale: int = 1) -> None:
    """Write an endless GIF, atomically, each pixel enlarged to `scale` x `scale`. GIF counts in 1/100 s, so fps is rounded."""
    _check_frames(frames_FYX3)
    size = (frames_FYX3.shape[2] * scale, frames_FYX3.shape[1] * scale)
    pictures = [Image.fromarray(frame).resize(size, Image.Resampling.NEAREST) for frame in frames_FYX3]
    with atomic(path) as partial:
        pictures[0].save(
            partial,
            format="GIF",
            save_all=True,
            append_images=pictures[1:],
            duration=10 * round(100 / fps),
            loop=0,
        )


def contact_sheet(
    references: Sequence[NDArray[np.uint8]],
    frames_FYX3: NDArray[np.uint8],
    caption: str = "",
    labels: Sequence[str] = (),
    num_frames: int = 6,
) -> Image.Image:
    """Lay out the references with their labels in one row, and `num_frames` frames, evenly spaced, in the next; the caption on top.

    Every picture is scaled to the same height, so that a video of 64 rows can be looked at; transparent references lie on white.
    """
    _check_frames(frames_FYX3)
    chosen = np.unique(np.linspace(0, len(frames_FYX3) - 1, num_frames).round().astype(int))
    names = [f"frame {index}" for index in chosen]
    titles = [labels[i] if i < len(labels) else f"reference {i + 1}" for i in range(len(references))]
    rows = [_row([_cell(Image.fromarray(frames_FYX3[index])) for index in chosen], names)]
    if references:
        rows.insert(0, _row([_on_white(image) for image in references], titles))
    width = max(row.width for row in rows)
    font = ImageFont.load_default(16)
    lines = textwrap.wrap(caption, max(20, width // 9)) or [""]
    header = Image.new("RGB", (width, 20 * len(lines) + _MARGIN), "white")
    for number, line in enumerate(lines):
        ImageDraw.Draw(header).text((_MARGIN, _MARGIN + 20 * number), line, fill="black", font=font)
    return stack([header, *rows])


def stack(sheets: Sequence[Image.Image]) -> Image.Image:
    """Put pictures under one another, left-aligned on white."""
    sheet = Image.new("RGB", (max(s.width for s in sheets), sum(s.height for s in sheets)), "white")
    top = 0
    for part in sheets:
        sheet.paste(part, (0, top))
        top += part.height
    return sheet


def save_image(image: Image.Image, path: Path) -> None:
    """Write a picture in the format of its suffix, atomically."""
    with atomic(path) as partial:
        image.save(partial)


def _row(cells: Sequence[Image.Image], labels: Sequence[str]) -> Image.Image:
    font = ImageFont.load_default(13)
    width = sum(cell.width + _MARGIN for cell in cells) + _MARGIN
    row = Image.new("RGB", (width, _CELL + 18 + 2 * _MARGIN), "white")
    left = _MARGIN
    for cell, label in zip(cells, labels, strict=True):
        row.paste(cell, (left, _MARGIN))
        short = textwrap.shorten(label, max(8, cell.width // 7), placeholder="...")
        ImageDraw.Draw(row).text((left, _MARGIN + _CELL + 2), short, fill="gray", font=font)
        left += cell.width + _MARGIN
    return row


def _cell(image: Image.Image) -> Image.Image:
    """Scale to the height of a cell: enlarged with hard pixels, so that nothing is made to look better than it is."""
    method = Image.Resampling.NEAREST if image.height < _CELL else Image.Resampling.LANCZOS
    width = max(1, min(4 * _CELL, round(image.width * _CELL / image.height)))
    return image.resize((width, _CELL), method)


def _on_white(image: NDArray[np.uint8]) -> Image.Image:
    picture = Image.fromarray(image).convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    return _cell(Image.alpha_composite(white, picture).convert("RGB"))


def _check_frames(frames_FYX3: NDArray[np.uint8]) -> None:
    if frames_FYX3.ndim != 4 or frames_FYX3.shape[-1] != 3 or 0 in frames_FYX3.shape:
        raise ValueError(f"frames have shape {frames_FYX3.shape}; give uint8 frames of shape [F, Y, X, 3]")
    if frames_FYX3.dtype != np.uint8:
        raise ValueError(f"frames are {frames_FYX3.dtype}; give uint8, 0 to 255")
