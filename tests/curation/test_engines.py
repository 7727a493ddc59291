import contextlib
import io
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import pytest
from processes import kill, offspring, still_alive
from small_films import Doubled, write_films

from anyref.curation import ledger
from anyref.curation.local import Local
from anyref.curation.run import curate, replay
from anyref.curation.stage import Outcome, Record, Resources
from anyref.curation.stages.probe import Probe
from anyref.curation.stages.quality import Duplicates, Quality
from anyref.curation.stages.shots import Clips, Shots
from anyref.curation.store import Store

ISOLATED = Resources(memory_gib=2.0, seconds=20.0, isolated=True)
STAGES = (Probe(), Shots(), Clips(min_s=1.0), Quality(), Duplicates())


def numbers(*values: object) -> list[Record]:
    return [Record(f"r{index}", "source", {"number": value}) for index, value in enumerate(values)]


def contents(root: Path) -> dict[str, bytes]:
    """Every file of an output by name, hidden ones left out."""
    files = (f for f in root.rglob("*") if f.is_file() and not f.name.startswith("."))
    return {f.relative_to(root).as_posix(): f.read_bytes() for f in files}


@pytest.mark.parametrize("isolated", [False, True])
def test_every_end_is_told_apart(tmp_path: Path, isolated: bool) -> None:
    stage = Doubled(resources=ISOLATED if isolated else Resources())
    made = curate([stage], Store(str(tmp_path)), records=numbers(1, "bad", "bug", "small", "stray", 4))
    assert [record["double"] for record in made.records] == [2, 8]
    assert [(loss["record"], loss["status"], loss["reason"]) for loss in made.losses] == [
        ("r1", "quarantined", "the number is bad; give another"),
        ("r2", "failed", "KeyError: 'bug'"),
        ("r3", "dropped", "too small"),
        ("r4", "failed", "AssertionError: doubled changed 'other', which is not in its `writes`"),
    ]
    (passage,) = made.funnel
    counts = (passage.entered, passage.left, passage.dropped, passage.failed, passage.quarantined)
    assert counts == (6, 2, 1, 2, 1)


def test_what_takes_its_reader_down_is_quarantined_and_its_neighbours_finish(tmp_path: Path) -> None:
    stage = Doubled(resources=Resources(memory_gib=2.0, seconds=3.0, isolated=True))
    made = curate(
        [stage], Store(str(tmp_path)), Local(2), records=numbers(1, "crash", 2, "hang", 3, "memory", 4)
    )
    assert [record["double"] for record in made.records] == [2, 4, 6, 8]
    reasons = {loss["record"]: (loss["status"], loss["reason"]) for loss in made.losses}
    assert reasons["r1"][0] == reasons["r3"][0] == reasons["r5"][0] == "quarantined"
    assert "SIGSEGV" in reasons["r1"][1] and "longer than 3 s" in reasons["r3"][1]
    assert "2 GiB" in reasons["r5"][1]


def test_done_work_is_not_done_again_and_other_settings_are(tmp_path: Path) -> None:
    class Counting(Local):
        seen: list[str]

        def run(self, stage, records, store, report):  # type: ignore[no-untyped-def]
            self.seen.extend(record.id for record in records)
            super().run(stage, records, store, report)

    engine = Counting()
    object.__setattr__(engine, "seen", [])
    store = Store(str(tmp_path))
    records = numbers(1, 2, "bad", "bug", 5, 6)
    curate([Doubled()], store, engine, records=records)
    assert engine.seen == ["r0", "r1", "r2", "r3", "r4", "r5"]
    engine.seen.clear()
    again = curate([Doubled()], store, engine, records=records)
    assert engine.seen == ["r3"], "only what we failed on is tried again"
    assert replay([Doubled()], store, records).records == again.records
    engine.seen.clear()
    changed = [*records[:1], records[1].with_values({"number": 7}), *records[2:]]
    again = curate([Doubled()], store, engine, records=changed)
    assert [record["double"] for record in again.records] == [2, 14, 10, 12]
    assert engine.seen == ["r1", "r3"]
    engine.seen.clear()
    curate([Doubled(factor=3)], store, engine, records=records)
    assert len(engine.seen) == 6


def test_a_stage_that_fails_on_most_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"fails on .* of .* records.*KeyError: 'bug'"):
        curate([Doubled()], Store(str(tmp_path)), records=numbers(*["bug"] * 30))


