"""Decode footage of unknown origin: what a file holds, and its frames as displayed, streamed, whatever its header claims.

Frames are uint8 RGB [Y, X, 3] as a player shows them: rotated, and with square pixels. A frame's index counts decoded frames from 0, so
that it means the same for constant and variable frame rates; its time is the file's own (PTS), counted from the start of the stream.
"""

import errno
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

FOOTAGE_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"),
    *(".flv", ".wmv", ".ogv", ".3gp", ".gif"),
)
MAX_PIXELS = 8192 * 8192
"""Frames larger than this are refused before they are decoded: a header may claim any size, and memory follows it."""

# Only formats that hold their own frames: playlists (HLS, DASH, concat) could make us read other files, or the network.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,ogg,flv,asf,gif,ivf,mxf"
)
_OPEN = {"protocol_whitelist": "file", "format_whitelist": _FORMATS}
_BT709 = 1  # in H.264's table of matrices
_PLANAR = {f"yuv{shade}{layout}p" for shade in ("", "j") for layout in ("420", "422", "444")}
_SHADES = {0: "unknown", 1: "limited", 2: "full"}
_NOT_THE_FILES = {errno.EACCES, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ETIMEDOUT}
"""No right to read it, too many open files, a network store that went away. EIO is not among them: FFmpeg says it of cut off files."""
_FAILURES = (av.FFmpegError, OSError, IndexError, ValueError, OverflowError)


@dataclass(frozen=True)
class Probe:
    """What a file says it holds, checked against its first frame. Counts and durations come from the header and may lie."""

    codec: str
    pixel_format: str
    width: int
    """As displayed: after rotation, in square pixels."""
    height: int
    rotation_degrees: int
    """Counter-clockwise turn that brings the stored picture upright: 0, 90, 180 or 270."""
    fps: float | None
    num_frames: int | None
    duration_s: float | None
    start_pts: int
    """Where the stream begins, in units of `time_base`; not always 0."""
    time_base: Fraction
    """Seconds per unit of PTS."""
    color_range: str
    """limited, full or unknown."""
    has_alpha: bool
    """Whether the file holds transparency; frames are decoded without it."""


@dataclass(frozen=True)
class Planes:
    """A frame as it is stored, before it is made RGB: uint8, and views of the decoder's memory."""

    luma_YX: NDArray[np.uint8]
    blue_yx: NDArray[np.uint8]
    """Cb, at its own, perhaps smaller, size; so is Cr."""
    red_yx: NDArray[np.uint8]
    shades: "Shades"
    """What the numbers mean."""


@dataclass(frozen=True)
class Shades:
    """What the stored numbers mean."""

    luma: NDArray[np.uint8]
    """Table [256]: 0 to 255 for black to white."""
    to_rgb_34: NDArray[np.float32]
    """That luma, Cr, Cb and 1 to red, green and blue. FFmpeg rounds down where this is rounded to the nearest, so half is taken off; grey
    stays grey."""


@dataclass(frozen=True)
class Frame:
    """A decoded frame. `time_s` counts from the start of the stream and never decreases."""

    index: int
    pts: int
    time_s: float
    _stored: VideoFrame
    _size: tuple[int, int] | None
    _reformatter: VideoReformatter

    @cached_property
    def image_YX3(self) -> NDArray[np.uint8]:  # noqa: N802 - a shape
        """As a player shows it; made when it is asked for, since it costs as much as decoding."""
        return _picture(self._stored, self._size, self._reformatter)

    @cached_property
    def planes(self) -> Planes | None:
        """The stored planes of 8-bit 4:2:0, 4:2:2 and 4:4:4, of the displayed size and upright; None for everything else."""
        stored = self._stored
        upright = _rotation(stored) == 0 and _displayed_size(stored) == (stored.height, stored.width)
        if self._size is not None or not upright or stored.format.name not in _PLANAR:
            return None
        luma, blue, red = (
            np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[
                : plane.height, : plane.width
            ]
            for plane in stored.planes
        )
        bt709 = int(stored.colorspace) == _BT709
        full = stored.format.name.startswith("yuvj") or _SHADES.get(int(stored.color_range)) == "full"
        return Planes(luma, blue, red, _shades(bt709, full))


@dataclass(frozen=True)
class Start:
    """A frame to start at: its index and its PTS as an earlier pass found them, so that decoding begins near it."""

    index: int
    pts: int


def probe(path: Path) -> Probe:
    """Read the header and decode one frame. Raises ValueError for what is not footage, FileNotFoundError when it is not there."""
    with _opened(path) as stream:
        first = next(_decoded(stream, path), None)
        if first is None:
            raise ValueError(f"{path} holds no frames; give another video")
        rotation = _rotation(first)
        height, width = _displayed_size(first)
        container: Any = stream.container
        duration_s = None
        if stream.duration is not None and stream.time_base is not None:
            duration_s = float(stream.duration * stream.time_base)
        elif container.duration is not None:
            duration_s = container.duration / av.time_base
        rate = stream.average_rate or stream.guessed_rate
        name = first.format.name
        return Probe(
            codec=stream.codec_context.name,
            pixel_format=name,
            width=width,
            height=height,
            rotation_degrees=rotation,
            fps=float(rate) if rate else None,
            num_frames=stream.frames or None,
            duration_s=duration_s if duration_s is not None and duration_s > 0 else None,
            start_pts=_start_pts(stream, first),
            time_base=Fraction(stream.time_base or Fraction(1, av.time_base)),
            color_range=_SHADES.get(int(first.color_range), "unknown"),
            has_alpha=name.startswith(("yuva", "rgba", "bgra", "argb", "abgr", "gbrap", "ya"))
            or stream.metadata.get("alpha_mode") == "1",
        )


