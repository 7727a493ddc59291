"""What a benchmark asks for: cases of prompt and references, read from OpenS2V's JSON, MAGREF's and Kaleido's lines, or our JSON lines.

Ours is one object a line: {"key", "prompt", "category", "references": [{"path", "label", "role", "phrase", "mask", "kind"}]}; only key,
prompt and the paths must be there. Relative paths are looked up beside the file, then one folder up, then from the working directory.
"""

import json
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from anyref.cases import SEPARATOR, Kind, ReferenceFile, parse_reference, read_case_file
from anyref.files import atomic

Role = Literal["face", "human", "object", "background"]
Form = Literal["auto", "opens2v", "magref", "kaleido", "jsonl"]
_KINDS: dict[Role, Kind] = {"face": "face", "human": "person", "object": "object", "background": "background"}
_ROLES: dict[Kind, Role] = {"face": "face", "person": "human", "background": "background"}
_PEOPLE = {"man", "woman", "crop_man", "crop_woman"}
_PLACES = {"environment", "scene"}
_PEOPLE_WORDS = frozenset("man woman boy girl child person lady gentleman people".split())
_PLACE_WORDS = _PLACES | {"background"}
_AFTER_THE_NOUN = frozenset("with in on at of from near holding wearing who whose that".split())
_SHOWN_COMPLAINTS = 8


@dataclass(frozen=True)
class EvaluationReference:
    """A reference image and what it is for. `label` is a class noun as the benchmark writes it, "" where it does not say."""

    path: Path
    label: str
    role: Role
    phrase: str | None = None
    """Its words in the prompt."""
    mask_path: Path | None = None
    """A picture that is bright where the subject is."""
    kind: Kind | None = None
    """As in anyref.samples, for generation; None where the benchmark does not say."""


@dataclass(frozen=True)
class EvaluationCase:
    """A video to make and to score: KEY.mp4. `category` groups cases as the benchmark does."""

    key: str
    prompt: str
    category: str
    references: tuple[EvaluationReference, ...]


def read_cases(path: Path, form: Form = "auto") -> tuple[EvaluationCase, ...]:
    """Read a case file. `auto`: .json is OpenS2V's, .jsonl ours; of lines with @@, those whose second part is an image are Kaleido's.

    Raises one ValueError that names what is wrong with the first bad cases, and files that are not there.
    """
    if path.is_dir():
        path = path / "cases.jsonl"
    text = _text(path)
    chosen = _form_of(path, text) if form == "auto" else form
    readers: dict[str, Callable[[Path, str], list[EvaluationCase]]] = {
        "opens2v": _read_opens2v,
        "magref": _read_magref,
        "kaleido": _read_kaleido,
        "jsonl": _read_jsonl,
    }
    cases = readers[chosen](path, text)
    if not cases:
        raise ValueError(f"the case file {path} has no cases; give a file of a benchmark")
    seen: dict[str, str] = {}
    for case in cases:
        if case.key.lower() in seen:
            raise ValueError(
                f"the case file {path} has the key {case.key!r} twice; give each case a name of its own"
            )
        seen[case.key.lower()] = case.key
    return tuple(cases)


def write_cases(path: Path, cases: Iterable[EvaluationCase]) -> None:
    """Write our JSON lines, atomically; paths under the file's folder become relative, so that the folder can be moved."""

    def written(target: Path | None) -> str | None:
        if target is None:
            return None
        folder = path.parent.resolve()
        whole = target.resolve()
        return (whole.relative_to(folder) if whole.is_relative_to(folder) else whole).as_posix()

    with atomic(path) as partial, partial.open("w", encoding="utf-8") as file:
        for case in cases:
            references = [
                {
                    "path": written(reference.path),
                    "label": reference.label,
                    "role": reference.role,
                    "phrase": reference.phrase,
                    "mask": written(reference.mask_path),
                    "kind": reference.kind,
                }
                for reference in case.references
            ]
            record = {"key": case.key, "prompt": case.prompt, "category": case.category}
            file.write(json.dumps({**record, "references": references}, ensure_ascii=True) + "\n")


def release_lines(cases: Iterable[EvaluationCase]) -> str:
    """The cases as `anyref generate --case-file` reads them: key@@prompt@@kind:phrase=path..., one a line.

    Raises ValueError for a prompt that holds @@, or a phrase that holds "=".
    """
    lines = []
    for case in cases:
        prompt = " ".join(case.prompt.split())
        if SEPARATOR in prompt or any("=" in (r.phrase or "") for r in case.references):
            raise ValueError(
                f"the case {case.key!r} has @@ in its prompt, or = in a phrase, and cannot be written as a line; reword it"
            )
        parts = [case.key, prompt]
        for reference in case.references:
            named = f"{reference.phrase}={reference.path}" if reference.phrase else str(reference.path)
            parts.append(f"{reference.kind or _KINDS[reference.role]}:{named}")
        lines.append(SEPARATOR.join(parts) + "\n")
    return "".join(lines)


