import pickle
from dataclasses import replace
from pathlib import Path

import pytest
from small_films import Doubled, Unopened

from anyref.curation.stage import Outcome, Record, Resources, canonical, config_hash, input_hash
from anyref.curation.store import Store
from anyref.curation.work import Child


def test_a_record_is_changed_by_making_another() -> None:
    record = Record("a", "clip", {"scores": {"blur": 1}, "x": 2})
    changed = record.with_values({"scores.flow": 3, "x": 4})
    assert changed["scores"] == {"blur": 1, "flow": 3} and changed["x"] == 4
    assert record["scores"] == {"blur": 1} and record["x"] == 2
    assert "scores.flow" in changed and "scores.flow" not in record
    assert record.get("scores.flow", 7) == 7 and record.get("none.at.all") is None
    assert pickle.loads(pickle.dumps(record)) == record
    assert Record.from_json(record.to_json()) == record
    with pytest.raises(TypeError):
        record.values["x"] = 5  # type: ignore[index]


def test_hashes_tell_settings_and_inputs_apart_and_nothing_else() -> None:
    stage = Doubled()
    assert config_hash(stage) == config_hash(replace(stage, resources=Resources(cpus=3)))
    assert config_hash(stage) != config_hash(replace(stage, factor=3))
    record = Record("a", "source", {"number": 1, "other": 1})
    assert input_hash(stage, record) == input_hash(stage, record.with_values({"other": 2}))
    assert input_hash(stage, record) != input_hash(stage, record.with_values({"number": 2}))
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical({"x": float("nan")})


def test_an_outcome_has_a_reason_or_records() -> None:
    with pytest.raises(AssertionError):
        Outcome("dropped")
    with pytest.raises(AssertionError):
        Outcome("failed", "because", (Record("a", "clip"),))


def test_a_stage_that_does_not_open_is_no_record_s_fault(tmp_path: Path) -> None:
    hands = Child(Unopened())
    try:
        outcome = hands.work(Record("one", "clip", {"number": 1}), Store(str(tmp_path), str(tmp_path)))
    finally:
        hands.close()
    assert outcome == Outcome("failed", "there are no weights")
