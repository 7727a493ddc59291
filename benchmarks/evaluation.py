"""The evaluation engine on a thousand videos with every metric that needs no model: time per video, memory over time, and a kill in the middle.

    python benchmarks/evaluation.py [--videos 1000] [--output outputs/benchmark-evaluation]

The videos are clips of the puppet world. One run is left alone, one is killed when half of its rows are there and resumed; both must end with the
same bytes. Writes evaluation.json and prints it.
"""

import argparse
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from anyref.evaluation.cases import read_cases
from anyref.evaluation.engine import evaluate
from anyref.evaluation.metrics import METRICS, make_metric
from anyref.evaluation.suites import Suite, Weighted
from anyref.evaluation.world_cases import write_world_cases
from anyref.files import write_json
from anyref.worlds import PuppetWorld

INTERVAL_S = 0.25


@dataclass(frozen=True)
class Watched:
    """What a child process did."""

    seconds: float
    cpu_seconds: float
    rss_mib: list[tuple[int, float]]
    """Rows written and resident memory, every quarter of a second."""
    killed_after: int
    """Rows that were there when it was killed; 0 if it was left alone."""


def pixels() -> Suite:
    """All metrics without a model."""
    names = [name for name in METRICS if not make_metric(name).models]
    return Suite("pixels", tuple(Weighted(name, name) for name in names))


def child(folder: Path, output: Path) -> None:
    evaluate(read_cases(folder), folder / "clips", output, pixels())


def watch(folder: Path, output: Path, kill_at: int | None) -> Watched:
    """Run the child and look at its memory; kill it when its journal has `kill_at` rows."""
    command = [sys.executable, __file__, "--child", str(folder), str(output)]
    start, memory, killed, before = time.perf_counter(), [], 0, cpu_of_children()
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        try:
            pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
        except (OSError, IndexError):
            continue
        rows = count_rows(output)
        memory.append((rows, pages * os.sysconf("SC_PAGE_SIZE") / 2**20))
        if kill_at is not None and rows >= kill_at:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed = count_rows(output)
            break
        time.sleep(INTERVAL_S)
    if not killed and process.returncode != 0:
        raise SystemExit(f"the child ended with {process.returncode}")
    return Watched(time.perf_counter() - start, cpu_of_children() - before, memory, killed)


def growth(memory: list[tuple[int, float]], videos: int, metrics: int) -> list[float | None]:
    """MiB by which each metric's pass over the videos grows; what its code and models take is there after a tenth. None: too fast to see."""
    found: list[float | None] = []
    for metric in range(metrics):
        begun, ended = metric * videos, (metric + 1) * videos
        seen = [mib for rows, mib in memory if begun + videos // 10 <= rows < ended]
        found.append(round(seen[-1] - seen[0], 1) if seen else None)
    return found


def cpu_of_children() -> float:
    """Of those that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def count_rows(output: Path) -> int:
    path = output / "rows.jsonl"
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--videos", type=int, default=1000)
    parser.add_argument("--output", type=Path, default=Path("outputs/benchmark-evaluation"))
    parser.add_argument("--child", nargs=2, type=Path)
    arguments = parser.parse_args()
    if arguments.child:
        child(*arguments.child)
        return
    folder = arguments.output / f"cases-{arguments.videos}"
    if not (folder / "cases.jsonl").is_file():
        single = arguments.videos - arguments.videos // 8 * 4
        write_world_cases(
            PuppetWorld("test"), folder, num_single=single, num_multi=arguments.videos - single, clips=True
        )
    for name in ("whole", "killed"):
        shutil.rmtree(arguments.output / name, ignore_errors=True)
    num_metrics = len(pixels().metrics)
    whole = watch(folder, arguments.output / "whole", None)
    first = watch(folder, arguments.output / "killed", arguments.videos * num_metrics // 2)
    second = watch(folder, arguments.output / "killed", None)
    same = all(
        (arguments.output / "whole" / name).read_bytes() == (arguments.output / "killed" / name).read_bytes()
        for name in ("rows.jsonl", "videos.jsonl")
    )
    timing = json.loads((arguments.output / "whole" / "run.json").read_text())["metrics"]
    found = {
        "videos": arguments.videos,
        "frames": 17,
        "size": "64 x 96",
        "metrics": {name: round(1000 * t["seconds"] / arguments.videos, 2) for name, t in timing.items()},
        "unit of metrics": "milliseconds a video, by the clock",
        "seconds": round(whole.seconds, 1),
        "cpu_seconds": round(whole.cpu_seconds, 1),
        "cpu_milliseconds_per_video": round(1000 * whole.cpu_seconds / arguments.videos, 1),
        "rss_mib": {
            "peak": round(max(mib for _, mib in whole.rss_mib), 1),
            "growth from a tenth of the videos to the last": dict(
                zip(timing, growth(whole.rss_mib, arguments.videos, len(timing)), strict=True)
            ),
        },
        "killed": {
            "rows when killed": first.killed_after,
            "rows in all": count_rows(arguments.output / "whole"),
            "seconds before and after": [round(first.seconds, 1), round(second.seconds, 1)],
            "same bytes as the run that was left alone": same,
        },
    }
    write_json(arguments.output / "evaluation.json", found)
    print(json.dumps(found, indent=2))
    if not same:
        raise SystemExit("the resumed run differs")


if __name__ == "__main__":
    main()
