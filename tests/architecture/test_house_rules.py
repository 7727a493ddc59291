"""Rules of the house that no linter knows: size, names, docstrings, ASCII, and nothing about the machine it was written on."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "anyref").rglob("*.py"))
TEXTS = sorted(
    path
    for pattern in ("*", "anyref/**/*", "docs/**/*", "tests/**/*", ".ci/*")
    for path in ROOT.glob(pattern)
    if path.is_file()
    and path.suffix in {".py", ".md", ".toml", ".txt", ".html", ".json", ""}
    and not path.name.startswith(".git")
)
BANNED_STEMS = {"utils", "util", "helpers", "common", "misc", "base", "manager", "core"}
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
# Two loops may be longer, to be read from top to bottom.
LOOPS = {("pipeline.py", "__call__"): 80, ("trainer.py", "train"): 80}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_size_names_and_docstring(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert path.stem not in BANNED_STEMS, "name the noun"
    assert text.count("\n") <= MAX_FILE_LINES
    docstring = ast.get_docstring(tree)
    assert docstring, "a module starts with one sentence"
    first = " ".join(docstring.split("\n\n")[0].split())
    why = "the README's tree shows the first paragraph: one sentence"
    assert first.endswith((".", "?")), why
    assert len(first) <= 200, why
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            limit = LOOPS.get((path.name, node.name), MAX_FUNCTION_LINES)
            assert length <= limit, f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_branch_on_the_method_outside_methods(path: Path) -> None:
    if path.parent.name == "methods":
        return
    names = r"(magref|kaleido|saber)"
    branch = re.search(
        rf"(==|!=|\bin|\bcase)\s*[\(\[\{{]?\s*[\"']{names}[\"']", path.read_text(encoding="utf-8")
    )
    assert branch is None, f"{branch and branch.group()}: it wants a field, a method or a new file"


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_text_is_ascii_and_knows_no_machine(path: Path) -> None:
    data = path.read_bytes()
    vocabulary = "weights" in path.parts  # a tokenizer's
    bad = (
        None
        if vocabulary
        else next((number for number, line in enumerate(data.splitlines(), 1) if not line.isascii()), None)
    )
    assert bad is None, f"line {bad} is not ASCII"
    # Absolute places of files: somebody's home, a scratch folder, a checkout.
    place = re.search(rb"(?<![\w.*])/(?:home|root|tmp|work|Users)/\w", data)
    assert place is None, f"{place and place.group()!r}: a path of one machine"
