"""Scored folders as `anyref evaluate run` leaves them, made up: three cases' worth of every status, marks, curves and odd texts."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from anyref.evaluation.cases import EvaluationCase, EvaluationReference, write_cases
from anyref.evaluation.metrics import Mark
from anyref.evaluation.rows import Row, UsedModel, write_rows
from anyref.evaluation.suites import find_suite
from anyref.files import sha256
from anyref.media import write_video
from anyref.perception import Box
from anyref.runlengths import encode

SUITE = "puppets"
ODD = 'A <script>alert("1")</script> & a {{ dog }}'
LOWER_IS_BETTER = {
    "anyref.identity_drift",
    "anyref.copy_paste",
    "anyref.duplicate_subjects",
    "anyref.canvas_leak",
}
NUM_FRAMES, FPS, HEIGHT, WIDTH = 9, 8.0, 64, 96


def make_cases(folder: Path, count: int) -> list[EvaluationCase]:
    rng = np.random.default_rng(5)
    cases = []
    for number in range(count):
        references = []
        for index in range(1 + number % 3):
            path = folder / f"reference{number}_{index}.png"
            picture = np.full((48, 48, 4), 255, dtype=np.uint8)
            picture[..., :3] = rng.integers(30, 220, 3)
            picture[:8, :, 3] = 0
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)
            references.append(EvaluationReference(path, "dog", "object", f"dog {index}"))
        prompt = (
            ODD if number == 0 else f"Dog number {number} runs through a park, and everybody looks at it."
        )
        category = "single" if number % 3 == 0 else "multi"
        cases.append(EvaluationCase(f"case_{number:02d}", prompt, category, tuple(references)))
    write_cases(folder / "cases.jsonl", cases)
    return cases


def make_run(
    folder: Path, cases: list[EvaluationCase], quality: float, seed: int, with_videos: bool = True
) -> Path:
    """Videos in folder/videos and scores in folder/scores."""
    rng = np.random.default_rng(seed)
    rows, lines = [], []
    for number, case in enumerate(cases):
        path = folder / "videos" / f"{case.key}.mp4"
        missing = number == 4 and quality < 0.5
        if with_videos and not missing:
            write_video(moving_square(number), path, fps=FPS)
        digest = "" if missing else (sha256(path) if with_videos else f"{case.key}-{seed}")
        for weighted in find_suite(SUITE).metrics:
            rows.append(make_row(case, number, weighted.metric, digest, quality, rng))
        if not missing:
            lines.append(
                {"case": case.key, "take": 0, "file": path.name, "sha256": digest, "num_bytes": 9000, "num_frames": NUM_FRAMES,
                 "fps": FPS, "height": HEIGHT, "width": WIDTH, "codec": "h264", "problem": None}
            )  # fmt: skip
    scores = folder / "scores"
    write_rows(scores / "rows.jsonl", rows)
    (scores / "videos.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    card = {
        "name": "puppets",
        "source": "anyref/puppets",
        "revision": "abc123",
        "licence": "Apache-2.0",
        "commercial": quality > 0.5,
    }
    about = {
        "suite": SUITE,
        "missing": [cases[4].key] if quality < 0.5 else [],
        "extra": [],
        "unavailable": {},
        "metrics": {
            w.metric: {
                "version": 1,
                "higher_is_better": w.metric not in LOWER_IS_BETTER,
                "parameters": {},
                "models": {"encoder": card},
                "seconds": 1.2,
            }
            for w in find_suite(SUITE).metrics
        },
        "config": {"videos": str(folder / "videos"), "cases": str(folder.parent / "cases.jsonl")},
        "versions": {"anyref": "0.1.0"},
    }
    (scores / "run.json").write_text(json.dumps(about))
    return scores


def make_row(
    case: EvaluationCase, number: int, metric: str, digest: str, quality: float, rng: np.random.Generator
) -> Row:
    strict = float(np.clip(rng.normal(quality - (0.2 if case.category == "multi" else 0), 0.1), 0, 1))
    value = 4 + 3 * strict if metric == "magref.aesthetic" else strict
    question = (
        case.key,
        case.category,
        0,
        metric,
        1,
        digest,
        f"{case.key}-asks",
        {"encoder": UsedModel("puppets", "abc123")},
        "p",
    )
    if not digest:
        return Row(*question, None, 0.0, "missed", details={"reason": "there is no video of this case"})
    if metric == "magref.bg_sim" and case.category == "single":
        return Row(*question, None, None, "not_applicable", details={"reason": "no background reference"})
    if metric == "magref.subj_sim" and number == 2:
        return Row(*question, None, 0.0, "missed", details={"reason": "nowhere"})
    if metric == "anyref.coverage" and number == 3:
        return Row(*question, None, None, "error", details={"reason": "RuntimeError: <b>broken</b>"})
    frames = tuple(range(0, NUM_FRAMES, 2))
    curve = tuple(None if frame == 4 else float(strict + rng.normal(0, 0.03)) for frame in frames)
    boxes: tuple[Mark, ...] = ()
    if metric in {"magref.subj_sim", "magref.id_sim"}:
        boxes = tuple(mark(number, frame, metric == "magref.subj_sim") for frame in frames)
    return Row(
        *question,
        value,
        strict if metric != "magref.aesthetic" else value,
        "ok",
        per_frame=curve if metric.startswith("magref") else (),
        frame_indices=frames if metric.startswith("magref") else (),
        boxes=boxes,
    )


def square_left(number: int, frame: int) -> int:
    return (7 * number + 6 * frame) % (WIDTH - 24)


def moving_square(number: int) -> np.ndarray:
    frames = np.full((NUM_FRAMES, HEIGHT, WIDTH, 3), (190, 205, 190), dtype=np.uint8)
    for frame in range(NUM_FRAMES):
        left = square_left(number, frame)
        frames[frame, 20:44, left : left + 24] = (200 - 10 * (number % 10), 60, 20 * (number % 12))
    return frames


def mark(number: int, frame: int, with_mask: bool) -> Mark:
    left = square_left(number, frame)
    subject_mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    subject_mask[20:44, left : left + 24] = True
    runs = encode(subject_mask)
    mask = {"size": list(runs.size), "counts": runs.counts} if with_mask else None
    return Mark(frame, Box(20, left, 44, left + 24), "dog <i>", 0.9, number % 2, mask)
