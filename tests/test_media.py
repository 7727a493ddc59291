"""Videos survive the file, and a failed write leaves nothing."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from anyref import media


@pytest.fixture
def frames() -> NDArray[np.uint8]:
    """Three bands of colour, and a yellow square that moves to the right."""
    video = np.zeros((9, 48, 96, 3), np.uint8)
    video[:, :, :32], video[:, :, 32:64], video[:, :, 64:] = (220, 30, 30), (30, 200, 40), (20, 40, 230)
    for index in range(len(video)):
        video[index, 16:32, 8 * index : 8 * index + 16] = (250, 250, 10)
    return video


@pytest.mark.parametrize("suffix", media.VIDEO_SUFFIXES)
def test_round_trip_keeps_frames_rate_and_colours(
    frames: NDArray[np.uint8], tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"video{suffix}"
    media.write_video(frames, path, fps=15)
    read = media.read_video(path)
    assert read.fps == 15
    assert read.frames_FYX3.shape == frames.shape
    difference = np.abs(read.frames_FYX3.astype(int) - frames)
    assert difference.mean() < 4
    assert np.median(difference) <= 4, "flat colours come back: the matrix is written down and used"


def test_every_player_can_read_it(frames: NDArray[np.uint8], tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    media.write_video(frames, path, fps=24000 / 1001)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert stream.average_rate == Fraction(24000, 1001)
    assert path.read_bytes().find(b"moov") < path.read_bytes().find(b"mdat"), "the index stands first"


def test_odd_sizes_grow_by_a_copy_of_the_edge(frames: NDArray[np.uint8], tmp_path: Path) -> None:
    media.write_video(frames[:, :47, :95], tmp_path / "odd.mp4", fps=8)
    read = media.read_video(tmp_path / "odd.mp4").frames_FYX3
    assert read.shape == frames.shape
    assert np.abs(read[:, 47].astype(int) - read[:, 46]).mean() < 8


def test_same_frames_same_file(frames: NDArray[np.uint8], tmp_path: Path) -> None:
    media.write_video(frames, tmp_path / "a.mp4", fps=8)
    media.write_video(frames, tmp_path / "b.mp4", fps=8)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_a_failed_write_leaves_the_old_file(
    frames: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "video.mp4"
    path.write_bytes(b"old")

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(media.av.VideoFrame, "from_ndarray", fail)
    with pytest.raises(RuntimeError, match="disk"):
        media.write_video(frames, path, fps=8)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros((4, 16, 16), np.uint8), "shape"),
        (np.zeros((0, 16, 16, 3), np.uint8), "shape"),
        (np.zeros((4, 16, 16, 3), np.float32), "uint8"),
    ],
)
def test_frames_are_checked(wrong: NDArray[np.uint8], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        media.write_video(wrong, tmp_path / "video.mp4", fps=8)


@pytest.mark.parametrize("fps", [0, -1, 1000, float("nan")])
def test_rate_is_checked(frames: NDArray[np.uint8], fps: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fps"):
        media.write_video(frames, tmp_path / "video.mp4", fps=fps)
    assert not list(tmp_path.iterdir())


def test_names_are_checked(tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    for name, message in (("video.avi", "suffix"), ("video", "suffix"), ("folder.mp4", "folder")):
        with pytest.raises(ValueError, match=message):
            media.check_video_path(tmp_path / name)
    media.check_video_path(tmp_path / "VIDEO.MP4")


def test_what_is_no_video_is_said(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("hello")
    (tmp_path / "empty.mp4").write_bytes(b"")
    for name in ("text.mp4", "empty.mp4"):
        with pytest.raises(ValueError, match="not a video"):
            media.read_video(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="no video"):
        media.read_video(tmp_path / "missing.mp4")


def test_gif_moves_and_is_enlarged(frames: NDArray[np.uint8], tmp_path: Path) -> None:
    media.write_gif(frames, tmp_path / "video.gif", fps=8, scale=2)
    with Image.open(tmp_path / "video.gif") as gif:
        assert gif.size == (192, 96)
        assert getattr(gif, "n_frames", 1) == len(frames)


def test_contact_sheet_shows_references_and_frames(frames: NDArray[np.uint8]) -> None:
    red = np.full((30, 20, 3), (255, 0, 0), np.uint8)
    ghost = np.zeros((20, 30, 4), np.uint8)
    sheet = media.contact_sheet([red, ghost], frames, "the square moves", ["a red page"])
    pixels = np.asarray(sheet)
    assert (pixels == (255, 0, 0)).all(axis=-1).sum() > 10_000, "the reference is there, enlarged"
    assert (pixels == (250, 250, 10)).all(axis=-1).sum() > 10_000, "the frames are there"
    assert (pixels == 0).all(axis=-1).sum() < 5_000, "transparency lies on white, not on black"


def test_contact_sheet_without_references(frames: NDArray[np.uint8]) -> None:
    """Text alone is a prompt too; a strip of one pixel is no reason to fail."""
    with_reference = media.contact_sheet([np.zeros((8, 8, 3), np.uint8)], frames)
    assert media.contact_sheet([], frames).height < with_reference.height
    assert media.contact_sheet([np.zeros((1, 500, 3), np.uint8)], frames[:1], "x" * 500).height > 0
