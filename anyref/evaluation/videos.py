"""Which file answers which case, and what each file holds: found out before any model is loaded."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from anyref.evaluation.cases import EvaluationCase
from anyref.files import atomic, sha256

SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")
LONG_S = 5.0
_TAKE = re.compile(r"^(?P<key>.+)\.seed-(?P<seed>\d+)$")
_FAILURES = (ValueError, OSError, RuntimeError, MemoryError)


@dataclass(frozen=True)
class VideoFile:
    """The file of a case; `take` is 0, or the seed in its name."""

    case: EvaluationCase
    take: int
    path: Path


@dataclass(frozen=True)
class Matched:
    """Files by case. `missing` are keys without a file, `extra` names of files that no case asks for."""

    videos: tuple[VideoFile, ...]
    missing: tuple[EvaluationCase, ...]
    extra: tuple[str, ...]


@dataclass(frozen=True)
class Inspected:
    """What a file holds. `problem` says in a sentence why it cannot be decoded; then the rest is 0."""

    sha256: str
    num_bytes: int
    num_frames: int = 0
    fps: float = 0.0
    height: int = 0
    width: int = 0
    codec: str = ""
    problem: str | None = None


class Taken(NamedTuple):
    """A file and what it holds."""

    file: VideoFile
    held: Inspected


def match_videos(cases: Sequence[EvaluationCase], folder: Path) -> Matched:
    """Find KEY.mp4, or KEY.seed-7.mp4 for several takes, for each case.

    Raises ValueError where the folder is not there, two files claim to be the same take, or no case has a video.
    """
    if not folder.is_dir():
        raise ValueError(f"the folder of videos {folder} does not exist; check the path")
    by_key = {case.key: case for case in cases}
    found: dict[tuple[str, int], VideoFile] = {}
    extra = []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES or path.name.startswith(".") or not path.is_file():
            continue
        key, take = path.stem, 0
        if key not in by_key and (taken := _TAKE.match(key)):
            key, take = taken["key"], int(taken["seed"])
        if key not in by_key:
            extra.append(path.name)
            continue
        if (key, take) in found:
            raise ValueError(
                f"{path.name} and {found[key, take].path.name} are both the video of case {key!r}; remove one of them"
            )
        found[key, take] = VideoFile(by_key[key], take, path)
    missing = tuple(case for case in cases if not any(key == case.key for key, _ in found))
    if not found:
        there = f"there are {', '.join(extra[:3])}" if extra else "there is none"
        raise ValueError(
            f"no case has a video in {folder}: {there}; name them by their keys, such as {cases[0].key}.mp4"
        )
    return Matched(tuple(found[place] for place in sorted(found)), missing, tuple(extra))


def inspect(path: Path, digest: str) -> Inspected:
    """Decode the whole file once, because headers lie about counts. `digest` is its SHA-256."""
    from anyref import footage

    num_bytes = path.stat().st_size
    try:
        held = footage.probe(path)
        num_frames = footage.count_frames(path)
    except _FAILURES as error:
        reason = " ".join(str(error).replace(f"{path}", path.name).split()) or type(error).__name__
        return Inspected(digest, num_bytes, problem=reason)
    fps = float(held.fps or 0.0)
    return Inspected(digest, num_bytes, num_frames, fps, held.height, held.width, held.codec)


def inspect_all(files: Sequence[VideoFile], kept: Path, advance: Callable[[], object]) -> list[Taken]:
    """What each file holds. `kept` (videos.jsonl) remembers it, by the hash of the file, as soon as it is known; in the end it is sorted."""
    known = _read(kept)
    taken = []
    kept.parent.mkdir(parents=True, exist_ok=True)
    with kept.open("a", encoding="utf-8") as journal:
        for file in files:
            digest = sha256(file.path)
            held = known.get(digest)
            if held is None:
                held = known[digest] = inspect(file.path, digest)
                journal.write(_line(Taken(file, held)))
                journal.flush()
            taken.append(Taken(file, held))
            advance()
    with atomic(kept) as partial:
        partial.write_text("".join(map(_line, taken)), encoding="utf-8")
    return taken


def notes(taken: Sequence[Taken]) -> tuple[str, ...]:
    """What makes scores of these videos hard to compare with others: lengths, sizes and rates."""
    held = [one.held for one in taken if one.held.problem is None]
    found = []
    long = sum(one.fps > 0 and one.num_frames / one.fps >= LONG_S for one in held)
    if long:
        found.append(
            f"{long} videos last {LONG_S:g} s or longer: VBench scores such with VBench-Long, here they are scored whole"
        )
    for what, values in (
        ("sizes", {f"{one.height} x {one.width}" for one in held}),
        ("frame rates", {f"{one.fps:g}" for one in held}),
        ("lengths", {f"{one.num_frames} frames" for one in held}),
    ):
        if len(values) > 1:
            found.append(f"the videos have {len(values)} {what} ({', '.join(sorted(values)[:4])})")
    return tuple(found)


def _line(taken: Taken) -> str:
    about = {"case": taken.file.case.key, "take": taken.file.take, "file": taken.file.path.name}
    return json.dumps({**about, **asdict(taken.held)}) + "\n"


def _read(path: Path) -> dict[str, Inspected]:
    found = {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    for line in lines:
        try:
            record = json.loads(line)
            held = Inspected(**{name: record[name] for name in Inspected.__dataclass_fields__})
        except (ValueError, KeyError, TypeError):
            continue  # cut short by a kill, maybe in the middle of the file
        found[held.sha256] = held
    return found