def role_of(path: str, category: str) -> Role:
    """What an OpenS2V reference is for, by the folders of its path: the benchmark says it nowhere else.

    Release: people are in folders man and woman, crop_man and crop_woman where only the face is cut out; places in environment or scene. A
    file of that name, with or without a number, counts as well.
    """
    pieces = path.lower().split("/")
    pieces[-1] = re.sub(r"[\d_\-\s]*(\.\w+)?$", "", pieces[-1])
    if found := _PEOPLE & set(pieces):
        return (
            "face"
            if "face" in category.lower() or any(name.startswith("crop") for name in found)
            else "human"
        )
    return "background" if _PLACES & set(pieces) else "object"


def role_in_words(file: ReferenceFile, category: str) -> Role:
    """What a reference of a line without a kind is for, by the noun of its phrase, else by that of its file's name; "object" where neither says.

    Folders are not looked at: where a file happens to lie says nothing of it.
    """
    for words in (_words(file.phrase or ""), _words(file.path.stem)):
        noun = words[-1] if words else ""
        if noun in _PEOPLE_WORDS:
            return "face" if "face" in category.lower() or words[0] == "crop" else "human"
        if noun in _PLACE_WORDS:
            return "background"
    return "object"


def _words(text: str) -> list[str]:
    """Up to the noun: "a man in a hat" ends with the man."""
    words: list[str] = []
    for word in re.findall(r"[^\W\d_]+", text.lower()):
        if words and word in _AFTER_THE_NOUN:
            break
        words.append(word)
    return words


def category_of(key: str, num_references: int) -> str:
    """The group that OpenS2V's ids begin with (singleface_12 is of singleface); else single or multi, by the number of references."""
    found = re.match(r"(single|multi)(obj|object|human|face)(?=_|\d)|(human|face)obj(?=_|\d)", key)
    return found.group() if found else ("single" if num_references <= 1 else "multi")