def frames(
    path: Path,
    *,
    first: int = 0,
    last: int | None = None,
    size: tuple[int, int] | None = None,
    start: Start | None = None,
    num_threads: int = 1,
) -> Iterator[Frame]:
    """Frames first <= index < last, one at a time, in the order of display; to the end of the file where `last` is None.

    `size` is (height, width) as displayed. Memory does not grow with the length of the video. With `start`, the container is asked to
    jump to just before it, and the frame of that PTS gets that index; a file that does not let itself be searched is decoded from its
    beginning. Raises ValueError where the file cannot be decoded, or ends before `last`.
    """
    assert 0 <= first <= (first if last is None else last), f"frames {first} to {last}"
    if last == first:
        return
    index, reformatter = -1, VideoReformatter()
    for index, frame, time_s in _indexed(path, first, start, num_threads):
        if index < first:
            continue
        yield Frame(index, int(frame.pts or 0), time_s, frame, size, reformatter)
        if last is not None and index == last - 1:
            return
    if index < 0:
        raise ValueError(f"{path} holds no frames; give another video")
    if last is not None:
        raise ValueError(
            f"{path} has {index + 1} frames; frame {last - 1} was asked for, so give a smaller index"
        )


def frames_at(path: Path, indices: Sequence[int], start: Start | None = None) -> list[NDArray[np.uint8]]:
    """The frames of these indices, in the order of `indices` (repeats allowed), decoded in one pass forward.

    Raises ValueError that names the first index past the end.
    """
    if not indices:
        return []
    if min(indices) < 0:
        raise ValueError(f"frame {min(indices)} was asked for; frames are counted from 0")
    wanted, found, count = sorted(set(indices)), dict[int, NDArray[np.uint8]](), 0
    reformatter = VideoReformatter()
    for index, frame, _ in _indexed(path, wanted[0], start, 1):
        count = index + 1
        if index == wanted[len(found)]:
            found[index] = _picture(frame, None, reformatter)
            if len(found) == len(wanted):
                return [found[index] for index in indices]
    raise ValueError(
        f"{path} has {count} frames; frame {wanted[len(found)]} was asked for, so give a smaller index"
    )


def count_frames(path: Path, num_threads: int = 1) -> int:
    """How many frames can be decoded: by decoding them, because headers lie and packets need not be frames."""
    with _opened(path, num_threads) as stream:
        return sum(1 for _ in _decoded(stream, path))


def decoder_version() -> str:
    """Which decoder made the frames: part of what a stored score was made with."""
    library = ".".join(str(part) for part in av.library_versions["libavcodec"])
    return f"PyAV {av.__version__}, libavcodec {library}"


@contextmanager
def _opened(path: Path, num_threads: int = 1) -> Iterator[VideoStream]:
    """The first video stream. The `file:` prefix keeps names such as `concat:a` or `http:b` names of files."""
    if not path.exists():
        raise FileNotFoundError(f"there is no video {path}; check the path")
    try:
        container = av.open(f"file:{path}", metadata_errors="ignore", options=_OPEN)
    except _FAILURES as error:
        raise _undecodable(path, error) from error
    with container:
        if not container.streams.video:
            raise ValueError(f"{path} has no video stream; give a video")
        stream = container.streams.video[0]
        context: Any = stream.codec_context
        if context is None:  # a stream whose codec a damaged header does not name
            raise ValueError(
                f"{path} cannot be decoded (its codec is not named); convert it to MP4 or leave it out"
            )
        if (context.width or 0) * (context.height or 0) > MAX_PIXELS:
            raise ValueError(
                f"{path} claims frames of {context.width}x{context.height}; the limit is {MAX_PIXELS} pixels"
            )
        context.thread_count = num_threads
        context.thread_type = "AUTO" if num_threads != 1 else "SLICE"
        yield stream


def _decoded(stream: VideoStream, path: Path) -> Iterator[VideoFrame]:
    container: Any = stream.container
    count = 0
    try:
        for frame in container.decode(stream):
            yield frame
            count += 1
    except _FAILURES as error:
        raise _undecodable(path, error, count) from error