def test_two_runs_do_not_write_to_one_folder(tmp_path: Path) -> None:
    import fcntl

    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="another run writes"):
            curate([Doubled()], Store(str(tmp_path)), records=numbers(1))


def test_a_damaged_ledger_is_said(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write("ledger/doubled/part-1.jsonl", b'{"key": [')
    with pytest.raises(ValueError, match=r"part-1\.jsonl is damaged"):
        curate([Doubled()], store, records=numbers(1))


def test_the_ledger_forgets_no_change(tmp_path: Path) -> None:
    before = Record("a", "source", {"number": 1, "scores": {"x": 1}})
    after = Record("b", "clip", {"scores": {"x": 1}, "double": 2})
    entry = ledger.Entry.from_line(ledger.entry_of(Doubled(), before, Outcome.ok(after)).line())
    assert entry.outcome(before).records == (after,)


def test_films_go_through_s0_to_s2_and_damage_is_quarantined(tmp_path: Path) -> None:
    films = tmp_path / "films"
    write_films(films, 2)
    (films / "copy.mp4").write_bytes((films / "film 1.mp4").read_bytes())
    (films / "text.mp4").write_text("this is no film")
    (films / "list.mp4").write_text("#EXTM3U\n#EXTINF:10,\nfilm 0.mp4\n#EXT-X-ENDLIST\n")
    (films / "licences.json").write_text(
        '{"film 0.mp4": "CC0-1.0", "/": {"licence": "CC-BY-4.0", "group": "g"}}'
    )
    store = Store(str(tmp_path / "out"), str(films))
    made = curate(STAGES, store, Local(2))
    assert sorted(loss["record"].partition("-")[0] for loss in made.losses) == ["damaged", "list", "text"]
    assert all(loss["status"] == "quarantined" and loss["stage"] == "probe" for loss in made.losses)
    assert str(tmp_path) not in json.dumps(made.losses)
    by_film: dict[str, list[Record]] = {}
    for record in made.records:
        by_film.setdefault(record["source.uri"], []).append(record)
    assert {name: len(clips) for name, clips in by_film.items()} == {
        "film 0.mp4": 2, "film 1.mp4": 2, "copy.mp4": 2,
    }  # fmt: skip
    assert by_film["film 0.mp4"][0]["source.licence"] == "CC0-1.0"
    assert by_film["film 1.mp4"][0]["source.group_id"] == "g"
    copies = [r["duplicate_of"] for name in ("film 1.mp4", "copy.mp4") for r in by_film[name]]
    assert sum(copy is not None for copy in copies) == 2, "of two equal films one is kept"
    assert all(record["duplicate_of"] is None for record in by_film["film 0.mp4"])
    assert all(record.score("flow_p95") is not None for record in made.records)


def test_one_worker_and_several_give_the_same_bytes(tmp_path: Path) -> None:
    films = tmp_path / "films"
    write_films(films, 3)
    outputs = []
    for workers in (1, 3):
        root = tmp_path / f"out{workers}"
        curate(STAGES, Store(str(root), str(films)), Local(workers))
        outputs.append(contents(root))
    assert outputs[0] == outputs[1] and len(outputs[0]) > 5


RUN = """
import sys
from small_films import *
from test_engines import STAGES
from anyref.curation.run import curate
from anyref.curation.store import Store
if sys.argv[3] == "ray":
    from anyref.curation.ray import Ray as Engine
else:
    from anyref.curation.local import Local as Engine
curate(STAGES, Store(sys.argv[1], sys.argv[2]), Engine(2))
"""


def start(code: str, *arguments: object, **pipes: int | None) -> "subprocess.Popen[bytes]":
    """Python code in a process of its own, that finds the tests' modules and does without Ray's statistics."""
    here = Path(__file__).parent
    environment = {
        **os.environ,
        "PYTHONPATH": f"{here}{os.pathsep}{here.parents[1]}",
        "RAY_USAGE_STATS_ENABLED": "0",
        # Ray's 15 leaves its workers a few per cent of a machine that is busy otherwise: they took minutes to start.
        "RAY_worker_niceness": "0",
    }
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], env=environment, start_new_session=True, **pipes
    )


