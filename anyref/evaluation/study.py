"""Make a blind user study: a folder with a page, videos and pictures under names that say nothing, and a key that stays at home.

All videos are encoded anew by the same encoder, so that neither container, nor codec, nor a tag of the file gives a model away.
"""

import hashlib
import json
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from rich.console import Console
from rich.progress import track

from anyref.evaluation.cases import EvaluationCase, read_cases
from anyref.evaluation.runs import counted
from anyref.evaluation.study_command import StudyMakeConfig
from anyref.evaluation.study_design import NOISE, Question, Size, design
from anyref.evaluation.templates import render
from anyref.files import atomic, check_writable, sha256, write_json
from anyref.media import VIDEO_SUFFIXES, read_video, save_image, write_video
from anyref.provenance import record

KEY = "key.json"
FORM = "form"
VOTES = "votes"
_CRF = 12  # cannot be told from the original by eye
_NOISE_CRF = 30
_NOISE_BLOCK_PX = 8


@dataclass(frozen=True)
class Aspect:
    """One thing that raters compare two videos by."""

    name: str
    question: str
    shows_noise: bool = False
    """Whether noise must lose here; the other aspects say nothing about who was looking (noise leaks no background, for one)."""


ASPECTS: dict[str, tuple[Aspect, ...]] = {
    # paper: MAGREF section 4.4 names the aspects and no wording, Kaleido section 4 likewise; the questions are ours.
    "magref": (
        Aspect(
            "identity preservation",
            "In which video do the people and things look more like the reference pictures?",
        ),
        Aspect(
            "visual quality",
            "Which video looks better: sharper, more natural, without artefacts or flicker?",
            True,
        ),
        Aspect("text alignment", "Which video shows better what the text says?"),
    ),
    "kaleido": (
        Aspect(
            "video quality",
            "Which video looks better: sharper, more natural, without artefacts or flicker?",
            True,
        ),
        Aspect("prompt alignment", "Which video shows better what the text says?"),
        Aspect(
            "S2V consistency",
            "In which video do the people and things look more like the reference pictures?",
        ),
        Aspect(
            "S2V decoupling",
            "Which video copies less from the reference pictures that is not the subject itself: background, pose, borders?",
        ),
    ),
}


