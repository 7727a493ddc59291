"""References and case files as users write them."""

from pathlib import Path

import pytest

from anyref.cases import Case, ReferenceFile, parse_reference, read_case_file


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("hat.png", "dog.jpg", "a=b.png", "red hat=hat.png", "object:odd.png"):
        (tmp_path / name).write_bytes(b"image")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hat.png", ReferenceFile(Path("hat.png"))),
        ("the hat=hat.png", ReferenceFile(Path("hat.png"), "the hat")),
        (" the hat =hat.png", ReferenceFile(Path("hat.png"), "the hat")),
        ("a=b.png", ReferenceFile(Path("a=b.png"))),
        ("letters=a=b.png", ReferenceFile(Path("a=b.png"), "letters")),
        ("red hat=hat.png", ReferenceFile(Path("red hat=hat.png"))),
        ("background:hat.png", ReferenceFile(Path("hat.png"), None, "background")),
        ("person: the hat=hat.png", ReferenceFile(Path("hat.png"), "the hat", "person")),
        ("face:red hat=hat.png", ReferenceFile(Path("red hat=hat.png"), None, "face")),
        ("object:odd.png", ReferenceFile(Path("object:odd.png"))),
        ("note: the hat=hat.png", ReferenceFile(Path("hat.png"), "note: the hat")),
    ],
)
def test_path_or_phrase_and_path(here: Path, text: str, expected: ReferenceFile) -> None:
    assert parse_reference(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat.png", "does not exist"),
        ("=hat.png", "no phrase"),
        ("the hat=", "does not exist"),
        ("the hat=cat.png", "'the hat' does not exist"),
        ("background:", "does not exist"),
        ("background:cat.png", "'cat.png' does not exist"),
        ("background:=hat.png", "no phrase"),
        ("", "does not exist"),
        ("x" * 5000, "does not exist"),
    ],
)
def test_what_is_no_reference(here: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_reference(text)


def test_case_file_of_the_release(here: Path) -> None:
    (here / "sets").mkdir()
    (here / "sets" / "cat.png").write_bytes(b"image")
    path = here / "sets" / "cases.txt"
    path.write_text(
        "\ufeff# mine\none@@A dog runs.@@dog.jpg\n\ntwo @@ The hat flies. @@the hat=hat.png@@cat.png\n",
        "utf-8",
    )
    one, two = read_case_file(path)
    assert one == Case("one", "A dog runs.", (ReferenceFile(Path("dog.jpg")),), line=2)
    assert two.references == (
        ReferenceFile(Path("hat.png"), "the hat"),
        ReferenceFile(here / "sets" / "cat.png"),
    )


def test_every_bad_line_is_named(here: Path) -> None:
    path = here / "cases.txt"
    path.write_text(
        "good@@A dog.@@dog.jpg\nbad\nup/../x@@A dog.@@dog.jpg\nGOOD@@A dog.@@dog.jpg\nk@@@@dog.jpg\nl@@A cat.@@cat.png\n"
    )
    with pytest.raises(ValueError, match="cannot be used") as caught:
        read_case_file(path)
    message = str(caught.value)
    for number, part in (
        (2, "expected key@@"),
        (3, "file name"),
        (4, "twice"),
        (5, "prompt is empty"),
        (6, "does not exist"),
    ):
        assert f"line {number}: " in message
        assert part in message
    assert "line 1" not in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "no cases"), (b"\xff\xfe\x00a", "UTF-8"), (b"# only this\n", "no cases")]
)
def test_files_that_are_no_case_files(here: Path, content: bytes, message: str) -> None:
    (here / "cases.txt").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_case_file(here / "cases.txt")


def test_missing_case_file(here: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        read_case_file(here / "nothing.txt")
    with pytest.raises(ValueError, match="not a file"):
        read_case_file(here)
