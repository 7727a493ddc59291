"""The table of commands: help, exit codes, and a start without torch."""

import json
import os
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import anyref
from anyref import cli, doctor
from anyref.cli import COMMANDS, main, parse
from anyref.demo import DemoConfig, as_command, draw_references
from anyref.jobs import GenerateConfig
from anyref.provenance import record, versions

ROOT = Path(__file__).parents[1]


def test_help_is_fast_and_imports_nothing_heavy() -> None:
    code = "import sys; from anyref.cli import main; main(['--help']); print(sorted({'torch', 'numpy', 'av'} & set(sys.modules)))"
    before = os.times()
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    after = os.times()
    used_s = after.children_user + after.children_system - before.children_user - before.children_system
    assert used_s < 1, "processor time, so that a busy machine does not matter"
    assert done.stdout.rstrip().endswith("[]")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_each_command_explains_itself(command: cli.Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command.name.split(), "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for field in fields(command.config):
        assert field.name.replace("_", "-") in text or field.name.upper() in text, f"--{field.name}"
    assert "None" not in text, "a default nobody can type"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_each_flag_has_a_sentence(command: cli.Command, capsys: pytest.CaptureFixture[str]) -> None:
    source = Path(sys.modules[command.config.__module__].__file__ or "").read_text()
    body = source.split(f"class {command.config.__name__}:")[1].split("\n\n\n")[0]
    assert body.count('"""') // 2 == len(fields(command.config)) + 1


def test_no_command_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "generate" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"anyref {anyref.__version__}\n"


def test_generate_reads_its_flags() -> None:
    line = "generate --method magref --reference 'red hat=hat.png' --reference dog.jpg --prompt x --seed 7"
    config = parse(shlex.split(f"{line} --num-frames 17 --output out.mp4 --keep-canvas"))
    assert config == GenerateConfig(
        prompt="x",
        reference=("red hat=hat.png", "dog.jpg"),
        method="magref",
        seed=7,
        num_frames=17,
        output=Path("out.mp4"),
        keep_canvas=True,
    )
    words = "generate --method kaleido --set positions=concat --set fit=own --reference-guidance 2.5"
    assert parse(shlex.split(words)) == GenerateConfig(
        method="kaleido", settings=("positions=concat", "fit=own"), reference_guidance=2.5
    )


def test_an_interruption_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "doctor", interrupted)
    assert main(["doctor"]) == 130
    assert capsys.readouterr().err.count("\n") == 1


def test_a_missing_package_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(_: object) -> None:
        raise ModuleNotFoundError("No module named 'tensorboard'", name="tensorboard")

    monkeypatch.setattr(doctor, "doctor", missing)
    assert main(["doctor"]) == 2
    assert "'tensorboard'" in capsys.readouterr().err


def test_the_traceback_can_be_had(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ANYREF_TRACEBACK", "1")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="no reference"):
        main(["generate", "--prompt", "x"])


def test_doctor_reports_to_people_and_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["versions"]["torch"] == versions()["torch"]
    assert report["machine"]["cores"] >= 1
    assert report["machine"]["memory_gib"] > 0
    assert report["runs"][0]["fits"] is True, "a machine that runs the tests runs the small models"
    assert main(["doctor"]) == 0
    assert "what this machine can run" in capsys.readouterr().out


def test_doctor_names_what_is_missing_and_the_line_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        doctor, "_requirements", lambda: [("torch", ""), ("no-such-core", ""), ("no-such-extra", "serving")]
    )
    (extra,) = doctor.extras()
    assert extra.missing == ("no-such-extra",)
    assert extra.install is not None
    assert "pip install" in extra.install
    assert "[serving]" in extra.install
    assert any(problem.startswith("no-such-core is missing: ") for problem in doctor.problems())


def test_doctor_compares_memory() -> None:
    small = doctor.Machine(2, 8.0, None, 0.0)
    large = doctor.Machine(16, 128.0, "a card", 139.0)
    assert [doctor.fits(w, small) for w in doctor.WORKLOADS][:2] == [True, True]
    assert not doctor.fits(doctor.WORKLOADS[-1], small)
    assert all(doctor.fits(w, large) for w in doctor.WORKLOADS)


def test_a_record_says_with_what(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    made = record(DemoConfig(output=tmp_path), [tmp_path / "a"])
    assert made["config"]["output"] == tmp_path
    assert made["files"][0]["sha256"].startswith("6b86b273")
    assert made["versions"]["anyref"] == anyref.__version__


def test_the_demo_draws_what_its_command_names(tmp_path: Path) -> None:
    config = DemoConfig(output=tmp_path / "demo")
    prompt, references = draw_references(config)
    assert references
    for text in references:
        phrase, _, path = text.partition("=")
        assert phrase in prompt
        assert Path(path).is_file()
    request = GenerateConfig(prompt=prompt, reference=references, output=tmp_path / "video.mp4", seed=3)
    assert "--reference" in as_command(request)
    assert draw_references(config) == (prompt, references), "the same again"


def test_public_names_are_there_and_sorted() -> None:
    assert anyref.__all__ == sorted(anyref.__all__)
    for name in anyref.__all__:
        assert getattr(anyref, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = anyref.nothing
    assert dir(anyref) == anyref.__all__
