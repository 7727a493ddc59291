"""S2: score how a clip moves, how sharp and how bright it is, cut off black bars, rate its looks, and find clips that are there twice.

Everything but the rating comes from the signals that S0 stored, so that it costs no decoding; nothing is judged here: thresholds are filters
over these scores (`anyref.curation.decisions`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anyref import footage
from anyref.curation.records import Clip, Rectangle, Score, from_json, to_json
from anyref.curation.signals import TILES, Plane, Signals
from anyref.curation.stage import Outcome, Record, Resources
from anyref.curation.store import Store
from anyref.perception import AestheticPredictor

SCORES = {
    "flow_mean": "mean Farneback motion per half second, in pixels at short side 256",
    "flow_p95": "95th percentile over the picture of the same, mean over time",
    "still": "share of frames that do not differ from the one before",
    "blur": "variance of the Laplacian at long side 512 inside the bars, median over time; low is blurred",
    "brightness": "mean luma inside the bars, 0 to 255",
    "clipped": "share of pixels at black or white inside the bars",
    "letterbox": "share of the frame that black bars take",
    "duration": "seconds",
    "short_side": "pixels inside the bars",
    "aspect": "width by height inside the bars",
    "fps": "frames per second of the film",
    "num_frames": "frames of the clip",
}
"""What `Quality` measures."""


@dataclass(frozen=True)
class Quality:
    """Reads a clip's `clip`, `source` and `signals`; writes `scores.<name>` for each of `SCORES`, `clip.crop`, and `hashes`."""

    bar_luma: int = 24
    """Rows and columns that never get brighter than this, 0 to 255, may belong to a bar."""
    still_change: float = 0.05
    """Mean change of brightness, 0 to 255, below which two frames are one picture."""
    num_hashes: int = 8
    resources: Resources = field(default=Resources())
    name: str = field(default="quality", init=False)
    version: int = field(default=1, init=False)
    reads: frozenset[str] = field(default=frozenset({"clip", "source", "signals"}), init=False)
    writes: frozenset[str] = field(
        default=frozenset({"clip.crop", "hashes", *(f"scores.{name}" for name in SCORES)}), init=False
    )

    def open(self) -> "_Worker":
        """No models."""
        return _Worker(self)


@dataclass
class _Worker:
    stage: Quality
    _uri: str = ""
    _signals: Signals | None = None

    def __call__(self, record: Record, store: Store) -> Outcome:
        if self._uri != record["signals"]:  # clips of a film come one after the other
            self._uri, self._signals = record["signals"], Signals.from_bytes(store.read(record["signals"]))
        assert self._signals is not None
        clip = from_json(Clip, record["clip"])
        crop = find_bars(self._signals, clip, record["source"], self.stage.bar_luma)
        values = measure_clip(self._signals, clip, crop, record["source"], self.stage.still_change)
        scores = {
            f"scores.{name}": to_json(Score(None if value is None else round(value, 4), SCORES[name], 1))
            for name, value in values.items()
        }
        hashes = _hashes(self._signals, clip, self.stage.num_hashes)
        return Outcome.ok(record.with_values({**scores, "clip.crop": list(crop), "hashes": hashes}))


def find_bars(signals: Signals, clip: Clip, source: dict[str, Any], bar_luma: int) -> Rectangle:
    """What is left of the frame inside black bars, in pixels of the displayed frame; the whole frame where there are none.

    A bar stays black for the whole clip and has its like on the other side. Where less than a third of the frame would be left, the
    clip is dark, and has no bars.
    """
    inside = _sampled(signals, clip)
    height, width = source["height"], source["width"]
    if inside.start == inside.stop:
        return Rectangle(0, 0, height, width)
    top, bottom = _bars(signals.rows_SY[inside].max(axis=0), height, bar_luma)
    left, right = _bars(signals.columns_SX[inside].max(axis=0), width, bar_luma)
    if (bottom - top) * (right - left) * 3 < height * width:
        return Rectangle(0, 0, height, width)
    return Rectangle(top, left, bottom, right)


