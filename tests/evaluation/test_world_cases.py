"""The puppet benchmark as files: MAGREF's shape, the same at each call, and readable by generation."""

from pathlib import Path

import pytest

from anyref.cases import read_case_file
from anyref.evaluation import command
from anyref.evaluation.cases import read_cases
from anyref.evaluation.command import EvaluateCasesConfig, EvaluateDoctorConfig, cases, doctor, examine
from anyref.evaluation.suites import SUITES, find_suite
from anyref.evaluation.world_cases import MAX_REFERENCES, write_world_cases
from anyref.media import read_video
from anyref.worlds import PuppetWorld
from anyref.worlds.identities import COLOURS, PEOPLE


def test_shape_and_repeatability(tmp_path: Path) -> None:
    world = PuppetWorld("test", num_frames=5)
    for name in ("one", "two"):
        write_world_cases(world, tmp_path / name, num_single=4, num_multi=8, clips=True)
    files = sorted(
        path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file()
    )
    assert files == sorted(
        path.relative_to(tmp_path / "two") for path in (tmp_path / "two").rglob("*") if path.is_file()
    )
    for file in files:
        if file.suffix != ".mp4":  # x264 with several threads does not repeat itself to the byte
            assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file
    found = read_cases(tmp_path / "one")
    assert [case.category for case in found].count("single") == 4
    assert len(found) == 12
    for case in found:
        assert 1 <= len(case.references) <= MAX_REFERENCES
        assert any(reference.label in PEOPLE for reference in case.references)
        assert all(reference.phrase and reference.phrase in case.prompt for reference in case.references)
        assert not set(case.prompt.lower().replace(".", " ").split()) & set(COLOURS)
        assert read_video(tmp_path / "one" / "clips" / f"{case.key}.mp4").frames_FYX3.shape == (5, 64, 96, 3)
        if case.category == "single":
            assert len(case.references) == 1
        else:
            assert len(case.references) >= 2
    assert any(r.role == "background" for case in found for r in case.references)
    assert all((case.category == "single") is case.key.startswith("single") for case in found)


def test_generation_reads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cases(EvaluateCasesConfig(tmp_path / "out", num_single=1, num_multi=4))
    ours, theirs = read_cases(tmp_path / "out"), read_case_file(tmp_path / "out" / "cases.txt")
    assert [case.key for case in theirs] == [case.key for case in ours]
    for one, other in zip(ours, theirs, strict=True):
        assert one.prompt == other.prompt
        assert [(r.phrase, r.kind) for r in one.references] == [(f.phrase, f.kind) for f in other.references]
    cases(EvaluateCasesConfig(tmp_path / "again", source=tmp_path / "out" / "cases.txt"))
    again = read_cases(tmp_path / "again")
    assert [case.key for case in again] == [case.key for case in ours]
    assert read_case_file(tmp_path / "again" / "cases.txt")


def test_numbers_that_do_not_divide(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be a multiple of 4"):
        write_world_cases(PuppetWorld("test"), tmp_path, num_multi=6)


def test_doctor_names_every_role(capsys: pytest.CaptureFixture[str]) -> None:
    for suite in SUITES.values():
        lines = examine(suite)
        assert {line["metric"] for line in lines} == {weighted.metric for weighted in suite.metrics}
        assert all(isinstance(line["missing"], str | None) for line in lines)
    lines = examine(find_suite("core"))
    assert [line["model"] for line in lines] == ["OpenCV"] * len(lines)
    doctor(EvaluateDoctorConfig(suite="opens2v-v1.1-open"))
    shown = capsys.readouterr().out
    assert "opens2v.nexus_score" in shown
    assert "metrics have their packages here; weights of published models are not looked for" in shown


def test_doctor_prints_the_install_line_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = "pip install 'anyref[perception,curation]'"
    wanting = {"missing": f"needs transformers; run: {line}", "model": "[bold]name"}
    about = dict.fromkeys(("metric", "role", "licence", "commercial"), "x")
    monkeypatch.setattr(command, "examine", lambda *_: [{**about, **wanting}])
    doctor(EvaluateDoctorConfig(suite="core"))
    shown = capsys.readouterr().out
    assert line in shown and "[bold]name" in shown
