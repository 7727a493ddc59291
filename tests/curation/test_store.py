import hashlib
import os
import pickle
from pathlib import Path

import pytest

from anyref.curation.store import Store


@pytest.mark.parametrize("kind", ["folder", "memory"])
def test_blobs_are_named_by_their_content(tmp_path: Path, kind: str) -> None:
    store = Store(str(tmp_path / "out") if kind == "folder" else f"memory://{tmp_path.name}")
    uri = store.put(b"data", ".png")
    digest = hashlib.sha256(b"data").hexdigest()
    assert uri == f"blobs/{digest[:2]}/{digest}.png" == store.put(b"data", ".png")
    assert store.read(uri) == b"data" and store.names("blobs") == [uri] and store.names("none") == []
    with store.local(uri) as path:
        assert path.read_bytes() == b"data" and path.suffix == ".png"
    assert pickle.loads(pickle.dumps(store)).read(uri) == b"data"
    store.remove(uri)
    assert not store.exists(uri)
    with pytest.raises(FileNotFoundError):
        store.read(uri)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "a\\b", "", "a\0b"])
def test_names_do_not_lead_out(tmp_path: Path, name: str) -> None:
    store = Store(str(tmp_path / "out"), str(tmp_path))
    with pytest.raises(ValueError, match="leads out"), store.film(name):
        pass
    with pytest.raises(ValueError, match="leads out"):
        store.write(name, b"")


def test_links_are_followed_inside_only(tmp_path: Path) -> None:
    films = tmp_path / "films"
    films.mkdir()
    (tmp_path / "secret.mp4").write_bytes(b"secret")
    (films / "a.mp4").write_bytes(b"a")
    (films / "inside.mp4").symlink_to(films / "a.mp4")
    (films / "outside.mp4").symlink_to(tmp_path / "secret.mp4")
    (films / "circle").symlink_to(films, target_is_directory=True)
    (films / ".hidden.mp4").write_bytes(b"")
    store = Store(str(tmp_path / "out"), str(films))
    assert store.film_names() == ["a.mp4", "inside.mp4", "outside.mp4"]
    with store.film("inside.mp4") as path:
        assert path.read_bytes() == b"a"
    with pytest.raises(ValueError, match="link that leads out"), store.film("outside.mp4"):
        pass


def test_no_folder_of_films_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder of films"):
        Store(str(tmp_path), str(tmp_path / "none")).film_names()


def test_a_film_in_an_object_store_is_a_local_copy_that_goes(tmp_path: Path) -> None:
    import fsspec

    place = f"memory://{tmp_path.name}-films"
    with fsspec.open(f"{place}/a/b.mp4", "wb") as file:
        file.write(b"film")
    store = Store(str(tmp_path), place)
    assert store.film_names() == ["a/b.mp4"]
    with store.film("a/b.mp4") as path:
        assert path.read_bytes() == b"film"
    assert not path.exists()
    with pytest.raises(ValueError, match=r"^a/b\.mp4 is bad$"), store.film("a/b.mp4") as path:
        raise ValueError(f"{path} is bad")


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        Store(str(tmp_path)).put(b"data", ".png")
    assert [f for _, _, files in os.walk(tmp_path) for f in files] == []
