"""S0: register a film: what it holds, whether it decodes to its end, and the signals that shots and quality are judged by."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from anyref import footage
from anyref.curation import signals
from anyref.curation.records import Source, to_json
from anyref.curation.signals import Signals
from anyref.curation.stage import Outcome, Record, Resources
from anyref.curation.store import Store, unescape

LICENCES = "licences.json"
"""File at the top of the input: film names, or folders ending in "/", to licences; and to groups, as {"licence": ..., "group": ...}."""


@dataclass(frozen=True)
class Probe:
    """Reads `uri`, the film's name, and takes `file`, by which a replaced film is told, away.

    Writes `source` (a `records.Source`) and `signals` (name of a blob, `signals.Signals`).
    """

    max_missing: float = 0.05
    """A film that ends this share earlier than its header says, in frames and in seconds, is cut off, and quarantined; headers are often one
    too high."""
    measure_version: int = signals.VERSION
    resources: Resources = field(default=Resources(memory_gib=4.0, seconds=7200.0, isolated=True))
    name: str = field(default="probe", init=False)
    version: int = field(default=3, init=False)
    reads: frozenset[str] = field(default=frozenset({"uri", "licence", "group_id", "file"}), init=False)
    writes: frozenset[str] = field(default=frozenset({"source", "signals"}), init=False)

    def open(self) -> "_Worker":
        """No models."""
        signals.opencv()
        return _Worker(self)


@dataclass(frozen=True)
class _Worker:
    stage: Probe

    def __call__(self, record: Record, store: Store) -> Outcome:
        uri = record["uri"]
        with store.film(uri) as path:
            found = footage.probe(path)
            measured = signals.measure(path)
            if self._is_cut_off(found, measured):
                raise ValueError(
                    f"{path} ends after {measured.num_frames} of {found.num_frames} frames; it is cut off, so fetch it again"
                )
            source = self._source(record, found, measured, path)
        stored = store.put(measured.to_bytes(), ".signals.npz")
        # Later stages go by the content: a film that was only touched gives them the same keys.
        read = Record(record.id, record.kind, {n: v for n, v in record.values.items() if n != "file"})
        return Outcome.ok(read.with_values({"source": to_json(source), "signals": stored}))

    def _is_cut_off(self, found: footage.Probe, measured: Signals) -> bool:
        """Fewer frames than the header says, and an earlier end: a film trimmed by an edit list holds frames that no player shows."""
        kept = 1 - self.stage.max_missing
        if not found.num_frames or measured.num_frames >= found.num_frames * kept - 2:
            return False
        lasts_s = float(measured.time_F[-1]) + 2 / (found.fps or 25.0)
        return found.duration_s is None or lasts_s < found.duration_s * kept

    def _source(self, record: Record, found: footage.Probe, measured: Signals, path: Path) -> Source:
        steps = np.diff(measured.time_F)
        step = float(np.median(steps)) if len(steps) else 1.0 / (found.fps or 25.0)
        step = step if step > 0 else 1.0 / (found.fps or 25.0)
        # Containers that count in milliseconds round each step.
        uneven = np.abs(steps - step) > max(0.2 * step, 0.0021)
        span = float(measured.time_F[-1] - measured.time_F[0]) + step
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        return Source(
            uri=record["uri"],
            sha256=content,
            bytes=path.stat().st_size,
            licence=record.get("licence") or "unknown",
            group_id=record.get("group_id") or record.id,
            codec=found.codec,
            pixel_format=found.pixel_format,
            width=found.width,
            height=found.height,
            rotation_degrees=found.rotation_degrees,
            fps=round(measured.num_frames / span, 6),
            num_frames=measured.num_frames,
            duration_s=round(span, 6),
            start_pts=found.start_pts,
            time_base=(found.time_base.numerator, found.time_base.denominator),
            variable_frame_rate=bool(len(steps) and uneven.mean() > 0.01),
            color_range=found.color_range,
            has_alpha=found.has_alpha,
            decoder=footage.decoder_version(),
        )


def film_records(store: Store) -> list[Record]:
    """One record per file of the input that could be footage, sorted by id. Raises ValueError where there is none."""
    files = store.film_files()
    names = [name for name in files if Path(name).suffix.lower() in footage.FOOTAGE_SUFFIXES]
    if not names:
        raise ValueError(
            f"no films in {store.films}; put files ending in {', '.join(footage.FOOTAGE_SUFFIXES)} there"
        )
    known = _licences(store) if LICENCES in files else {}
    records = []
    for name in names:
        said = _said(known, name)
        licence, group = said.get("licence"), said.get("group")
        values = {"uri": name, "licence": licence, "group_id": group, "file": files[name]}
        records.append(Record(film_id(name), "source", values))
    return sorted(records, key=lambda record: record.id)


def film_id(name: str) -> str:
    """Id of a film by its name below the input: readable, and unique where names differ only in what an id cannot hold."""
    readable = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in Path(name).stem)
    return f"{readable[:40]}-{hashlib.sha256(name.encode()).hexdigest()[:10]}"


def _licences(store: Store) -> dict[str, Mapping[str, str]]:
    with store.film(LICENCES) as path:
        try:
            table = json.loads(path.read_text(encoding="utf-8"))
            return {
                name: {"licence": said} if isinstance(said, str) else dict(said)
                for name, said in table.items()
            }
        except (ValueError, AttributeError, TypeError) as error:
            raise ValueError(
                f'{LICENCES} is not a table of licences ({error}); write {{"film.mp4": "CC-BY-4.0"}}'
            ) from error


def _said(known: Mapping[str, Mapping[str, str]], name: str) -> Mapping[str, str]:
    """The entry of the film, else of the nearest folder, else of "/"; the table may call them as we do or as their place does."""
    folders = [f"{parent.as_posix()}/" for parent in Path(name).parents if parent.as_posix() != "."]
    for place in (name, *folders, "/"):
        for called in (place, unescape(place)):
            if called in known:
                return known[called]
    return {}