def _indexed(
    path: Path, first: int, start: Start | None, num_threads: int
) -> Iterator[tuple[int, VideoFrame, float]]:
    """(index, frame, seconds). From `start` where it helps and the file can be searched, else from the beginning."""
    if start is not None and 0 < start.index <= first:
        with _opened(path, num_threads) as stream:
            found = _searched(stream, path, start)
            if found is not None:
                seconds = _clock(stream)
                zero, time_s = stream.start_time or 0, 0.0
                index = start.index
                yield index, found, float(((found.pts or 0) - zero) * (stream.time_base or 1))
                for index, frame in enumerate(_decoded(stream, path), start.index + 1):
                    time_s = max(time_s, seconds(frame, zero, index))
                    yield index, frame, time_s
                return
    with _opened(path, num_threads) as stream:
        seconds = _clock(stream)
        zero, time_s = 0, 0.0
        for index, frame in enumerate(_decoded(stream, path)):
            zero = _start_pts(stream, frame) if index == 0 else zero
            time_s = max(time_s, seconds(frame, zero, index))
            yield index, frame, time_s


def _searched(stream: VideoStream, path: Path, start: Start) -> VideoFrame | None:
    """The frame whose PTS is exactly `start.pts`, or None where searching does not lead to it."""
    container: Any = stream.container
    try:
        container.seek(start.pts, backward=True, any_frame=False, stream=stream)
        for frame in _decoded(stream, path):
            if frame.pts is None or frame.pts > start.pts:
                return None
            if frame.pts == start.pts:
                return frame
    except ValueError:
        return None
    except av.FFmpegError:
        return None
    return None


def _start_pts(stream: VideoStream, first: VideoFrame) -> int:
    """Containers name their start; raw streams do not, and count from their first frame."""
    if stream.start_time is not None:
        return int(stream.start_time)
    return int(first.pts or 0)


def _clock(stream: VideoStream) -> Callable[[VideoFrame, int, int], float]:
    """Seconds of a frame, from its PTS, the stream's first PTS and its index; asking a stream for its units costs more than the sum."""
    base, rate = stream.time_base, stream.average_rate or stream.guessed_rate
    numerator, denominator = (base.numerator, base.denominator) if base is not None else (0, 1)
    fps = float(rate) if rate else 0.0

    def seconds(frame: VideoFrame, zero: int, index: int) -> float:
        pts = frame.pts
        if pts is not None and base is not None:
            return max(0.0, (pts - zero) * numerator / denominator)
        return index / fps if fps else 0.0

    return seconds


def _rotation(frame: VideoFrame) -> int:
    return round(frame.rotation / 90) % 4 * 90


def _displayed_size(frame: VideoFrame) -> tuple[int, int]:
    """(height, width) after rotation, in square pixels; a ratio beyond 4:1 is taken for a broken header."""
    ratio = getattr(frame, "sample_aspect_ratio", None)
    width = frame.width
    if ratio and ratio != 1 and Fraction(1, 4) <= ratio <= 4:
        width = max(1, round(frame.width * ratio))
    return (width, frame.height) if _rotation(frame) % 180 else (frame.height, width)


def _picture(
    frame: VideoFrame, size: tuple[int, int] | None, reformatter: VideoReformatter
) -> NDArray[np.uint8]:
    """The reformatter keeps its tables from frame to frame; `frame.reformat` would make them anew each time, which costs more than its use."""
    height, width = size or _displayed_size(frame)
    turns = _rotation(frame) // 90
    if turns % 2:
        height, width = width, height
    # Unmarked footage is read as BT.601, as FFmpeg, OpenCV and the published pipelines do.
    source = Colorspace.ITU709 if int(frame.colorspace) == _BT709 else None
    image: Any = reformatter.reformat(
        frame,
        width=width,
        height=height,
        format="rgb24",
        src_colorspace=source,
        interpolation=Interpolation.AREA if size else Interpolation.BILINEAR,
    ).to_ndarray()
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


@cache
def _shades(bt709: bool, full: bool) -> Shades:
    red, blue = (0.2126, 0.0722) if bt709 else (0.299, 0.114)
    green = 1.0 - red - blue
    zero, luma, chroma = (0, 1.0, 1.0) if full else (16, 255 / 219, 255 / 224)
    colours = chroma * np.array(
        [
            [2 * (1 - red), 0],
            [-2 * red * (1 - red) / green, -2 * blue * (1 - blue) / green],
            [0, 2 * (1 - blue)],
        ]
    )
    # OpenCV works with these as multiples of 1 / 1024: rounded here, so that 128 gives nothing at all.
    colours = np.round(colours * 1024) / 1024
    constant = -128 * colours.sum(1) - 0.49
    return Shades(
        luma=np.clip(np.floor((np.arange(256) - zero) * luma + 1e-9), 0, 255).astype(np.uint8),
        to_rgb_34=np.column_stack([np.ones(3), colours, constant]).astype(np.float32),
    )


def _undecodable(path: Path, error: BaseException, count: int = 0) -> Exception:
    """Bad input, but for what says nothing of the file: that is raised as it came, to be tried again."""
    if isinstance(error, OSError) and error.errno in _NOT_THE_FILES:
        return OSError(error.errno, error.strerror, str(path))
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    place = f" after frame {count - 1}" if count else ""
    return ValueError(f"{path} cannot be decoded{place} ({reason}); convert it to MP4 or leave it out")
