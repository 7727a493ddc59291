"""Masks a second on one core: drawing alone, the warp, and a whole masked reference, at 480x832 with the paper's settings.

Drawing includes shape, ratio, outline, the binary search, filling and the topology check; the warp adds the redraws and the bilinear image.
Counted in process time, which a busy machine distorts less than the clock; both are printed, and how busy the machine is.
Usage: python benchmarks/masks.py [--count 300] [--height 480] [--width 832]
"""

import argparse
import os
import time
from collections.abc import Callable

import numpy as np

from anyref.masks import SHAPES, MaskConfig, draw_mask, masked_reference, warp


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=832)
    return parser.parse_args()


def rate(name: str, count: int, call: Callable[[int], object]) -> None:
    call(0)
    wall, cpu = time.perf_counter(), time.process_time()
    for seed in range(count):
        call(seed)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{name:<18}{count / cpu:8.0f} /s of process time {count / wall:8.0f} /s of wall time")


def main() -> None:
    arguments = parse()
    size, count = (arguments.height, arguments.width), arguments.count
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    print(
        f"{size[0]}x{size[1]}, {count} of each, one process; load {load:.1f} on {cores} cores"
        + ("; the machine is busy" if load > 0.5 * cores else "")
    )
    frame = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    image = frame.astype(np.float32) / 127.5 - 1

    def draw_and_warp(seed: int) -> object:
        rng = np.random.default_rng(seed)
        return warp(image, draw_mask(*size, rng), rng)

    rate("mask", count, lambda seed: draw_mask(*size, np.random.default_rng(seed)))
    for shape in SHAPES:
        only = MaskConfig(shapes=(shape,))
        rate(f"  {shape}", count // 3, lambda seed, c=only: draw_mask(*size, np.random.default_rng(seed), c))
    rate("mask and warp", count // 3, draw_and_warp)
    rate("masked reference", count // 3, lambda seed: masked_reference(frame, np.random.default_rng(seed)))


if __name__ == "__main__":
    main()