def make(config: StudyMakeConfig) -> None:
    """Write the study; a second call with the same settings goes on where the first was interrupted."""
    folders = model_folders(config.model)
    if len(folders) < 2:
        raise ValueError(
            f"a study compares models, and {len(folders)} is given; give --model NAME=FOLDER twice or more"
        )
    cases = {case.key: case for case in read_cases(config.cases)}
    check_writable(config.output / KEY)
    videos, complete = _find_videos(folders, cases, config.skip_missing)
    size = Size(
        config.questions, config.raters, config.noise_checks, config.repeats, config.raters_per_question
    )
    forms = design(tuple(folders), complete, size, np.random.default_rng(config.seed))
    secret = _secret(config.output / KEY, config)
    names = _Names(secret)
    form = config.output / FORM
    _write_videos(forms, videos, names, form / "media")
    shown = {question.case for questions in forms for question in questions}
    pictures = {key: _write_references(cases[key], names, form / "media") for key in cases if key in shown}
    study = names.of("study")
    page = {
        "id": study,
        "aspects": [{"name": aspect.name, "question": aspect.question} for aspect in ASPECTS[config.aspects]],
        "cases": {
            names.of("case", key): {"prompt": cases[key].prompt, "references": shown}
            for key, shown in pictures.items()
        },
        "forms": [[_blind(question, names) for question in questions] for questions in forms],
    }
    with atomic(form / "study.js") as partial:
        partial.write_text(f"window.STUDY = {json.dumps(page)};\n", encoding="utf-8")
    with atomic(form / "index.html") as partial:
        partial.write_text(render("study.html"), encoding="utf-8")
    (config.output / VOTES).mkdir(exist_ok=True)
    _write_key(config, secret, study, forms, videos)
    Console().print(
        f"{len(forms)} forms of {len(forms[0])} questions: give raters the folder {form} (they open index.html#rater=1, 2, ...), keep "
        f"{config.output / KEY}, put their files into {config.output / VOTES}, then: anyref study analyze {config.output}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def model_folders(given: Sequence[str]) -> dict[str, Path]:
    """Parse NAME=FOLDER. Raises ValueError for another form, a name given twice, or no such folder."""
    folders: dict[str, Path] = {}
    for text in given:
        name, equals, folder = text.partition("=")
        if not equals or not name.strip() or name.strip() == NOISE:
            raise ValueError(
                f"{text!r} is not NAME=FOLDER with a name other than {NOISE!r}; write, for example, ours=outputs/ours"
            )
        if name.strip() in folders:
            raise ValueError(f"the name {name.strip()!r} is given twice; give each folder a name of its own")
        if not Path(folder).is_dir():
            raise ValueError(f"the folder {folder!r} of {name.strip()!r} does not exist; check the path")
        folders[name.strip()] = Path(folder)
    return folders


def _find_videos(
    folders: dict[str, Path], cases: dict[str, EvaluationCase], skip_missing: bool
) -> tuple[dict[tuple[str, str], Path], list[str]]:
    """(model, case) -> file, and the cases that every model has."""
    videos = {
        (model, case): path
        for model, folder in folders.items()
        for case in cases
        for path in _candidates(folder, case)
        if path.is_file()
    }
    missing = [f"{model}/{case}" for model in folders for case in cases if (model, case) not in videos]
    if missing and not skip_missing:
        some = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise ValueError(
            f"{counted(len(missing), 'video')} of {len(videos) + len(missing)} missing ({some}); make them, or give "
            "--skip-missing to leave these cases out"
        )
    complete = [case for case in cases if all((model, case) in videos for model in folders)]
    if not complete:
        raise ValueError(
            "no case has a video of every model; check the folders and that files are named CASE.mp4"
        )
    return videos, complete


def _candidates(folder: Path, case: str) -> Iterable[Path]:
    return (folder / f"{case}{suffix}" for suffix in reversed(VIDEO_SUFFIXES))  # .mp4 last: it wins


class _Names:
    """Names that say nothing, the same each time for the same study: a keyed hash of what they stand for."""

    def __init__(self, secret: str) -> None:
        self.secret = secret

    def of(self, *what: str) -> str:
        return hashlib.sha256("\0".join((self.secret, *what)).encode()).hexdigest()[:12]

    def video(self, question: Question, model: str) -> str:
        # Each noise video is its own, or raters would know it by its name.
        what = ("noise", question.key) if model == NOISE else ("video", question.case, model)
        return f"{self.of(*what)}.mp4"


def _secret(path: Path, config: StudyMakeConfig) -> str:
    """A random text, kept in the key: names could be computed from the seed alone otherwise. An interrupted study keeps its own."""
    if path.exists():
        old = json.loads(path.read_text(encoding="utf-8"))
        if old.get("config") != json.loads(json.dumps(asdict(config), default=str)):
            raise ValueError(
                f"{path} belongs to a study with other settings, and its votes would be lost; choose another --output or delete the folder"
            )
        return str(old["secret"])
    secret = secrets.token_hex(16)
    write_json(path, {"config": asdict(config), "secret": secret})
    return secret


def _write_videos(
    forms: Sequence[Sequence[Question]], videos: dict[tuple[str, str], Path], names: _Names, folder: Path
) -> None:
    jobs: dict[str, tuple[Question, str]] = {}
    for question in (question for form in forms for question in form):
        for model in (question.left, question.right):
            jobs[names.video(question, model)] = (question, model)
    todo = {name: job for name, job in jobs.items() if not (folder / name).exists()}
    for name, (question, model) in track(todo.items(), "videos", disable=not todo):
        other = question.right if question.left == NOISE else question.left
        video = read_video(videos[other if model == NOISE else model, question.case])
        if model == NOISE:
            noise = _noise(
                video.frames_FYX3.shape[:3], np.random.default_rng(int(names.of(question.key), 16))
            )
            write_video(noise, folder / name, fps=video.fps, crf=_NOISE_CRF)
        else:
            write_video(video.frames_FYX3, folder / name, fps=video.fps, crf=_CRF)


def _noise(shape_FYX: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Blocks of random colours that change in every frame; blocks, because the noise of single pixels makes huge files."""
    frames, height, width = shape_FYX
    rows, columns = -(-height // _NOISE_BLOCK_PX), -(-width // _NOISE_BLOCK_PX)
    blocks = rng.integers(0, 256, (frames, rows, columns, 3), dtype=np.uint8)
    return blocks.repeat(_NOISE_BLOCK_PX, 1).repeat(_NOISE_BLOCK_PX, 2)[:, :height, :width]


def _write_references(case: EvaluationCase, names: _Names, folder: Path) -> list[dict[str, str]]:
    shown = []
    for number, reference in enumerate(case.references):
        name = f"{names.of('reference', case.key, str(number))}.png"
        if not (folder / name).exists():
            with Image.open(reference.path) as opened:
                picture = ImageOps.exif_transpose(opened)
                picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
            picture.thumbnail((512, 512))
            save_image(picture, folder / name)
        shown.append({"file": name, "label": reference.phrase or reference.label})
    return shown


def _blind(question: Question, names: _Names) -> dict[str, str]:
    return {
        "key": question.key,
        "case": names.of("case", question.case),
        "left": names.video(question, question.left),
        "right": names.video(question, question.right),
    }


def _write_key(
    config: StudyMakeConfig,
    secret: str,
    study: str,
    forms: Sequence[Sequence[Question]],
    videos: dict[tuple[str, str], Path],
) -> None:
    key: dict[str, Any] = {
        **record(config, [config.cases]),
        "secret": secret,
        "study": study,
        "models": list(model_folders(config.model)),
        "aspects": [asdict(aspect) for aspect in ASPECTS[config.aspects]],
        "forms": [[asdict(question) for question in questions] for questions in forms],
        "videos": [
            {"model": model, "case": case, "path": str(path), "sha256": sha256(path)}
            for (model, case), path in videos.items()
        ],
    }
    key["config"] = json.loads(json.dumps(asdict(config), default=str))
    write_json(config.output / KEY, key)
