"""Whose fault it was: what the next run tries again, what it leaves alone, and when a run gives up."""

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from small_films import Doubled, write_films

from anyref.curation import ledger, local
from anyref.curation.local import Local
from anyref.curation.run import curate
from anyref.curation.stage import Outcome, Record, Resources
from anyref.curation.stages.probe import Probe
from anyref.curation.stages.shots import Clips, Shots
from anyref.curation.store import Store

CHILD = Resources(memory_gib=2.0, seconds=2.0, isolated=True)


def numbers(*values: object) -> list[Record]:
    return [Record(f"r{index:03d}", "source", {"number": value}) for index, value in enumerate(values)]


@dataclass(frozen=True)
class Moody(Doubled):
    """Ails as the numbers say until there is a file `.well` in the output."""

    def __call__(self, record: Record, store: Store) -> Outcome:
        if not (Path(store.root) / ".well").exists():
            if record["number"] == "gone":
                raise FileNotFoundError("there is no blob")
            if record["number"] == "silent":
                raise ConnectionRefusedError("http://model did not answer")
            if record["number"] == "full":
                raise MemoryError
            if record["number"] == "slow":
                time.sleep(60)
            if record["number"] == "bad":
                raise ValueError("it is bad")
            if record["number"] == "bug":
                raise KeyError("bug")
        return Outcome.ok(record.with_values({"double": 0}))


@dataclass(frozen=True)
class Stillborn(Doubled):
    """Its process dies while it opens, as for want of memory, until `path` exists."""

    path: str = ""

    def open(self) -> "Stillborn":
        if not Path(self.path).exists():
            os.abort()
        return self

    def __call__(self, record: Record, store: Store) -> Outcome:
        return Outcome.ok(record.with_values({"double": 0}))


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anyref.curation.work._PAUSE_S", 0.01)


@pytest.mark.parametrize("isolated", [False, True])
def test_our_own_failures_are_tried_again_and_bad_input_is_not(tmp_path: Path, isolated: bool) -> None:
    stage = Moody(resources=Resources(isolated=isolated))
    store, records = Store(str(tmp_path)), numbers(1, "gone", 2, "silent", 3, "full", 4, "bad", 5, 6)
    made = curate([stage], store, records=records)
    assert [(loss["record"], loss["status"]) for loss in made.losses] == [
        ("r001", "failed"), ("r003", "failed"), ("r005", "failed"), ("r007", "quarantined"),
    ]  # fmt: skip
    (tmp_path / ".well").touch()
    again = curate([stage], store, records=records)
    assert [(loss["record"], loss["status"]) for loss in again.losses] == [("r007", "quarantined")]


def test_a_process_that_dies_while_opening_is_no_record_s_fault(tmp_path: Path) -> None:
    stage = Stillborn(path=str(tmp_path / "healed"), resources=CHILD)
    store, records = Store(str(tmp_path / "out")), numbers(*range(4))
    with pytest.raises(ValueError, match=r"fails on .*could not be opened \(SIGABRT\)"):
        curate([stage], store, records=records)
    (tmp_path / "healed").touch()
    assert len(curate([stage], store, records=records).records) == 4


def test_a_limit_quarantines_until_it_is_asked_to_try_again(tmp_path: Path) -> None:
    stage, store, records = Moody(resources=CHILD), Store(str(tmp_path)), numbers(1, "slow", "bad")
    first = curate([stage], store, records=records)
    assert [loss["status"] for loss in first.losses] == ["quarantined", "quarantined"]
    (tmp_path / ".well").touch()
    assert curate([stage], store, records=records).losses == first.losses
    healed = curate([stage], store, records=records, retry_quarantined=True)
    assert not healed.losses and len(healed.records) == 3
    assert len(ledger.entries(store, "doubled")) == 3
    assert not curate([stage], store, records=records).losses


def test_a_resumed_run_counts_what_went_well_before(tmp_path: Path) -> None:
    store, records = Store(str(tmp_path)), numbers(*range(40), *["bug"] * 25)
    assert len(curate([Moody()], store, records=records).losses) == 25
    assert len(curate([Moody()], store, records=records).losses) == 25


