"""Case files of the three benchmarks and ours: roles and categories as the release has them, and one sentence for what cannot be read."""

import json
import warnings
from pathlib import Path

import pytest
from PIL import Image

from anyref.cases import ReferenceFile, read_case_file
from anyref.evaluation.cases import (
    category_of,
    read_cases,
    release_lines,
    role_in_words,
    role_of,
    write_cases,
)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for name in ("man/1.png", "crop_woman/2.png", "environment/3.png", "bag/4.png", "a.png", "b.png"):
        path = tmp_path / "Images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), "red").save(path)
    return tmp_path


def write(path: Path, value: object) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def test_opens2v(images: Path) -> None:
    table = {
        "singlehuman_1": {"img_paths": ["Images/man/1.png"], "prompt": "A man.", "class_label": ["Man"]},
        "faceobj_2": {
            "img_paths": ["Images/crop_woman/2.png", "Images/bag/4.png", "Images/environment/3.png"],
            "prompt": "Une femme \u00e0 la plage, \u6d77.",
            "synthesis_flag": "Wrong",
            "class_label": ["Woman", "Chiken"],
        },
    }
    one, two = read_cases(write(images / "Open-Domain_Eval.json", table))
    assert (one.key, one.category, one.references[0].role, one.references[0].label) == (
        "singlehuman_1", "singlehuman", "human", "Man",
    )  # fmt: skip
    assert [reference.role for reference in two.references] == ["face", "object", "background"]
    assert [reference.label for reference in two.references] == ["Woman", "Chiken", ""]
    assert two.category == "faceobj"
    assert two.prompt.endswith("\u6d77.")


@pytest.mark.parametrize(
    ("path", "category", "role"),
    [
        ("Images/man/1.png", "singlehuman", "human"),
        ("Images/man/1.png", "singleface", "face"),
        ("Images/crop_man/1.png", "humanobj", "face"),
        ("data/Woman_12.png", "single", "human"),
        ("Images/scene/x.jpg", "multiobject", "background"),
        ("Images/snowman/1.png", "singleobj", "object"),
        ("Images/obj/woman_bag.png", "singleobj", "object"),
    ],
)
def test_roles_by_folder(path: str, category: str, role: str) -> None:
    assert role_of(path, category) == role


@pytest.mark.parametrize(
    ("key", "count", "category"),
    [
        ("singleobj_1", 1, "singleobj"),
        ("multiobject_30", 3, "multiobject"),
        ("multiface_2", 2, "multiface"),
        ("humanobj_7", 2, "humanobj"),
        ("beach", 1, "single"),
        ("beach", 3, "multi"),
        ("multihumane", 2, "multi"),
    ],
)
def test_categories_by_key(key: str, count: int, category: str) -> None:
    assert category_of(key, count) == category


def test_magref_and_kaleido_lines_are_told_apart(images: Path) -> None:
    magref = write(
        images / "m.txt", "# cases\nbeach@@A man runs.@@Images/man/1.png@@red bag=Images/bag/4.png\n"
    )
    with pytest.warns(UserWarning, match="what 2 of its references are .*write kind:phrase=path"):
        (case,) = read_cases(magref)
    assert (case.key, case.category) == ("beach", "multi")
    assert [reference.role for reference in case.references] == ["object", "object"]
    assert case.references[1].phrase == "red bag"
    kaleido = write(
        images / "k.txt", "A man runs.@@Images/man/1.png@@Images/bag/4.png\n\nA bag.@@Images/bag/4.png\n"
    )
    with pytest.warns(UserWarning, match="1.png, taken for 'object'"):
        cases = read_cases(kaleido)
    assert [(case.key, case.category, len(case.references)) for case in cases] == [
        ("000000", "multi", 2),
        ("000001", "single", 1),
    ]
    assert cases[0].prompt == "A man runs."


@pytest.mark.parametrize(
    ("name", "phrase", "category", "role"),
    [
        ("scene/man/dog.png", None, "single", "object"),
        ("a/Woman_12.png", None, "single", "human"),
        ("a/crop_man.png", None, "single", "face"),
        ("a/man.png", None, "singleface", "face"),
        ("a/scene 3.png", None, "multi", "background"),
        ("a/woman_bag.png", None, "multi", "object"),
        ("a/snowman.png", None, "multi", "object"),
        ("a/1.png", "the man in a red hat", "multi", "human"),
        ("a/1.png", "the man's dog", "multi", "object"),
        ("a/1.png", "the beach scene", "multi", "background"),
    ],
)
def test_roles_of_lines_by_words(name: str, phrase: str | None, category: str, role: str) -> None:
    assert role_in_words(ReferenceFile(Path(name), phrase), category) == role


def test_lines_that_say_everything_warn_of_nothing(images: Path) -> None:
    line = "k@@A man with a bag on the grass.@@person:man=Images/a.png@@object:bag=Images/b.png@@background:Images/bag/4.png\n"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (case,) = read_cases(write(images / "m.txt", line))
    assert [(r.role, r.label) for r in case.references] == [
        ("human", "man"), ("object", "bag"), ("background", ""),
    ]  # fmt: skip


