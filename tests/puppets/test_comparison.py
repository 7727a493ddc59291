"""Several models in one table: the same clips, paired differences, and parts that are not measured twice."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from tiny_model import write_tiny_model

from anyref.cli import main
from anyref.commands import MeasuredPart
from anyref.methods.folder import read_folder
from anyref.puppets import cards, comparison, identity
from anyref.puppets.comparison import Comparison, Plan, compare
from anyref.puppets.judging import Outcomes
from anyref.puppets.measure import PARTS


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models, and a judge beside them."""
    root = tmp_path_factory.mktemp("models")
    for method in ("magref", "kaleido"):
        write_tiny_model(root / method, method)
    identity.save(identity.IdentityEncoder(), root / "identity.safetensors")
    return root


def plan_of(root: Path, kept: Path, *parts: str) -> Plan:
    return Plan(root / "identity.safetensors", 2, kept, parts)


def test_the_command_names_every_part() -> None:
    assert get_args(MeasuredPart) == tuple(PARTS)


def test_an_interrupted_comparison_goes_on(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def part(name: str, interrupted: bool = False) -> Any:
        def make(bench: Any) -> Any:
            made.append(f"{bench.pipeline.method.name} {name}")
            if interrupted:
                raise KeyboardInterrupt
            return {"retrieval" if name == "a" else "1 reference": Outcomes((1.0, 0.0), 0.125)}

        return make

    models = {name: read_folder(root / name) for name in ("magref", "kaleido")}
    plan = plan_of(root, tmp_path, "a", "b")
    monkeypatch.setattr(comparison, "PARTS", {"a": part("a"), "b": part("b", interrupted=True)})
    with pytest.raises(KeyboardInterrupt):
        compare(models, plan)
    monkeypatch.setattr(comparison, "PARTS", {"a": part("a"), "b": part("b")})
    first = compare(models, plan)
    assert made == ["magref a", "magref b", "magref b", "kaleido a", "kaleido b"]
    assert compare(models, plan) == first
    assert len(made) == 5

    other = root / "kaleido" / "anyref.json"
    text = other.read_text()
    try:
        other.write_text(json.dumps({**json.loads(text), "offset": "per-clip"}))
        compare({"kaleido": read_folder(root / "kaleido")}, plan)
    finally:
        other.write_text(text)
    assert made[5:] == ["kaleido a", "kaleido b"], "another setting makes other videos"


def test_differences_are_to_the_first_and_of_shares_only() -> None:
    share, loss = Outcomes((1.0, 0.0, 1.0, 1.0), 0.125), Outcomes((0.5,) * 4)
    worse = Outcomes((0.0,) * 4, 0.125)
    found = Comparison(
        {"retrieval": share},
        {"a": {"retrieval": share, "held-out loss": loss}, "b": {"retrieval": worse, "held-out loss": loss}},
    )
    assert found.differences()["b"]["retrieval"].value == -0.75
    assert set(found.differences()["b"]) == {"retrieval"}
    rows = [line for line in found.markdown().splitlines() if line.startswith("|")]
    assert rows[0] == "| measure | clips | chance | real clips | a | b | b minus a |"
    assert rows[2].startswith("| retrieval | 4 | 0.125 | 0.750 [")
    assert "| -0.750 [" in rows[2]
    assert rows[-1].count("0.500 [0.500, 0.500]") == 2
    assert {line.count("|") for line in rows} == {8}


def test_models_of_other_sizes_are_not_compared(root: Path, tmp_path: Path) -> None:
    larger = write_tiny_model(tmp_path / "larger")
    record = json.loads((larger / "anyref.json").read_text())
    record["defaults"]["width"] = 64
    (larger / "anyref.json").write_text(json.dumps(record))
    models = {"a": read_folder(root / "magref"), "b": read_folder(larger)}
    with pytest.raises(ValueError, match=r"a makes 5 frames of 32 x 48 and b makes 5 frames of 32 x 64"):
        compare(models, plan_of(root, tmp_path, "retrieval"))


def test_the_command_writes_a_report_tables_and_cards(root: Path, tmp_path: Path) -> None:
    names = [str(root / "magref"), str(root / "kaleido")]
    words = ["puppets", "measure", "--num-clips", "2", "--output", str(tmp_path / "m.json"), "--card"]
    words += ["--model", names[0], "--model", names[1], "--parts", "retrieval"]
    assert main(words) == 0
    report = json.loads((tmp_path / "m.json").read_text())
    assert list(report["models"]) == names
    assert set(report["minus_the_first"]) == {names[1]}
    assert report["models"][names[0]]["retrieval"]["trials"] == 2
    assert "retrieval" in report["real"]
    tables = (tmp_path / "m.md").read_text()
    assert f"{names[1]} minus {names[0]}" in tables
    assert "## By number of references" in tables
    card = (root / "magref" / "README.md").read_text()
    assert "| retrieval | " in card
    assert (
        json.loads((root / "kaleido" / cards.SCORES).read_text())["results"]["1 reference"]["chance"] == 0.125
    )


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--model", "puppets/nobody"], "puppets/nobody"),
        (["--output", "m.txt"], "not a .json"),
        (["--parts", "everything"], "everything"),
    ],
)
def test_the_command_says_what_is_wrong(
    words: list[str],
    what: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["puppets", "measure", *words]) == 2
    said = capsys.readouterr().err
    assert what in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_model_named_twice_is_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = str(root / "magref")
    assert main(["puppets", "measure", "--model", name, "--model", name]) == 2
    assert "twice" in capsys.readouterr().err