def test_a_resumed_run_still_gives_up_on_a_stage_that_broke_since(tmp_path: Path) -> None:
    store, records = Store(str(tmp_path)), numbers(*range(100), *["bug"] * 30)
    curate([Moody()], store, records=records[:100])
    with pytest.raises(ValueError, match="fails on 20 of 20 records"):
        curate([Moody()], store, records=records)


@dataclass(frozen=True)
class Threads(Doubled):
    """Says on how many threads torch works."""

    def __call__(self, record: Record, store: Store) -> Outcome:
        import torch

        return Outcome.ok(record.with_values({"double": torch.get_num_threads()}))

    def open(self) -> "Threads":
        import torch  # noqa: F401 -- as a model would

        return self


def test_torch_works_on_one_thread_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        for workers in (1, 2):
            made = curate(
                [Threads()], Store(str(tmp_path / str(workers))), Local(workers), records=numbers(1, 2)
            )
            assert [record["double"] for record in made.records] == [1, 1]
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("share", "asked", "expected"),
    [
        (1.0, 8, ["4", "7"]),
        (0.25, 3, ["4", "7", "4"]),
        (0.25, 99, ["4", "7"] * 4),
        (2.0, 2, ["4,7"]),
        (0.0, 3, [None] * 3),
    ],
)
def test_no_more_workers_than_gpus_hold(
    monkeypatch: pytest.MonkeyPatch, share: float, asked: int, expected: list[str | None]
) -> None:
    monkeypatch.setattr(local, "_devices", lambda: ["4", "7"])
    stage = Doubled(resources=Resources(gpus=share))
    if len(expected) < asked:
        with pytest.warns(UserWarning, match=f"{len(expected)} of {asked} workers"):
            places = Local()._places(stage, asked)
    else:
        places = Local()._places(stage, asked)
    assert [place.get("CUDA_VISIBLE_DEVICES") for place in places] == expected


def test_without_the_gpus_that_a_worker_needs_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_devices", lambda: ["0"])
    with pytest.raises(ValueError, match="needs 2 GPUs per worker, and this machine has 1"):
        curate([Doubled(resources=Resources(gpus=2.0))], Store(str(tmp_path)), records=numbers(1))


def test_a_replaced_film_is_read_again_and_a_touched_one_keeps_what_follows(tmp_path: Path) -> None:
    films = tmp_path / "films"
    write_films(films, 2)
    (films / "licences.json").write_text("{}")
    stages, store = (Probe(), Shots(), Clips(min_s=1.0)), Store(str(tmp_path / "out"), str(films))
    first = curate(stages, store)
    assert [loss["record"].partition("-")[0] for loss in first.losses] == ["damaged"]
    assert "file" not in first.records[0]
    shots = ledger.entries(store, "shots")

    # fetched again, as the reason asks; another film by an old name; a file that was only touched
    (films / "damaged.mp4").write_bytes((films / "film 1.mp4").read_bytes())
    (films / "licences.json").write_text('{"/": "CC0-1.0"}')
    os.utime(films / "film 0.mp4", (1, 1))
    second = curate(stages, store)
    assert not second.losses
    assert {record["source.uri"] for record in second.records} == {"film 0.mp4", "film 1.mp4", "damaged.mp4"}
    assert {record["source.licence"] for record in second.records} == {"CC0-1.0"}
    now = ledger.entries(store, "shots")
    assert len(now) == len(shots) + 1, "what follows goes by the content"
    assert len(ledger.entries(store, "clips")) == len(now), "and not by the licence"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_name_that_is_no_text_goes_through_to_what_is_written(tmp_path: Path) -> None:
    from anyref.curation.assemble import sample_of

    films = tmp_path / "films"
    write_films(films, 1)
    (films / "film 0.mp4").rename(films / os.fsdecode(b"caf\xe9 1.mp4"))
    (films / "100%25 caf%E9 1.mp4").write_bytes(b"no film")
    store = Store(str(tmp_path / "out"), str(films))
    made = curate((Probe(), Shots(), Clips(min_s=1.0)), store)
    assert {record["source.uri"] for record in made.records} == {"caf%E9 1.mp4"}
    json.dumps(made.losses, ensure_ascii=False).encode()
    assert any("100%2525 caf%25E9 1.mp4" in loss["reason"] for loss in made.losses)
    assert sample_of(made.records[0].with_values({"scores": {}})).source.uri.encode()