def test_ours_survives_writing_and_moving(images: Path) -> None:
    table = {
        f"singleobj_{n}": {
            "img_paths": ["Images/bag/4.png"] * 12,
            "prompt": "\u4e00\u53ea\u72d7",
            "class_label": [],
        }
        for n in range(2)
    }
    cases = read_cases(write(images / "x.json", table))
    write_cases(images / "cases.jsonl", cases)
    again = read_cases(images / "cases.jsonl")
    assert [(c.key, c.prompt, c.category, len(c.references)) for c in again] == [
        (c.key, c.prompt, c.category, 12) for c in cases
    ]
    assert "Images/bag/4.png" in (images / "cases.jsonl").read_text()
    assert str(images) not in (images / "cases.jsonl").read_text()
    assert (images / "cases.jsonl").read_bytes().isascii()


def test_ours_keeps_every_field(images: Path) -> None:
    reference = {
        "path": "Images/a.png",
        "label": "dog",
        "phrase": "the dog",
        "mask": "Images/b.png",
        "kind": "animal",
    }
    line = {"key": "k", "prompt": "The dog.", "references": [reference]}
    (case,) = read_cases(write(images / "c.jsonl", line))
    found = case.references[0]
    assert (case.category, found.role, found.kind) == ("single", "object", "animal")
    assert found.mask_path is not None
    assert found.mask_path.name == "b.png"
    write_cases(images / "d.jsonl", [case])
    assert read_cases(images / "d.jsonl") == (case,)


def test_release_lines_are_what_generate_reads(images: Path) -> None:
    references = [
        {"path": "Images/a.png", "phrase": "the dog", "kind": "animal"},
        {"path": "Images/environment/3.png", "role": "background"},
    ]
    line = {"key": "k", "prompt": "The dog\njumps.", "references": references}
    cases = read_cases(write(images / "c.jsonl", line))
    (case,) = read_case_file(write(images / "c.txt", release_lines(cases)))
    assert case.prompt == "The dog jumps."
    assert [(file.kind, file.phrase) for file in case.references] == [
        ("animal", "the dog"),
        ("background", None),
    ]
    bad = read_cases(write(images / "c.jsonl", {"key": "k", "prompt": "a @@ b", "references": []}))
    with pytest.raises(ValueError, match="@@ in its prompt"):
        release_lines(bad)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.json", "{", "cannot be read as JSON"),
        ("x.json", "[]", "not an object"),
        ("x.json", '{"a": 1, "a": 2}', "'a' occurs twice"),
        ("x.json", '{"a": {"prompt": "p"}}', "'a' has no 'img_paths'"),
        ("x.json", '{"a": {"prompt": "p", "img_paths": ["no.png"]}}', "'no.png' is not there"),
        ("x.json", '{"a/b": {"prompt": "p", "img_paths": []}}', "cannot be a file name"),
        ("x.jsonl", '{"key": "a", "prompt": "p"}\n{"key": "A", "prompt": "p"}', "has the key 'A' twice"),
        ("x.jsonl", '{"key": "a"}', "line 1 has no 'prompt'"),
        ("x.jsonl", '{"key": "a", "prompt": "p", "references": [{"path": "x", "role": "dog"}]}', "the role 'dog'"),
        ("x.json", '{"a": {"prompt": null, "img_paths": []}}', "used; 'a': the prompt is null; give text"),
        ("x.json", '{"a": {"prompt": "p", "img_paths": ["r.png"], "class_label": [null]}}', "'a': the label is null"),
        ("x.json", '{"a": {"prompt": "p", "img_paths": ["r.png"], "class_label": [3]}}', "'a': the label is 3"),
        ("x.jsonl", '{"key": "a", "prompt": null}', "line 1: the prompt is null"),
        ("x.jsonl", '{"key": "a", "prompt": ["p"]}', "line 1: the prompt is "),
        ("x.jsonl", '{"key": "a", "prompt": "p", "references": [{"path": "r.png", "label": null}]}', "1: the label is null"),
        ("x.jsonl", '{"key": "a", "prompt": "p", "references": [{"path": "r.png", "phrase": 3}]}', "1: the phrase is 3"),
        ("x.jsonl", "", "has no cases"),
        ("x.txt", "a prompt@@no.png", "no.png"),
        ("x.txt", "just words", "expected key@@prompt@@image"),
        ("none.json", None, "does not exist"),
    ],
)  # fmt: skip
def test_one_sentence_for_what_cannot_be_read(
    tmp_path: Path, name: str, text: str | None, message: str
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "r.png")
    if text is not None:
        write(tmp_path / name, text)
    with pytest.raises(ValueError, match=message) as caught:
        read_cases(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_many_complaints_are_cut(tmp_path: Path) -> None:
    table = {f"c{n}": {"img_paths": ["no.png"], "prompt": "p"} for n in range(30)}
    with pytest.raises(ValueError, match="and 22 more"):
        read_cases(write(tmp_path / "x.json", table))
