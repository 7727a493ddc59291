import hashlib
import os
import pickle
from pathlib import Path

import pytest

from anyref.curation.store import Store, _said, escape, unescape


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


@pytest.mark.parametrize(
    "name", [b"caf\xe9.mov", b"caf%E9.mov", b"%25%\xff", b"%%25", b"100%", b"%2%E9\xc3", "caf\xe9".encode()]
)
def test_names_that_are_no_text_are_escaped_and_come_back(name: bytes) -> None:
    told = os.fsdecode(name)
    assert unescape(escape(told)) == told
    assert escape(told).encode()
    assert name in (b"caf\xe9.mov", b"caf%E9.mov", b"%25%\xff", b"%%25", b"%2%E9\xc3") or escape(told) == told


def test_two_films_whose_escaped_names_could_be_one(tmp_path: Path) -> None:
    try:
        (tmp_path / os.fsdecode(b"caf\xe9.mov")).write_bytes(b"raw")
    except OSError:
        pytest.skip("this file system takes no such names")
    (tmp_path / "caf%E9.mov").write_bytes(b"literal")
    store = Store(str(tmp_path / "out"), str(tmp_path))
    assert store.film_names() == ["caf%25E9.mov", "caf%E9.mov"]
    for name, content in (("caf%25E9.mov", b"literal"), ("caf%E9.mov", b"raw")):
        with store.film(name) as path:
            assert path.read_bytes() == content


def test_a_replaced_film_is_told_by_what_its_place_says(tmp_path: Path) -> None:
    import fsspec

    (tmp_path / "a.mp4").write_bytes(b"a")
    store = Store(str(tmp_path / "out"), str(tmp_path))
    before = store.film_files()
    assert before == store.film_files() and before["a.mp4"]["bytes"] == 1
    os.utime(tmp_path / "a.mp4", (5, 5))
    assert before != store.film_files()
    (tmp_path / "b.mp4").symlink_to(tmp_path / "nowhere")
    assert store.film_files()["b.mp4"] == {}

    place = f"memory://{tmp_path.name}-told"
    with fsspec.open(f"{place}/c.mp4", "wb") as file:
        file.write(b"film")
    told = Store(str(tmp_path / "out"), place).film_files()["c.mp4"]
    assert told["bytes"] == 4 and told["modified"]
    with fsspec.open(f"{place}/c.mp4", "wb") as file:
        file.write(b"mlif")
    assert Store(str(tmp_path / "out"), place).film_files()["c.mp4"] != told


def test_an_etag_is_all_that_is_needed() -> None:
    assert _said({"ETag": '"ab"', "size": 3, "LastModified": 1}) == {"etag": '"ab"'}


@pytest.mark.parametrize(
    ("output", "films", "apart"),
    [
        ("films/set", "films", False),
        ("films", "films", False),
        ("set", "films", True),
        ("films2", "films", True),
        (".", "films", True),
    ],
)
@pytest.mark.parametrize("kind", ["folder", "memory"])
def test_an_output_in_the_input_is_refused(
    tmp_path: Path, kind: str, output: str, films: str, apart: bool
) -> None:
    root = str(tmp_path) if kind == "folder" else f"memory://{tmp_path.name}"
    store = Store(f"{root}/{output}".removesuffix("/."), f"{root}/{films}")
    if apart:
        store.check_apart()
        Store(store.root, f"{'memory://x' if kind == 'folder' else tmp_path}/{films}").check_apart()
    else:
        with pytest.raises(ValueError, match="lies in the folder of films"):
            store.check_apart()