def measure_clip(
    signals: Signals, clip: Clip, crop: Rectangle, source: dict[str, Any], still_change: float
) -> dict[str, float | None]:
    """The values of `SCORES`; None where a clip is too short to have one."""
    inside = _sampled(signals, clip)
    pairs = slice(inside.start + 1, inside.stop)  # the first sample's motion is from before the clip
    tiles = _inner_tiles(signals.tiles_S5NN[inside].astype(np.float64), crop, source)
    flow_mean, flow_p95 = signals.flow_mean_S[pairs], signals.flow_p95_S[pairs]
    changes = signals.change_F3[clip.start_frame + 1 : clip.end_frame, 2]
    edges = (tiles[:, Plane.EDGE_RMS] ** 2).mean(-1) - tiles[:, Plane.EDGE].mean(-1) ** 2
    clipped = (tiles[:, Plane.DARK] + tiles[:, Plane.BRIGHT]).mean()
    height, width = crop.bottom - crop.top, crop.right - crop.left
    return {
        "flow_mean": _mean(flow_mean),
        "flow_p95": _mean(flow_p95),
        "still": _mean(changes < still_change),
        "blur": float(np.median(edges)) if len(edges) else None,
        "brightness": _mean(tiles[:, Plane.LUMA]),
        "clipped": float(clipped) if len(tiles) else None,
        "letterbox": 1.0 - height * width / (source["height"] * source["width"]),
        "duration": clip.end_s - clip.start_s + 1.0 / source["fps"],
        "short_side": min(height, width),
        "aspect": width / height,
        "fps": source["fps"],
        "num_frames": float(clip.num_frames),
    }


@dataclass(frozen=True)
class Looks:
    """Reads a clip's `clip` and its film's `uri`; writes `scores.aesthetic`, the mean rating of a few of its frames, without bars."""

    model: str
    """Name in the catalogue of perception models."""
    device: str = "cpu"
    num_frames: int = 4
    commercial_only: bool = False
    resources: Resources = field(default=Resources())
    name: str = field(default="looks", init=False)
    version: int = field(default=1, init=False)
    reads: frozenset[str] = field(default=frozenset({"clip", "source.uri", "source.sha256"}), init=False)
    writes: frozenset[str] = field(default=frozenset({"scores.aesthetic"}), init=False)

    def open(self) -> "_Rater":
        """Load the predictor."""
        from anyref.perception.catalogue import open_model

        model: Any = open_model("aesthetic", self.model, self.device, self.commercial_only)
        return _Rater(self, model)


@dataclass(frozen=True)
class _Rater:
    stage: Looks
    model: AestheticPredictor

    def __call__(self, record: Record, store: Store) -> Outcome:
        clip = from_json(Clip, record["clip"])
        middle = (np.arange(self.stage.num_frames) + 0.5) / self.stage.num_frames * clip.num_frames
        indices = [clip.start_frame + int(m) for m in middle]
        with store.film(record["source.uri"]) as path:
            pictures = footage.frames_at(path, indices, footage.Start(clip.start_frame, clip.start_pts))
        top, left, bottom, right = (int(side) for side in clip.crop)
        ratings = self.model.rate([picture[top:bottom, left:right] for picture in pictures])
        card = self.model.card
        score = Score(round(float(np.mean(ratings)), 4), f"{card.name} {card.revision}".strip(), 1)
        return Outcome.ok(record.with_values({"scores.aesthetic": to_json(score)}))


