"""Export: shards read back in order and at random, resume to the same bytes, and names lead nowhere."""

import hashlib
import io
import json
import tarfile
import tracemalloc
from pathlib import Path

import pytest
from ideal_curation import curate_ideally

from anyref.curation import records as rows
from anyref.curation.assemble import CutClips, sample_of, write_manifest
from anyref.curation.dataset import CuratedSet
from anyref.curation.store import Store
from anyref.curation.webdataset import Shards, export, key_of, read_tar
from anyref.worlds.films import FilmPlan, write_film

SMALL = FilmPlan(height=64, width=96, fps=8.0)


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> CuratedSet:
    films, output = tmp_path_factory.mktemp("films"), tmp_path_factory.mktemp("curated")
    store = Store(str(output), str(films))
    write_film(SMALL, 0, films)
    cutter = CutClips().open()
    cut = [cutter(record, store).records[0] for record in curate_ideally(store)]
    write_manifest(store, [sample_of(record.with_values({"split": "train"})) for record in cut])
    return CuratedSet(str(output))


def test_samples_come_back_in_order_and_by_number(curated: CuratedSet, tmp_path: Path) -> None:
    done = []
    exported = export(curated, Store(str(tmp_path)), 60_000, lambda now, total: done.append((now, total)))
    assert exported.samples == len(curated)
    assert len(exported.shards) >= 2
    assert done[-1] == (len(curated), len(curated))
    shards = Shards(Store(str(tmp_path)))
    assert len(shards) == len(curated)
    number = 0
    for name in exported.shards:
        with (tmp_path / name).open("rb") as file:
            for sample in read_tar(file):
                key = sample.pop("__key__").decode()
                assert key == shards.keys[number]
                assert shards.files(number) == sample
                record = json.loads(sample["json"])
                row = rows.from_json(rows.Sample, record["sample"])
                assert row == curated.row(number)
                for uri, suffix in record["files"].items():
                    assert hashlib.sha256(sample[suffix]).hexdigest() in uri
                assert hashlib.sha256(sample["mp4"]).hexdigest() == row.clip.sha256
                number += 1
    assert number == len(curated)


def test_an_export_goes_on_to_the_same_bytes(curated: CuratedSet, tmp_path: Path) -> None:
    whole, halted = Store(str(tmp_path / "whole")), Store(str(tmp_path / "halted"))
    export(curated, whole, 60_000)

    class HaltError(Exception):
        pass

    def halt(done: int, total: int) -> None:
        raise HaltError(f"{done} of {total}")

    with pytest.raises(HaltError):
        export(curated, halted, 60_000, halt)
    first = (tmp_path / "halted" / "train-000000.tar").stat().st_mtime_ns
    export(curated, halted, 60_000)
    assert (tmp_path / "halted" / "train-000000.tar").stat().st_mtime_ns == first
    files = [{path.name: path.read_bytes() for path in Path(one.root).iterdir()} for one in (whole, halted)]
    assert files[0] == files[1]
    with pytest.raises(ValueError, match="other settings"):
        export(curated, halted, 70_000)


def test_keys_are_plain_and_different() -> None:
    assert key_of("film-3_a") == "film-3_a"
    odd = ["../../etc/passwd", "a.b", "a/b", "a b", "", "x" * 200, "\u00e4"]
    keys = [key_of(one) for one in odd]
    assert len(set(keys)) == len(odd)
    assert all(
        set(key) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") for key in keys
    )


@pytest.mark.parametrize("name", ["../up.json", "/etc/x.json", "a/../../b.json", "a.json/../c.x"])
def test_names_that_lead_out_of_a_shard_are_refused(name: str) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.size = 2
        tar.addfile(info, io.BytesIO(b"{}"))
    data.seek(0)
    with pytest.raises(ValueError, match="no plain file"):
        list(read_tar(data))


def sparse_shard(size: int) -> io.BytesIO:
    """A tar of a few blocks with one file that consists of a hole, as GNU tar writes them."""
    info = tarfile.TarInfo("a.json")
    info.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[386:398] = header[398:410] = b"00000000000\0"
    header[483:495] = b"%011o\0" % size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return io.BytesIO(bytes(header) + bytes(2 * tarfile.BLOCKSIZE))


@pytest.mark.parametrize("size", [300_000_000, 8_000_000_000])
def test_a_file_of_holes_is_refused_before_it_fills_the_memory(size: int) -> None:
    with tarfile.open(fileobj=sparse_shard(size)) as tar:
        (member,) = tar.getmembers()
        assert member.isreg() and member.issparse() and member.size == size
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="no plain file"):
            list(read_tar(sparse_shard(size)))
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_a_file_larger_than_its_shard_is_refused_before_it_is_read() -> None:
    info = tarfile.TarInfo("a.json")
    info.size = 1_000_000_000_000
    data = info.tobuf(tarfile.GNU_FORMAT) + bytes(4 * tarfile.BLOCKSIZE)
    with pytest.raises(ValueError, match="of 1000000000000 bytes and has 2560 itself; export it again"):
        list(read_tar(io.BytesIO(data)))


def test_links_and_damage_are_refused(tmp_path: Path) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        info = tarfile.TarInfo("a.json")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(info)
    data.seek(0)
    with pytest.raises(ValueError, match="no plain file"):
        list(read_tar(data))
    with pytest.raises(ValueError, match="export it again"):
        list(read_tar(io.BytesIO(b"no tar" * 500)))
    with pytest.raises(FileNotFoundError, match="export"):
        Shards(Store(str(tmp_path)))
