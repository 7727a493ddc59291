import errno
import itertools
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from anyref import footage
from anyref.footage import Start
from anyref.media import write_video

CLIPS = Path(__file__).parents[1].parent / "shared" / "clips" / "videos"


def real(name: str) -> Path:
    if not (CLIPS / name).exists():
        pytest.skip(f"no ../shared/clips/videos/{name}")
    return CLIPS / name


def counted(num_frames: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Frame i is grey of 8 * i, but for a bright upper left corner."""
    frames = np.zeros((num_frames, height, width, 3), np.uint8)
    frames[:] = (8 * np.arange(num_frames, dtype=np.uint8))[:, None, None, None]
    frames[:, :12, :16] = 255
    return frames


@pytest.fixture
def film(tmp_path: Path) -> Path:
    write_video(counted(20), tmp_path / "film.mp4", fps=10)
    return tmp_path / "film.mp4"


def test_frames_come_in_order_with_index_and_time(film: Path) -> None:
    found = list(footage.frames(film))
    assert [frame.index for frame in found] == list(range(20))
    assert np.allclose([frame.time_s for frame in found], np.arange(20) / 10)
    grey = [int(frame.image_YX3[40, 40, 0]) for frame in found]
    assert np.abs(np.array(grey) - 8 * np.arange(20)).max() <= 3
    assert footage.count_frames(film) == 20


def test_a_stretch_is_the_same_however_it_is_reached(film: Path) -> None:
    whole = list(footage.frames(film))
    start = Start(7, whole[7].pts)
    for stretch in (
        footage.frames(film, first=7, last=9),
        footage.frames(film, first=7, last=9, start=start),
    ):
        for got, want in zip(list(stretch), whole[7:9], strict=True):
            assert (got.index, got.pts, got.time_s) == (want.index, want.pts, want.time_s)
            assert np.array_equal(got.image_YX3, want.image_YX3)
    wrong = list(footage.frames(film, first=8, last=9, start=Start(7, whole[7].pts + 1)))
    assert [frame.index for frame in wrong] == [8], "a PTS that is not there: decoded from the beginning"
    assert np.array_equal(wrong[0].image_YX3, whole[8].image_YX3)
    assert list(footage.frames(film, first=3, last=3)) == []


def test_frames_at_keeps_the_order_asked_for(film: Path) -> None:
    pictures = footage.frames_at(film, [9, 2, 9])
    assert np.array_equal(pictures[0], pictures[2]) and pictures[1].mean() < pictures[0].mean()
    assert footage.frames_at(film, []) == []
    with pytest.raises(ValueError, match="has 20 frames; frame 20 was asked for"):
        footage.frames_at(film, [3, 20, 25])
    with pytest.raises(ValueError, match="counted from 0"):
        footage.frames_at(film, [-1])
    with pytest.raises(ValueError, match="has 20 frames; frame 29 was asked for"):
        list(footage.frames(film, last=30))


def test_pictures_are_made_at_the_size_asked_for(film: Path) -> None:
    assert next(footage.frames(film, size=(24, 32))).image_YX3.shape == (24, 32, 3)


def test_variable_frame_rate_keeps_the_times_of_the_file(tmp_path: Path) -> None:
    path, times_ms = tmp_path / "vfr.mkv", [0, 40, 80, 500, 540, 1500]
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        stream.codec_context.max_b_frames = 0
        for time_ms, picture in zip(times_ms, counted(6), strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    found = [round(frame.time_s * 1000) for frame in footage.frames(path)]
    assert found == times_ms


@pytest.mark.parametrize("content", [b"", b"no film", b"\0" * 5000])
def test_what_is_no_film_is_said_in_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.mp4").write_bytes(content)
    for ask in (footage.probe, footage.count_frames, lambda p: list(footage.frames(p))):
        with pytest.raises(ValueError, match=r"x\.mp4 cannot be decoded"):
            ask(tmp_path / "x.mp4")
    with pytest.raises(FileNotFoundError, match="there is no video"):
        footage.probe(tmp_path / "none.mp4")


def test_names_that_look_like_addresses_are_names(tmp_path: Path, film: Path) -> None:
    name = tmp_path / "concat:a|b.mp4"
    name.write_bytes(film.read_bytes())
    assert footage.count_frames(name) == 20


def test_playlists_do_not_lead_to_other_files(tmp_path: Path, film: Path) -> None:
    hls = f"#EXTM3U\n#EXTINF:10,\n{film}\n#EXT-X-ENDLIST\n"
    for text in (hls, f"ffconcat version 1.0\nfile {film.name}\n"):
        (tmp_path / "list.mp4").write_text(text)
        with pytest.raises(ValueError, match="cannot be decoded"):
            footage.probe(tmp_path / "list.mp4")


def test_memory_stays_flat(tmp_path: Path) -> None:
    import tracemalloc

    path = tmp_path / "long.mp4"
    write_video(np.tile(counted(20), (10, 1, 1, 1)), path, fps=10)
    tracemalloc.start()
    for _ in itertools.islice(footage.frames(path), 20):
        pass
    short = tracemalloc.get_traced_memory()[1]
    for _ in footage.frames(path):
        pass
    assert tracemalloc.get_traced_memory()[1] < 2 * short
    tracemalloc.stop()


def test_a_turned_film_stands_upright() -> None:
    path = real("decord_rot90.mov")
    found = footage.probe(path)
    assert (found.width, found.height, found.rotation_degrees) == (320, 568, 270)
    assert next(footage.frames(path)).image_YX3.shape == (568, 320, 3)
    assert next(footage.frames(path, size=(71, 40))).image_YX3.shape == (71, 40, 3)
    # The keyboard's upper edge is dark and the light keys of its corner lie below: turned the wrong way it would not.
    with av.open(str(path)) as container:
        stored = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert np.array_equal(np.rot90(stored, -1), next(footage.frames(path)).image_YX3)


def test_a_delayed_start_begins_at_zero() -> None:
    path = real("psd_delayed_start.mp4")
    assert footage.probe(path).start_pts == 13760
    found = list(footage.frames(path))
    assert found[0].pts == 13760 and found[0].time_s == 0 and len(found) == 24


@pytest.mark.parametrize(
    ("name", "count"),
    [("moviepy_no_duration.webm", 74), ("torchcodec_av1.mkv", 125), ("opens2v_istock_women.mp4", 95)],
)
def test_files_whose_headers_do_not_count_are_counted(name: str, count: int) -> None:
    assert footage.count_frames(real(name)) == count


def test_what_a_header_tells() -> None:
    ten_bits = footage.probe(real("torchcodec_h265_10bits.mp4"))
    assert (ten_bits.codec, ten_bits.pixel_format, ten_bits.fps) == ("hevc", "yuv420p10le", 30.0)
    assert footage.probe(real("moviepy_transparent.webm")).has_alpha
    full = footage.probe(real("intel_asl_book.mkv"))
    assert full.color_range == "full" and full.num_frames is None and full.start_pts == 33


def test_damage_is_found_where_it_is() -> None:
    with pytest.raises(ValueError, match="cannot be decoded after frame 27"):
        footage.count_frames(real("decord_corrupted.mp4"))


def test_the_decoder_says_its_version() -> None:
    assert av.__version__ in footage.decoder_version()


def test_a_stream_without_a_codec_is_refused(tmp_path: Path) -> None:
    # Noise that looks like an MPEG program stream: one video stream, of which nothing says how it is coded.
    pack = b"\x00\x00\x01\xba\x44\x00\x04\x00\x04\x01\x00\x00\x03\xf8"
    packet = b"\x00\x00\x01\xe0" + (1000).to_bytes(2, "big") + b"\x80\x00\x00" + b"\x55" * 997
    path = tmp_path / "noise.mp4"
    path.write_bytes((pack + packet) * 20)
    for read in (footage.probe, footage.count_frames, lambda one: list(footage.frames(one))):
        with pytest.raises(ValueError, match="its codec is not named"):
            read(path)


@pytest.mark.parametrize(("matrix", "full"), [("601", False), ("601", True), ("709", False)])
def test_planes_are_the_picture(matrix: str, full: bool) -> None:
    # A frame's planes and its RGB say the same, to the integers of FFmpeg; grey is grey, at every luma.
    cv2 = pytest.importorskip("cv2")
    for luma, blue, red in [(120, 90, 170), (60, 140, 100), (200, 128, 128), (17, 128, 128)]:
        stored = VideoFrame(32, 16, "yuvj420p" if full else "yuv420p")
        stored.colorspace = 1 if matrix == "709" else 5
        for plane, value in zip(stored.planes, (luma, blue, red), strict=True):
            plane.update(bytes([value]) * plane.buffer_size)
        frame = footage.Frame(0, 0, 0.0, stored, None, VideoReformatter())
        planes = frame.planes
        assert planes is not None
        assert planes.luma_YX.shape == (16, 32)
        assert planes.blue_yx.shape == (8, 16)
        colours = np.array([[[planes.shades.luma[luma], red, blue]]], np.uint8)
        made = cv2.transform(colours, planes.shades.to_rgb_34)[0, 0].astype(int)
        assert np.abs(frame.image_YX3[8, 16].astype(int) - made).max() <= 2
    shades = footage._shades(matrix == "709", full)
    grey = np.stack([shades.luma, np.full(256, 128, np.uint8), np.full(256, 128, np.uint8)], -1)[None]
    assert np.array_equal(cv2.transform(grey, shades.to_rgb_34)[0], np.repeat(shades.luma[:, None], 3, 1))


def test_planes_are_only_of_what_is_stored_as_planes() -> None:
    assert footage.Frame(0, 0, 0.0, VideoFrame(32, 16, "rgb24"), None, VideoReformatter()).planes is None


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.EMFILE, OSError), (errno.EACCES, PermissionError), (errno.EIO, ValueError)]
)
def test_what_says_nothing_of_the_file_is_not_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception]
) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(b"x")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(footage.av, "open", refuse)
    with pytest.raises(kind) as caught:
        footage.probe(path)
    assert isinstance(caught.value, ValueError) == (kind is ValueError)
