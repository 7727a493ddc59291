"""Small films with known content, drawn with numpy and written with the package's own writer, and stages that need no model."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anyref.curation.stage import Outcome, Record, Resources
from anyref.curation.store import Store
from anyref.media import write_video

CLIPS = Path(__file__).parents[2].parent / "shared" / "clips"


def shot(
    seed: int, num_frames: int, speed: float = 2.0, height: int = 64, width: int = 96
) -> NDArray[np.uint8]:
    """A bright textured square that moves over a textured ground: uint8 [F, Y, X, 3]."""
    rng = np.random.default_rng(seed)
    ground = rng.integers(40, 200, (height // 8, width // 8, 3)).repeat(8, 0).repeat(8, 1)
    square = rng.integers(120, 256, (4, 4, 3)).repeat(6, 0).repeat(6, 1)
    frames = np.repeat(ground[None], num_frames, 0).astype(np.uint8)
    for index, frame in enumerate(frames):
        left = int(4 + speed * index) % (width - 28)
        frame[20:44, left : left + 24] = square
    return frames


def fade(frames: NDArray[np.uint8], num_frames: int, end: bool) -> NDArray[np.uint8]:
    """The same frames, fading to black at the end or from black at the start."""
    gain = np.ones(len(frames))
    ramp = np.linspace(1, 0, num_frames)
    if end:
        gain[-num_frames:] = ramp
    else:
        gain[:num_frames] = ramp[::-1]
    return (frames * gain[:, None, None, None]).astype(np.uint8)


def write_films(folder: Path, count: int = 3) -> None:
    """`count` films of two shots of two seconds at 12 fps, and one that is damaged."""
    for index in range(count):
        frames = np.concatenate([shot(2 * index, 30), shot(2 * index + 1, 30)])
        write_video(frames, folder / f"film {index}.mp4", fps=12)
    data = (folder / "film 0.mp4").read_bytes()
    (folder / "damaged.mp4").write_bytes(data[: len(data) // 2])


@dataclass(frozen=True)
class Doubled:
    """A stage for tests of the engines: writes twice the number it reads; some numbers are special."""

    factor: int = 2
    resources: Resources = field(default=Resources())
    name: str = field(default="doubled", init=False)
    version: int = field(default=1, init=False)
    reads: frozenset[str] = field(default=frozenset({"number"}), init=False)
    writes: frozenset[str] = field(default=frozenset({"double"}), init=False)

    def open(self) -> "Doubled":
        return self

    def __call__(self, record: Record, store: Store) -> Outcome:
        import os
        import signal
        import time

        number = record["number"]
        if number == "bad":
            raise ValueError("the number is bad; give another")
        if number == "bug":
            raise KeyError("bug")
        if number == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if number == "hang":
            time.sleep(60)
        if number == "memory":
            return Outcome.ok(record.with_values({"double": len(bytearray(3 * 2**30))}))
        if number == "stray":
            return Outcome.ok(record.with_values({"other": 1}))
        if number == "small":
            return Outcome("dropped", "too small")
        return Outcome.ok(record.with_values({"double": number * self.factor}))


@dataclass(frozen=True)
class Unopened(Doubled):
    """A stage whose model is not there."""

    def open(self) -> "Doubled":
        raise FileNotFoundError("there are no weights")