def finish(code: str, *arguments: object) -> str:
    """What such a process prints; it has to end well, and in a quarter of an hour."""
    process = start(code, *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        output, errors = process.communicate(timeout=900)
    finally:
        for pid in [*offspring(process.pid), process.pid]:
            kill(pid)
    assert process.returncode == 0, errors.decode()[-3000:]
    return output.decode()


def workers(pid: int, actors: bool = False) -> list[int]:
    """Those of the processes below this one that do a stage's work: Ray's actors, and their or our children."""
    found = []
    for below in offspring(pid):
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{below}/cmdline").read_bytes()
            if b"MapWorker" in command or (not actors and b"anyref.curation.child" in command):
                found.append(below)
    return found


def kill_at_random(tmp_path: Path, engine: str, kills: int) -> None:
    films, output, undisturbed = tmp_path / "films", tmp_path / "out", tmp_path / "undisturbed"
    write_films(films, 4)
    curate(STAGES, Store(str(undisturbed), str(films)), Local(1))
    began = time.monotonic()
    assert start(RUN, tmp_path / "timed", films, engine).wait(900) == 0
    longest_s = time.monotonic() - began
    assert contents(tmp_path / "timed") == contents(undisturbed)
    rng, done, orphans = random.Random(0), 0, set[int]()
    while done < kills:
        process = start(RUN, output, films, engine)
        moment_s = rng.uniform(0.3, longest_s)
        time.sleep(moment_s)
        victims = workers(process.pid)
        stages = sorted(path.name for path in output.glob("ledger/*"))
        if victims and rng.random() < 0.5:  # the run has to go on
            kill(rng.choice(victims))
            done += 1
            print(f"{moment_s:.1f} of {longest_s:.1f} s, in {stages[-1:]}: a worker")
            if rng.random() < 0.5:
                assert process.wait(900) == 0
        if process.poll() is None:
            orphans.update(offspring(process.pid))
            process.kill()
            done += 1
            print(f"{moment_s:.1f} of {longest_s:.1f} s, in {stages[-1:]}: the run")
        process.wait()
        if (output / "losses.jsonl").exists() and rng.random() < 0.7:  # it ended: begin anew
            assert contents(output) == contents(undisturbed)
            shutil.rmtree(output)
    assert start(RUN, output, films, engine).wait(900) == 0
    assert contents(output) == contents(undisturbed)
    # On busy cores the daemons that Ray starts take half a minute to notice.
    assert not still_alive(orphans, 90), "what a killed run started ends by itself"


def test_killed_and_resumed_it_gives_the_same_bytes(tmp_path: Path) -> None:
    kill_at_random(tmp_path, "local", 1)


@pytest.mark.slow
def test_killed_often_locally(tmp_path: Path) -> None:
    kill_at_random(tmp_path, "local", 40)


@pytest.mark.slow
def test_killed_often_on_ray(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    kill_at_random(tmp_path, "ray", 10)


@pytest.mark.slow
def test_two_nodes_of_ray_give_the_same_bytes_though_a_worker_is_killed(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    films = tmp_path / "films"
    write_films(films, 4)
    curate(STAGES, Store(str(tmp_path / "local"), str(films)), Local(1))
    told = finish(ON_TWO_NODES, tmp_path / "ray", films)
    print(told)
    assert "nodes 2" in told and "killed 1" in told
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")


ON_TWO_NODES = """
import os, sys, threading
from pathlib import Path
from typing import Any
import ray
from ray.cluster_utils import Cluster
from test_engines import STAGES, kill, workers
from anyref.curation.ray import Ray
from anyref.curation.run import curate
from anyref.curation.store import Store

output, films = sys.argv[1:]
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
cluster.add_node(num_cpus=2)
ray.init(address=cluster.address, log_to_driver=False)
print("nodes", sum(node["Alive"] for node in ray.nodes()))
killed, over = [], threading.Event()

def strike() -> None:
    while not killed and not over.wait(0.05):
        found = workers(os.getpid(), actors=True) if any(Path(output).glob("ledger/probe/part-*")) else []
        for pid in found[:1]:
            kill(pid)
            killed.append(pid)

thread = threading.Thread(target=strike)
thread.start()
try:
    curate(STAGES, Store(output, films), Ray(num_workers=3, batch_size=1))
finally:
    over.set()
thread.join()
print("killed", len(killed))
ray.shutdown()
cluster.shutdown()
"""


@dataclass(frozen=True)
class Deadly(Doubled):
    """A stage for which some numbers end the process that its own process was started by, as too little memory would."""

    def __call__(self, record: Record, store: Store) -> Outcome:
        number, once = str(record["number"]), Path(store.root) / ".once"
        if number == "kill" or (number == "kill once" and not once.exists()):
            if number == "kill once":
                once.touch()
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(60)
        return Outcome.ok(record.with_values({"double": 0}))


@dataclass(frozen=True)
class Unopened(Doubled):
    """A stage whose models are not there."""

    def open(self) -> "Unopened":
        raise ValueError("there are no weights; download them")


@dataclass(frozen=True)
class Refusing(Store):
    """A store that refuses the first part of the ledger."""

    def write(self, uri: str, data: bytes) -> None:
        once = Path(self.root) / ".refused"
        if "/part-" in uri and not once.exists():
            once.touch()
            raise OSError("no space left")
        super().write(uri, data)


@pytest.mark.slow
def test_on_ray_every_end_is_as_here_and_nothing_is_waited_for_without_end(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    curate([Doubled()], Store(str(tmp_path / "here")), Local(2), records=numbers(*MIXED))
    curate([Doubled()], Store(str(tmp_path / "plain")), Local(2), records=numbers(*range(6)))
    told = json.loads(finish(ENDS_ON_RAY, tmp_path).splitlines()[-1])
    assert contents(tmp_path / "mixed") == contents(tmp_path / "here")
    assert contents(tmp_path / "refused") == contents(tmp_path / "plain")
    assert [(loss["record"], loss["status"]) for loss in told["killed"]] == [("r1", "failed")]
    assert "its worker died" in told["killed"][0]["reason"]
    assert "fails on" in told["unopened"] and "no weights" in told["unopened"]
    assert "GPUs" in told["gpus"]


MIXED = (1, "crash", 2, "bug", 3, "bad", 4, "small")
ENDS_ON_RAY = """
import json, sys
from pathlib import Path
from typing import Any
from small_films import *
from test_engines import *
from anyref.curation.ray import Ray

root, engine, told = Path(sys.argv[1]), Ray(2), {}
curate([Doubled()], Store(str(root / "mixed")), engine, records=numbers(*MIXED))
curate([Doubled()], Refusing(str(root / "refused")), engine, records=numbers(*range(6)))
numbered = numbers(1, "kill", 2, 3, "kill once", 4)
told["killed"] = curate([Deadly()], Store(str(root / "killed")), engine, records=numbered).losses
for name, stage in (("unopened", Unopened()), ("gpus", Doubled(resources=Resources(gpus=64.0)))):
    try:
        curate([stage], Store(str(root / name)), engine, records=numbers(1, 2))
    except ValueError as error:
        told[name] = str(error)
print(json.dumps(told))
"""


def test_a_film_trimmed_by_an_edit_list_is_whole_and_a_shortened_one_is_not(tmp_path: Path) -> None:
    # Phones trim so: all frames stay in the file, and a list says which are shown.
    films = tmp_path / "films"
    write_films(films, 1)
    whole = next(films.glob("film 0.mp4"))
    data = bytearray(whole.read_bytes())
    for other in films.iterdir():
        other.unlink()
    place = data.index(b"elst") + 12
    length, start = struct.unpack(">Ii", data[place : place + 8])
    data[place : place + 8] = struct.pack(">Ii", length // 2, start)
    (films / "trimmed.mp4").write_bytes(data)
    data[place : place + 8] = struct.pack(">Ii", length, start)
    # Its index, which this muxer writes at the end, moved to the front, so that what is missing is the pictures' end.
    with av.open(str(films / "front.mp4"), "w", options={"movflags": "faststart"}) as container:
        _copy(bytes(data), container)
    front = (films / "front.mp4").read_bytes()
    (films / "front.mp4").unlink()
    (films / "shortened.mp4").write_bytes(front[: len(front) * 6 // 10])
    made = curate((Probe(),), Store(str(tmp_path / "out"), str(films)), Local(1))
    assert [record["source.uri"] for record in made.records] == ["trimmed.mp4"]
    assert [(loss["record"].partition("-")[0], loss["status"]) for loss in made.losses] == [
        ("shortened", "quarantined")
    ]
    assert "cut off" in made.losses[0]["reason"] or "cannot be decoded" in made.losses[0]["reason"]
    shown = made.records[0]["source"]
    assert shown["duration_s"] == pytest.approx(length / 1000 / 2, abs=0.1)


def _copy(data: bytes, output: Any) -> None:
    """The video packets of a file, muxed anew."""
    with av.open(io.BytesIO(data)) as source:
        stream = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                output.mux(packet)
