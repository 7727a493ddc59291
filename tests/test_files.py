"""A file appears whole or not at all."""

import json
from pathlib import Path

import pytest

from anyref import files


def test_atomic_makes_folders_and_leaves_one_file(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.txt"
    with files.atomic(path) as partial:
        assert partial.suffix == ".txt"
        partial.write_text("new")
        assert not path.exists()
    assert [f.name for f in path.parent.iterdir()] == ["c.txt"]


def test_atomic_keeps_the_old_file_when_the_block_fails(tmp_path: Path) -> None:
    path = tmp_path / "c.txt"
    path.write_text("old")

    def interrupted() -> None:
        with files.atomic(path) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_takes_paths(tmp_path: Path) -> None:
    files.write_json(tmp_path / "record.json", {"path": tmp_path, "values": (1, 2.5, None)})
    assert json.loads((tmp_path / "record.json").read_text()) == {
        "path": str(tmp_path),
        "values": [1, 2.5, None],
    }


def test_writable_leaves_nothing_behind(tmp_path: Path) -> None:
    files.check_writable(tmp_path / "new" / "folder" / "video.mp4")
    assert not list(tmp_path.iterdir())
    old = tmp_path / "old.mp4"
    old.write_bytes(b"kept")
    files.check_writable(old)
    assert old.read_bytes() == b"kept"


@pytest.mark.parametrize("name", ["file/video.mp4", "x" * 300 + ".mp4", "nul\0.mp4"])
def test_unwritable_places_are_said(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("a file, not a folder")
    with pytest.raises(ValueError, match="cannot write the output"):
        files.check_writable(tmp_path / name)
    assert [f.name for f in tmp_path.iterdir()] == ["file"]


def test_hash_of_a_folder_sees_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    first = files.sha256(tmp_path)
    (tmp_path / ".hidden").write_text("a lock file")
    assert files.sha256(tmp_path) == first
    (tmp_path / "a").write_text("2")
    assert files.sha256(tmp_path) != first
    assert files.sha256(tmp_path / "a") == "d4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35"


def test_one_run_at_a_time_in_a_folder(tmp_path: Path) -> None:
    with (
        files.alone(tmp_path / "new" / "run"),
        pytest.raises(ValueError, match="another run writes"),
        files.alone(tmp_path / "new" / "run"),
    ):
        pass
    with files.alone(tmp_path / "new" / "run"):
        assert (tmp_path / "new" / "run").is_dir()