@dataclass(frozen=True)
class Duplicates:
    """Reads `hashes`, `clip` and sizes of all clips; writes `duplicate_of`: the id of the copy that is kept, None for that one and for all others.

    Two clips are the same footage where their sampled pictures agree and, unless nothing moves, their frames change in step: takes of
    one scene by one camera have like pictures, but not like changes.
    """

    max_distance: float = 0.06
    """Share of the 256 bits of a picture's hash that may differ, mean over the clip."""
    min_correlation: float = 0.8
    """Between the changes of brightness from frame to frame."""
    recoded_distance: float = 0.1
    """The share that may differ where the changes agree as `recoded_correlation` asks: coarse coding turns bits of flat pictures."""
    recoded_correlation: float = 0.98
    name: str = field(default="duplicates", init=False)
    version: int = field(default=3, init=False)
    reads: frozenset[str] = field(default=frozenset({"hashes", "clip", "source", "scores.blur"}), init=False)
    writes: frozenset[str] = field(default=frozenset({"duplicate_of"}), init=False)

    def gather(self, records: Sequence[Record], store: Store) -> Sequence[Outcome]:  # noqa: ARG002
        """Compare clips that have a picture in common, nearly; of a group of copies the largest and sharpest is kept."""
        kept = list(range(len(records)))

        def root(index: int) -> int:
            while kept[index] != index:
                index = kept[index]
            return index

        ranks = [_rank(record) for record in records]
        for first, second in _candidates(records, max(self.max_distance, self.recoded_distance)):
            a, b = root(first), root(second)
            if a != b and self._same(records[first], records[second]):
                better, worse = (a, b) if ranks[a] >= ranks[b] else (b, a)
                kept[worse] = better
        return [
            Outcome.ok(r.with_values({"duplicate_of": None if root(i) == i else records[root(i)].id}))
            for i, r in enumerate(records)
        ]

    def _same(self, first: Record, second: Record) -> bool:
        a, b = first["hashes"], second["hashes"]
        if first["source.uri"] == second["source.uri"]:
            return False  # another time of one take, however alike
        distances = _distances(a["pictures"], b["pictures"])
        distance = float(distances.min(axis=1).mean())
        if distance > self.recoded_distance:
            return False
        x, y = _smoothed(a["changes"]), _smoothed(b["changes"])
        if max(x.max(initial=0.0), y.max(initial=0.0)) < 0.5:  # a still: its picture is all there is
            return distance <= self.max_distance
        wanted = self.min_correlation if distance <= self.max_distance else self.recoded_correlation
        return _correlation(x, y) >= wanted


def _sampled(signals: Signals, clip: Clip) -> slice:
    return signals.samples(clip.start_frame, clip.end_frame)


def _mean(values: NDArray[Any]) -> float | None:
    return float(np.mean(values)) if values.size and np.isfinite(values).all() else None


def _bars(brightest: NDArray[np.uint8], size: int, bar_luma: int) -> tuple[int, int]:
    """Where the picture begins and ends along an axis of `size` pixels, from the brightest luma along it at reduced size."""
    lit = np.flatnonzero(brightest > bar_luma)
    if not len(lit):
        return 0, size
    before, after = int(lit[0]), len(brightest) - 1 - int(lit[-1])
    smallest = max(1, round(0.015 * len(brightest)))
    if min(before, after) < smallest or abs(before - after) > max(2, 0.25 * max(before, after)):
        return 0, size
    scale = size / len(brightest)
    # The profile was smoothed, which widens the picture by a row; reducing it blurs the border by another.
    margin = 2 if scale > 1 else 1
    return int(np.ceil((before + margin) * scale)), int(np.floor(size - (after + margin) * scale))


def _inner_tiles(
    tiles_S5NN: NDArray[np.float64], crop: Rectangle, source: dict[str, Any]
) -> NDArray[np.float64]:
    """[S, 5, tiles]: those that lie inside the crop; the Laplacian at a bar's edge is not the picture's."""
    height, width = source["height"], source["width"]
    rows = _inner(crop.top / height, crop.bottom / height)
    columns = _inner(crop.left / width, crop.right / width)
    inner = tiles_S5NN[:, :, rows, columns]
    return inner.reshape(*inner.shape[:2], -1)


def _inner(start: float, stop: float) -> slice:
    first, last = int(np.ceil(start * TILES - 1e-9)), int(np.floor(stop * TILES + 1e-9))
    return slice(first, last) if last > first else slice(0, TILES)


def _hashes(signals: Signals, clip: Clip, count: int) -> dict[str, Any]:
    """Pictures' hashes as hexadecimal, and the changes of brightness from frame to frame; both at most so many that a row stays small."""
    inside = _sampled(signals, clip)
    pictures = signals.hash_S32[inside]
    chosen: Any = (
        np.unique(np.linspace(0, len(pictures) - 1, count).round().astype(int)) if len(pictures) else []
    )
    changes = signals.change_F3[clip.start_frame + 1 : clip.end_frame, 2][:240]
    return {
        "pictures": [pictures[index].tobytes().hex() for index in chosen],
        "changes": [round(float(change), 2) for change in changes],
    }


