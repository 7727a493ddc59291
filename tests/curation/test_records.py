import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_films import CLIPS

from anyref import runlengths
from anyref.curation.records import (
    Background,
    Caption,
    Clip,
    FaceRow,
    FaceView,
    Lineage,
    ObjectRow,
    Rectangle,
    Sample,
    Score,
    Source,
    TagRow,
    Variant,
    from_json,
    from_row,
    parquet_schema,
    to_json,
    to_row,
)
from anyref.runlengths import RunLengths


def a_sample() -> Sample:
    source = Source(
        "a.mp4", "0" * 64, 1, "CC0", "g", "h264", "yuv420p", 64, 48, 0, 8.0, 10, 1.25, 0, (1, 8),
        False, "limited", False, "PyAV",
    )  # fmt: skip
    clip = Clip(0, 9, 0, 8, 0.0, 1.0, 9, 0, Rectangle(0, 0, 48, 64))
    view = FaceView("f.png", 3, Rectangle(0.5, 1, 2, 3), (1.0, 2.0), (1.0, 2.0, 3.0), 0.5, 0.5, None)
    variant = Variant("v.png", "crossclip", "f0", similarity_identity=0.6, accepted=False, reason="no face")
    thing = ObjectRow(
        "o", "dog", None, "animal", 0, 3, 3, Rectangle(0, 0, 1, 1), RunLengths((2, 2), "04"), 0.5, 0.5,
        {"solidity": 0.9}, (variant,), aliases=("puppy",),
    )  # fmt: skip
    return Sample(
        1, "x", source, clip, {"blur": Score(1.5, "m", 1), "flow": Score(None, "m", 1)},
        Caption("dog", "m", "p", 3, None, "ok"), (TagRow(0, 3, "dog", "animal", "dog", None),),
        (FaceRow("f", "i", None, None, None, view, (view,), (variant,)),), (thing,),
        Background("b.png", 0, None, "cv2"), (Lineage("probe", 1, "c", "i", "ok", ""),), "train", None,
    )  # fmt: skip


def test_a_sample_survives_json_and_parquet() -> None:
    sample = a_sample()
    assert from_json(Sample, json.loads(json.dumps(to_json(sample)))) == sample
    table = pa.Table.from_pylist([to_row(sample)], schema=parquet_schema())
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    assert from_row(pq.read_table(buffer).to_pylist()[0]) == sample


def test_rows_of_another_schema_are_refused() -> None:
    row = to_json(a_sample().clip)
    with pytest.raises(ValueError, match="does not fit schema"):
        from_json(Clip, {**row, "extra": 1})
    row.pop("shot")
    with pytest.raises(ValueError, match="does not fit schema"):
        from_json(Clip, row)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_run_lengths_invert(height: int, width: int, density: float, seed: int) -> None:
    subject_mask = np.random.default_rng(seed).random((height, width)) < density
    assert np.array_equal(runlengths.decode(runlengths.encode(subject_mask)), subject_mask)


def test_run_lengths_are_cocos() -> None:
    assert runlengths.encode(np.eye(4, dtype=bool)).counts == "01400000"
    found = sorted((CLIPS / "recorded" / "opens2v_demo").rglob("*.json"))
    masks = [mask for path in found for mask in _masks(json.loads(path.read_text()))]
    if not masks:
        pytest.skip("no recorded masks in ../shared/clips")
    for size, counts in masks:
        runs = RunLengths((size[0], size[1]), counts)
        assert runlengths.encode(runlengths.decode(runs)) == runs


def _masks(value: object) -> list[tuple[list[int], str]]:
    if isinstance(value, dict):
        if isinstance(value.get("counts"), str):
            return [(value["size"], value["counts"])]
        return [m for inside in value.values() for m in _masks(inside)]
    return [m for inside in value for m in _masks(inside)] if isinstance(value, list) else []


def test_damaged_run_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="is damaged"):
        runlengths.decode(RunLengths((3, 3), "04"))
