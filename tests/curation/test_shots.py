import json
from pathlib import Path

import numpy as np
import pytest
from small_films import CLIPS, fade, shot

from anyref.curation.records import Rectangle, to_json
from anyref.curation.signals import Signals, measure
from anyref.curation.stages.shots import Clips, Cuts, Shots, _borders, _fading, divide, find_cuts
from anyref.media import write_video

WHOLE = Rectangle(0, 0, 64, 96)


def measured(frames: np.ndarray, folder: Path, fps: float = 12) -> Signals:
    write_video(frames, folder / "film.mp4", fps=fps)
    return measure(folder / "film.mp4")


def clips(signals: Signals, cuts: Cuts, settings: Clips) -> list[tuple[int, int]]:
    return [(c.start_frame, c.end_frame) for c in divide(signals, to_json(cuts), WHOLE, settings)]


def test_hard_cuts_and_fades_are_each_found_once(tmp_path: Path) -> None:
    first, second, third = shot(0, 40), shot(1, 40), shot(2, 40)
    dark = np.zeros_like(first[:4])
    frames = np.concatenate([first, fade(second, 10, end=True), dark, fade(third, 10, end=False)])
    signals = measured(frames, tmp_path)
    cuts = find_cuts(signals, 12.0, Shots())
    assert len(cuts.merged) == 2 and cuts.merged[0] == 40 and abs(cuts.merged[1] - 82) <= 2
    found = clips(signals, cuts, Clips(min_s=1.0))
    assert len(found) == 3
    assert found[0] == (0, 37), "a quarter of a second is left out before a cut"
    assert found[1][0] == 43 and found[1][1] <= 71, "no frame of a fade is in a clip"
    assert found[2][0] >= 92 and found[2][1] == len(frames)


def test_one_shot_is_not_cut_and_long_ones_are_divided_evenly(tmp_path: Path) -> None:
    signals = measured(shot(0, 100), tmp_path)
    cuts = find_cuts(signals, 12.0, Shots())
    assert cuts.merged == ()
    assert clips(signals, cuts, Clips()) == [(0, 100)]
    assert clips(signals, cuts, Clips(max_s=5.0)) == [(0, 50), (50, 100)]
    assert clips(signals, cuts, Clips(min_s=9.0)) == []


@pytest.mark.parametrize(
    ("count", "fps"), [(479, 24000 / 1001), (240, 24000 / 1001), (1199, 60.0), (4803, 23.0)]
)
def test_no_clip_is_longer_than_the_bound_that_it_is_cut_for(count: int, fps: float) -> None:
    time_F = np.arange(count) / fps
    borders = _borders(time_F, 0, count, 1 / fps, 10.0)
    lasting = np.diff(borders) / fps
    assert lasting.max() <= 10.0
    assert borders[0] == 0 and borders[-1] == count
    assert np.ptp(np.diff(borders)) <= 1
    assert len(lasting) <= np.ceil(count / fps / 10) + 1


def test_a_picture_that_stands_still_for_long_does_not_stop_the_cutter() -> None:
    time_F = np.concatenate([np.arange(30) / 10, 33 + np.arange(30) / 10])
    borders = _borders(time_F, 0, 60, 0.1, 10.0)
    assert borders == [0, 30, 60]


def test_signals_are_the_same_bytes_again(tmp_path: Path) -> None:
    signals = measured(shot(0, 30), tmp_path)
    again = Signals.from_bytes(signals.to_bytes())
    assert again.to_bytes() == signals.to_bytes() == measure(tmp_path / "film.mp4").to_bytes()
    assert signals.sample_S.tolist() == [0, 6, 12, 18, 24]


@pytest.mark.parametrize(
    ("film", "golden"),
    [
        ("psd_fades.mp4", "fades.mp4"),
        pytest.param("psd_testvideo.mp4", "testvideo.mp4", marks=pytest.mark.slow),
    ],
)
def test_cut_lists_are_pyscenedetects(film: str, golden: str) -> None:
    path, goldens = CLIPS / "videos" / film, CLIPS / "recorded" / "pyscenedetect_goldens"
    if not path.exists() or not goldens.exists():
        pytest.skip("no PySceneDetect goldens in ../shared/clips")
    signals = measure(path)
    cuts = find_cuts(signals, signals.num_frames / (signals.time_F[-1] + signals.time_F[1]), Shots())
    for found, detector in ((cuts.adaptive, "AdaptiveDetector"), (cuts.fades, "ThresholdDetector")):
        wanted = json.loads((goldens / f"{golden}.{detector}.default.json").read_text())["cuts"]
        assert list(found) == wanted


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["cosmos_test_video_30s.mp4", "imageio_cockatoo.mp4", "sam2_bedroom.mp4", "decord_pancake.mkv"]
)
def test_hard_cuts_are_those_found_on_the_whole_pictures(name: str) -> None:
    path = CLIPS / "videos" / name
    if not path.exists():
        pytest.skip(f"no ../shared/clips/videos/{name}")
    entries = json.loads((CLIPS / "manifest.json").read_text())["entries"]
    (wanted,) = [e["measured"]["cuts_adaptive3"] for e in entries if e["file"] == f"videos/{name}"]
    signals = measure(path)
    assert list(find_cuts(signals, 24.0, Shots()).adaptive) == wanted


def test_a_shot_that_slowly_gets_brighter_is_no_fade() -> None:
    """Ten frames up from black at 10 a frame, then 40 of a picture that gains 0.5 a frame."""
    level = np.concatenate([np.linspace(0, 100, 11), 100 + 0.5 * np.arange(1, 41)]).astype(np.float32)
    fading = _fading(level, [0])
    assert fading[:10].all()
    assert not fading[14:].any()