def _form_of(path: Path, text: str) -> Form:
    if path.suffix.lower() == ".jsonl":
        return "jsonl"
    if path.suffix.lower() == ".json":
        return "opens2v"
    lines = (line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    parts = [part.strip() for part in next(lines, "").split(SEPARATOR)]
    if parts[0].startswith("{"):
        return "jsonl"
    images = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
    return "kaleido" if len(parts) > 1 and parts[1].lower().endswith(images) else "magref"


def _read_magref(path: Path, text: str) -> list[EvaluationCase]:  # noqa: ARG001 - the reader of generation reads the file
    cases = []
    for case in read_case_file(path):
        category = category_of(case.key, len(case.references))
        references = tuple(_from_file(file, category) for file in case.references)
        cases.append(EvaluationCase(case.key, case.prompt, category, references))
    _warn_of_unnamed(path, cases)
    return cases


def _from_file(file: ReferenceFile, category: str) -> EvaluationReference:
    role = role_in_words(file, category) if file.kind is None else _ROLES.get(file.kind, "object")
    return EvaluationReference(file.path, file.phrase or "", role, file.phrase, kind=file.kind)


def _warn_of_unnamed(path: Path, cases: Iterable[EvaluationCase]) -> None:
    """Metrics look for subjects by their words and choose references by their roles; what a line does not say, they guess."""
    unnamed = [
        reference
        for case in cases
        for reference in case.references
        if reference.kind is None or (not reference.phrase and reference.role == "object")
    ]
    if unnamed:
        warnings.warn(
            f"{path} does not say what {len(unnamed)} of its references are ({unnamed[0].path.name}, taken for {unnamed[0].role!r}, for one): "
            "metrics of subjects, faces and backgrounds guess; write kind:phrase=path, such as person:the man in black=1.png",
            stacklevel=2,
        )


def _read_kaleido(path: Path, text: str) -> list[EvaluationCase]:
    """prompt@@image@@image; the key is the number of the case, from 0, in six digits."""

    def read(number: int, line: str) -> EvaluationCase:
        prompt, *images = (part.strip() for part in line.split(SEPARATOR))
        if not prompt or not images or not all(images):
            raise ValueError("expected prompt@@image@@image...")
        files = [parse_reference(image, path.parent) for image in images]
        category = "single" if len(files) == 1 else "multi"
        return EvaluationCase(
            f"{number:06d}", prompt, category, tuple(_from_file(f, category) for f in files)
        )

    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    cases = _each(path, ((f"case {number}", (number, line)) for number, line in enumerate(lines)), read)
    _warn_of_unnamed(path, cases)
    return cases


def _read_opens2v(path: Path, text: str) -> list[EvaluationCase]:
    """{id: {"img_paths", "prompt", "class_label"}}; labels are kept as written, typing errors included."""
    try:
        table = json.loads(text, object_pairs_hook=_once)
    except ValueError as error:
        raise ValueError(
            f"the case file {path} cannot be read as JSON ({error}); give OpenS2V's file"
        ) from error
    if not isinstance(table, dict):
        raise ValueError(f"the case file {path} is not an object of cases; give OpenS2V's file, or a .jsonl")

    def read(key: str, record: Any) -> EvaluationCase:
        prompt = _said("prompt", record["prompt"])
        images, labels = record["img_paths"], record.get("class_label") or []
        images = [images] if isinstance(images, str) else images
        labels = [labels] if isinstance(labels, str) else labels
        category = category_of(_checked_key(key), len(images))
        references = tuple(
            EvaluationReference(
                _find(image, path.parent),
                _said("label", labels[index]) if index < len(labels) else "",
                role_of(image, category),
            )
            for index, image in enumerate(images)
        )
        return EvaluationCase(key, prompt, category, references)

    return _each(path, ((repr(key), (key, record)) for key, record in table.items()), read)


def _read_jsonl(path: Path, text: str) -> list[EvaluationCase]:
    def read(line: str) -> EvaluationCase:
        record = json.loads(line)
        given = record.get("references", [])
        key = _checked_key(record["key"])
        references = tuple(_from_record(reference, path.parent) for reference in given)
        category = record.get("category") or category_of(key, len(given))
        return EvaluationCase(key, _said("prompt", record["prompt"]), category, references)

    numbered = enumerate(text.splitlines(), start=1)
    return _each(path, ((f"line {number}", (line,)) for number, line in numbered if line.strip()), read)


def _from_record(record: Mapping[str, Any], folder: Path) -> EvaluationReference:
    phrase, kind, mask = (record.get(name) for name in ("phrase", "kind", "mask"))
    role = record.get("role") or _ROLES.get(cast("Kind", kind), "object")
    for what, value, known in (("role", role, get_args(Role)), ("kind", kind, get_args(Kind))):
        if value is not None and value not in known:
            raise ValueError(f"the {what} {value!r} is unknown, use one of {', '.join(known)}")
    label = _said("label", record.get("label", ""))
    phrase = None if phrase is None else _said("phrase", phrase)
    found = _find(record["path"], folder)
    return EvaluationReference(found, label, role, phrase, _find(mask, folder) if mask else None, kind)


def _each(
    path: Path, items: Iterable[tuple[str, tuple[Any, ...]]], read: Callable[..., EvaluationCase]
) -> list[EvaluationCase]:
    cases, complaints = [], []
    for name, arguments in items:
        try:
            cases.append(read(*arguments))
        except KeyError as error:
            complaints.append(f"{name} has no {error}")
        except (ValueError, TypeError, AttributeError) as error:
            complaints.append(f"{name}: {error}")
    if complaints:
        more = len(complaints) - _SHOWN_COMPLAINTS
        shown = "; ".join(complaints[:_SHOWN_COMPLAINTS]) + (f"; and {more} more" if more > 0 else "")
        raise ValueError(f"the case file {path} cannot be used; {shown}")
    return cases


def _checked_key(key: Any) -> str:
    if (
        not isinstance(key, str)
        or not key.isprintable()
        or key.startswith(".")
        or set(key) & set('/\\:*?"<>|')
    ):
        raise ValueError(f"the key {key!r} cannot be a file name")
    if not key:
        raise ValueError("the key is empty")
    return key


def _said(what: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"the {what} is {json.dumps(value)}; give text")
    return value


def _find(text: str, folder: Path) -> Path:
    for path in (folder / text, folder.parent / text, Path(text)):
        if path.is_file():
            return path
    raise ValueError(f"the image {text!r} is not there")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} occurs twice")
    return found


def _text(path: Path) -> str:
    if not path.is_file():
        raise ValueError(f"the case file {path} does not exist; check the path")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"the case file {path} is not UTF-8 text; save it as UTF-8") from error
