"""Features on disk are computed once, belong to their video, and a damaged file is computed again."""

from pathlib import Path

import numpy as np
import pytest

from anyref.evaluation.features import FeatureCache
from anyref.evaluation.metrics import MemoryFootage, Result


def test_computed_once_and_for_its_video_only(tmp_path: Path) -> None:
    calls: list[int] = []

    def compute() -> np.ndarray:
        calls.append(1)
        return np.arange(6, dtype=np.float32).reshape(2, 3)

    one, other = FeatureCache(tmp_path, "a" * 64), FeatureCache(tmp_path, "b" * 64)
    for cache, key, number in ((one, ("x",), 1), (one, ("x",), 1), (one, ("x", "y"), 2), (other, ("x",), 3)):
        values = cache.get_or_compute(key, compute)
        assert len(calls) == number
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, compute())
        calls.pop()
    FeatureCache(None).get_or_compute(("x",), compute)
    assert len(calls) == 4


@pytest.mark.parametrize("damage", [b"", b"not a zip", None])
def test_a_damaged_file_is_computed_again(tmp_path: Path, damage: bytes | None) -> None:
    cache = FeatureCache(tmp_path, "v")
    cache.get_or_compute(("x",), lambda: np.zeros(100))
    (path,) = tmp_path.rglob("*.npz")
    path.write_bytes(path.read_bytes()[:200] if damage is None else damage)
    np.testing.assert_array_equal(cache.get_or_compute(("x",), lambda: np.ones(3)), np.ones(3))
    np.testing.assert_array_equal(cache.get_or_compute(("x",), lambda: np.zeros(1)), np.ones(3))


def test_results_say_what_they_mean() -> None:
    with pytest.raises(AssertionError, match="a score is nan"):
        Result(float("nan"), 0.0)
    with pytest.raises(AssertionError, match="ok, yet no score"):
        Result(None, None)
    with pytest.raises(AssertionError, match="one score per frame"):
        Result(1.0, 1.0, per_frame=(1.0,), frame_indices=(0, 1))
    missed = Result(None, 0.0, "missed", details={"reason": "nobody"})
    assert (missed.value, missed.strict, missed.status) == (None, 0.0, "missed")


def test_frames_in_memory() -> None:
    footage = MemoryFootage(
        np.arange(3, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    )
    assert [int(frame[0, 0, 0]) for frame in footage.frames_at([2, 0, 2])] == [2, 0, 2]
    assert len(list(footage.frames())) == 3
    with pytest.raises(ValueError, match="of 3 were asked for"):
        footage.frames_at([3])
