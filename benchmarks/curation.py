"""What S0 to S2 cost: clips and frames per second and core, as a ratio to bare PyAV decoding in the same run; memory; Ray workers.

    python benchmarks/curation.py FOLDER [--ray]
    python benchmarks/curation.py --many 10000

Times are CPU times of this process, so that a busy machine does not change them; the pass over Ray is wall time, and says so.
"""

import argparse
import os
import resource
import shutil
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from anyref import footage
from anyref.curation.run import curate
from anyref.curation.signals import measure, opencv
from anyref.curation.stages.probe import Probe, film_records
from anyref.curation.stages.quality import Duplicates, Quality
from anyref.curation.stages.shots import Clips, Shots
from anyref.curation.store import Store

STAGES = (Probe(), Shots(), Clips(min_s=1.0), Quality(), Duplicates())


def against_decoding(films: Path) -> None:
    opencv()
    bare, ours, counts = defaultdict(float), defaultdict(float), defaultdict(int)
    for path in sorted(films.iterdir()):
        try:
            height = footage.probe(path).height
            started = time.process_time()
            count = footage.count_frames(path)
            decoded = time.process_time()
            measure(path)
            measured = time.process_time()
        except ValueError as error:
            print(f"left out: {error}")
            continue
        for group in (f"{min(720, height // 180 * 180):4} rows and up", "all"):
            bare[group] += decoded - started
            ours[group] += measured - decoded
            counts[group] += count
    print(f"{'':16} {'frames':>7} {'bare/s':>8} {'ours/s':>8} {'ratio':>6}")
    for group in sorted(counts):
        frames = counts[group]
        print(
            f"{group:16} {frames:7} {frames / bare[group]:8.0f} {frames / ours[group]:8.0f} "
            f"{bare[group] / ours[group]:6.2f}"
        )


def stages(films: Path) -> None:
    """Each stage in this process: CPU seconds, and memory at its highest so far; bare decoding takes turns with the first of them."""
    output = tempfile.mkdtemp()
    store = Store(output, str(films))
    records = film_records(store)
    frames, bare, all_stages = 0, 0.0, 0.0
    for stage in STAGES[:-1]:
        worker, made, spent = stage.open(), [], 0.0
        for record in records:
            started = time.process_time()
            try:
                made += worker(record, store).records
            except ValueError:
                continue
            finally:
                done = time.process_time()
                spent += done - started
            if stage is STAGES[0]:
                footage.count_frames(films / record["uri"])
                bare += time.process_time() - done
        all_stages += spent
        frames = frames or sum(record["source.num_frames"] for record in made)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"{stage.name:10} {len(records):5} in {len(made):5} out {spent:7.2f} s "
            f"{len(made) / spent:8.1f} records/s {frames / spent:9.0f} frames/s, peak {peak:.2f} GiB"
        )
        records = made
    print(f"S0 to S2 {all_stages:.2f} s, bare decoding {bare:.2f} s: ratio {bare / all_stages:.2f}")
    shutil.rmtree(output)


def on_ray(films: Path) -> None:
    os.environ.setdefault("RAY_worker_niceness", "0")  # as the engine does where it starts Ray itself
    import ray

    from anyref.curation.ray import Ray

    for workers in (1, 2, 4):
        output = tempfile.mkdtemp()
        ray.init(num_cpus=workers + 1, include_dashboard=False, log_to_driver=False)
        started = time.monotonic()
        made = curate(STAGES, Store(output, str(films)), Ray(workers, batch_size=1))
        print(
            f"Ray, {workers} workers: {len(made.records)} clips in {time.monotonic() - started:.0f} s (wall)"
        )
        ray.shutdown()
        shutil.rmtree(output)


def many(count: int) -> None:
    """As many films of one second through `curate`, as a user runs it: wall time, and the memory of this process and its largest child."""
    from anyref import media
    from anyref.curation.local import Local
    from anyref.worlds import PuppetWorld

    folder = Path(tempfile.mkdtemp())
    (folder / "films").mkdir()
    world = PuppetWorld("train", seed=1, height=64, width=96, num_frames=17)
    for index in range(count):
        media.write_video(world.clip(index).frames_FYX3[:16], folder / "films" / f"{index:06d}.mp4", fps=16)
    print(f"{count} films drawn")
    started = time.monotonic()
    made = curate(STAGES, Store(str(folder / "set"), str(folder / "films")), Local(1))
    spent = time.monotonic() - started
    own, child = (
        resource.getrusage(who).ru_maxrss / 2**20 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    print(
        f"{count} films of one second: {len(made.records)} clips in {spent:.0f} s ({spent / count * 1e3:.0f} ms a film, wall); "
        f"{own:.2f} GiB here, {child:.2f} GiB in the largest child"
    )
    shutil.rmtree(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("films", type=Path, nargs="?")
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--many", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.films:
        against_decoding(arguments.films)
        stages(arguments.films)
    if arguments.films and arguments.ray:
        on_ray(arguments.films)
    if arguments.many:
        many(arguments.many)