def _candidates(records: Sequence[Record], distance: float) -> list[tuple[int, int]]:
    """Pairs of clips, sorted, of which two pictures differ in at most this share of their bits: all clips that can be the same.

    Hashes are divided into so many bands that two pictures so near differ in two bits or fewer of at least one: then the band's values,
    each with any one bit turned, have one in common. Values of 28 bits are seldom equal by chance, so time and memory grow with the
    pictures. Of values that very many share (flat pictures) each is compared with those that follow it only.
    """
    found = sorted({(p, i) for i, record in enumerate(records) for p in record["hashes"]["pictures"]})
    if not found:
        return []
    bits_PB = np.frombuffer(bytes.fromhex("".join(picture for picture, _ in found)), np.uint8)
    bits_PB = bits_PB.reshape(len(found), -1)
    clip_P = np.array([index for _, index in found], np.int64)
    radius = int(distance * 8 * bits_PB.shape[1] + 1e-9)
    edges = np.linspace(0, 8 * bits_PB.shape[1], max(5, radius // 3 + 1) + 1).astype(int)
    pairs, waiting = np.zeros(0, np.int64), list[NDArray[np.int64]]()
    for first, end in pairwise(edges):
        value_P = _band(bits_PB, int(first), int(end))
        turned = [value_P, *(value_P ^ np.uint64(1 << bit) for bit in range(end - first))]
        values = np.concatenate(turned)
        order = np.argsort(values, kind="stable")
        values, number = values[order], order % len(found)
        at = np.arange(len(values))
        for ahead in range(1, _NEIGHBOURS + 1):
            at = at[at < len(values) - ahead]
            at = at[values[at] == values[at + ahead]]
            if not len(at):
                break
            for part in np.array_split(at, len(at) // _AT_ONCE + 1):
                one, other = number[part], number[part + ahead]
                differing = bits_PB[one] ^ bits_PB[other]
                near = np.bitwise_count(differing).sum(axis=1) <= radius
                a, b = clip_P[one[near]], clip_P[other[near]]
                made = np.minimum(a, b) * len(records) + np.maximum(a, b)
                waiting.append(made[a != b])
                if sum(map(len, waiting)) > _AT_ONCE:
                    pairs, waiting = np.unique(np.concatenate([pairs, *waiting])), []
    pairs = np.unique(np.concatenate([pairs, *waiting]))
    return [(int(pair) // len(records), int(pair) % len(records)) for pair in pairs]


_NEIGHBOURS = 50
_AT_ONCE = 1 << 20


def _band(bits_PB: NDArray[np.uint8], first: int, end: int) -> NDArray[np.uint64]:
    """Bits first <= i < end of each row as a number; at most 64."""
    within = np.unpackbits(bits_PB[:, first // 8 : -(-end // 8)], axis=1)[:, first % 8 :][:, : end - first]
    value = np.zeros(len(bits_PB), np.uint64)
    for column in within.T:
        value = value << np.uint64(1) | column
    return value


def _distances(first: list[str], second: list[str]) -> NDArray[np.float64]:
    """Share of differing bits between each of the first pictures and each of the second."""
    bits = [
        np.unpackbits(np.frombuffer(bytes.fromhex("".join(h)), np.uint8)).reshape(len(h), -1)
        for h in (first, second)
    ]
    return (bits[0][:, None] != bits[1][None]).mean(axis=-1)


def _smoothed(changes: list[float]) -> NDArray[np.float64]:
    """Median of three: every key frame of a codec is a pulse, and equal distances of key frames are no sign of equal footage."""
    series = np.array(changes, np.float64)
    return series if len(series) < 3 else np.median([series[:-2], series[1:-1], series[2:]], axis=0)


def _correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Largest correlation of two series over shifts of up to 12 frames."""
    best = -1.0
    for shift in range(-12, 13):
        a, b = first[max(0, shift) :], second[max(0, -shift) :]
        length = min(len(a), len(b))
        if length < 8 or a[:length].std() < 1e-6 or b[:length].std() < 1e-6:
            continue
        best = max(best, float(np.corrcoef(a[:length], b[:length])[0, 1]))
    return best


def _rank(record: Record) -> tuple[float, float, str]:
    source = record["source"]
    return (source["height"] * source["width"], record.score("blur") or 0.0, record.id)
