"""Ablation tables: what is refused before anything runs, intervals with a known answer, and one table rehearsed from end to end."""

import json
import shutil
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from anyref.files import alone
from anyref.puppets import ablation
from anyref.puppets.ablation import Ablation
from anyref.puppets.ablation_report import PUBLISHED, markdown, plot, published, report
from anyref.puppets.judging import Outcomes
from anyref.puppets.scoring import SCORES
from anyref.puppets.small import SmallWorld
from anyref.training.recipes import ABLATIONS


def shares(values: list[float]) -> dict[str, Outcomes]:
    return {"retrieval": Outcomes(tuple(values), 0.125), "loss": Outcomes((1.0,))}


@pytest.mark.parametrize("table", ABLATIONS)
def test_every_published_row_is_a_row_of_ours(table: str) -> None:
    one = PUBLISHED[table]
    assert one.full in ABLATIONS[table]
    assert set(one.rows) <= set(ABLATIONS[table])
    assert set(published(table)) == set(one.rows)


def test_published_numbers_are_the_papers() -> None:
    assert published("kaleido-4")["40-percent"] == published("kaleido-3")["cross-pairs"]
    assert published("magref-4")["full"]["total"] == pytest.approx(0.627)
    assert published("saber")["fixed-ratio"]["total"] == pytest.approx(0.5173)


def test_differences_are_of_the_same_clips_and_seeds() -> None:
    """Rows that differ by 0.25 on every clip differ by exactly that, however much clips and seeds vary."""
    rng = np.random.default_rng(0)
    base = rng.integers(0, 3, size=(3, 20)) / 4
    found = {
        "no-cross-pairs": [shares(list(row)) for row in base],
        "cross-pairs": [shares(list(row + 0.25)) for row in base],
    }
    one = report("kaleido-3", found)
    difference = one.cells["no-cross-pairs"]["retrieval"].minus_full
    assert difference is not None
    assert (difference.value, difference.low, difference.high) == pytest.approx((-0.25, -0.25, -0.25))
    own = one.cells["cross-pairs"]["retrieval"]
    assert own.minus_full is None
    assert own.value.low < own.value.value < own.value.high
    assert list(one.chance) == ["retrieval"], "a loss is no share"


def test_seeds_that_disagree_widen_the_interval() -> None:
    agreeing = {"cross-pairs": [shares([0.5] * 40) for _ in range(3)]}
    differing = {"cross-pairs": [shares([value] * 40) for value in (0.2, 0.5, 0.8)]}
    narrow = report("kaleido-3", agreeing).cells["cross-pairs"]["retrieval"].value
    wide = report("kaleido-3", differing).cells["cross-pairs"]["retrieval"].value
    assert narrow.high - narrow.low == 0
    assert wide.high - wide.low > 0.3


def test_the_table_shows_both_and_says_what_one_seed_cannot() -> None:
    found = {"no-cross-pairs": [shares([0.0, 1.0])], "cross-pairs": [shares([1.0, 1.0])]}
    one = report("kaleido-3", found)
    text = markdown(one)
    assert "0.500" in text
    assert "0.670" in text
    assert "one seed" in text
    assert plot(one)[:4] == b"\x89PNG"


def test_what_cannot_be_run_is_said_first(tmp_path: Path) -> None:
    asked = Ablation("magref-4", tmp_path, "cuda", backbones=tmp_path)
    for changed, words in (
        (replace(asked, table="magref-9"), "unknown; choose one of magref-3"),
        (replace(asked, rows=("half",)), "no row 'half'"),
        (replace(asked, seeds=0), "at least 1"),
        (asked, "backbone .* is not there"),
    ):
        with pytest.raises(ValueError, match=words):
            ablation.run(changed)
    assert not list(tmp_path.iterdir())


def test_rows_of_a_table_differ_only_in_their_method_and_base(tmp_path: Path) -> None:
    for table, rows in ABLATIONS.items():
        asked = Ablation(table, tmp_path)
        alike = [
            replace(
                one := ablation.configured(asked, recipe, 1),
                method=None,  # type: ignore[arg-type]
                base="",
                train=replace(one.train, fit=replace(one.train.fit, output=Path())),
            )
            for recipe in rows.values()
        ]
        assert all(one == alike[0] for one in alike)
        assert alike[0].train.fit.seed == 1


def test_a_result_is_known_by_all_that_decides_it(tmp_path: Path) -> None:
    asked, rows = Ablation("kaleido-4", tmp_path / "kaleido-4"), ABLATIONS["kaleido-4"]
    of = ablation.decided_by(asked, rows["0-percent"], 0)
    assert of == ablation.decided_by(replace(asked, output=tmp_path / "x" / "y"), rows["0-percent"], 0)
    assert of == json.loads(json.dumps(of))
    others = [
        ablation.decided_by(asked, rows["20-percent"], 0),
        ablation.decided_by(asked, rows["0-percent"], 1),
        ablation.decided_by(replace(asked, parts=("loss",)), rows["0-percent"], 0),
        ablation.decided_by(replace(asked, table="magref-3"), ABLATIONS["magref-3"]["t2v-backbone"], 0),
    ]
    assert all(other != of for other in others)
    assert set(of["weights"]) == {"transformer", "vae", "text_encoder", "image_encoder"}
    assert str(tmp_path) not in json.dumps(of)


def test_a_result_on_file_is_taken_and_another_ones_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, recipe = Ablation("kaleido-4", tmp_path / "kaleido-4"), ABLATIONS["kaleido-4"]["0-percent"]
    made: list[int] = []
    monkeypatch.setattr(ablation, "_train", lambda *_: made.append(1))
    monkeypatch.setattr(ablation, "_measure", lambda *_: shares([1 / 3, 0.5]))
    first = ablation._take(asked, recipe, "row", 0, ablation._Known(), lambda *_: None)
    assert first["retrieval"] == Outcomes((0.333333, 0.5), 0.125)
    assert ablation._take(asked, recipe, "row", 0, ablation._Known(), lambda *_: None) == first
    assert len(made) == 1
    path = next(asked.results_folder.iterdir())
    path.write_text(path.read_text().replace('"measured": 64', '"measured": 65'))
    ablation._take(asked, recipe, "row", 0, ablation._Known(), lambda *_: None)
    assert len(made) == 2


def test_a_row_that_another_process_is_at_is_left_for_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, order = Ablation("kaleido-3", tmp_path / "kaleido-3", seeds=1), []

    def take(_asked: object, _recipe: object, name: str, *_: object) -> dict[str, Outcomes]:
        order.append(name)
        return shares([0.5])

    monkeypatch.setattr(ablation, "_take", take)
    with ExitStack() as other:
        first = ablation.shared_name(ABLATIONS["kaleido-3"]["no-cross-pairs"])
        other.enter_context(alone(asked.rows_folder / first))
        monkeypatch.setattr(ablation.time, "sleep", lambda _: other.close())
        found = ablation.run(asked)
    assert order == ["cross-pairs, seed 0", "no-cross-pairs, seed 0"]
    assert list(found) == ["no-cross-pairs", "cross-pairs"], "in the table's order"


def test_a_recipe_of_several_tables_is_trained_once(tmp_path: Path) -> None:
    """Kaleido's ShiftW&H is a row of Tables 2, 3 and 5; MAGREF's plain training of Tables 3 and 4 and of Figure 6."""
    places = {
        (table, row): ablation.configured(
            Ablation(table, tmp_path / table), recipe, 0
        ).train.fit.output.relative_to(tmp_path)
        for table, rows in ABLATIONS.items()
        for row, recipe in rows.items()
    }
    assert places["kaleido-2", "shift-w-h"] == places["kaleido-5", "shift-w-h"]
    assert places["kaleido-3", "cross-pairs"] == places["kaleido-2", "shift-w-h"]
    assert places["magref-3", "region-mask"] == places["magref-4", "no-disentanglement"]
    assert places["magref-figure-6", "channel-concat"] == places["magref-3", "region-mask"]
    for first, place in places.items():
        for second, other in places.items():
            same = ABLATIONS[first[0]][first[1]] == ABLATIONS[second[0]][second[1]]
            assert (place == other) == same


def test_a_difference_stands_in_the_table_and_a_loss_where_all_rows_have_the_same_targets() -> None:
    name = ablation.DIFFERENCES[0]
    one = {
        "retrieval": Outcomes((1.0, 0.0), 0.125),
        name: Outcomes((0.2, 0.4)),
        "held-out loss": Outcomes((0.7, 0.8)),
    }
    kaleido = markdown(report("kaleido-3", {"cross-pairs": [one, one]}))
    magref = markdown(report("magref-4", {"full": [one, one]}))
    assert "0.300" in kaleido
    assert "0.300" in magref
    assert "0.750" in kaleido
    assert "0.750" not in magref


@pytest.mark.slow
def test_a_table_runs_and_goes_on(tmp_path: Path) -> None:
    """Small backbones, then two rows of two steps each; what is finished is not done again."""
    asked = Ablation(
        "magref-4",
        tmp_path / "out",
        "rehearsal",
        seeds=1,
        rows=("full", "no-disentanglement"),
        parts=("retrieval",),
    )
    first = ablation.run(asked)
    results = tmp_path / "results"
    kept = sorted(results.rglob("*.json"))
    assert [path.name for path in kept] == ["magref-3-region-mask.seed-0.json", "magref-4-full.seed-0.json"]
    kept[1].unlink()
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "rows").rglob("*.safetensors")}
    shutil.rmtree(tmp_path / "rows" / "rehearsal" / "magref-4-full" / "seed-0")
    assert ablation.run(asked) == first
    for path, time in made.items():
        assert (path.stat().st_mtime_ns == time) == ("magref-4-full" not in path.parts)
    assert set(report("magref-4", first).cells) == {"full", "no-disentanglement"}
    shutil.rmtree(tmp_path / "rows" / "rehearsal" / "magref-4-full")
    assert ablation.run(asked) == first, "a result needs no weights"
    assert not list((tmp_path / "rows" / "rehearsal" / "magref-4-full").rglob("*.safetensors"))
    rows = tmp_path / "rows" / "rehearsal"
    recipe = json.loads((rows / "magref-3-region-mask" / "seed-0" / "asked.json").read_text())
    assert recipe["recipe"]["train"]["fit"]["num_steps"] == 2


def test_clips_of_small_tables_hold_two_references_at_most() -> None:
    """One latent frame each: rows that put references into latent frames of their own have two in five frames."""
    world = SmallWorld("train", 0, 64, 96, 5)
    clips = [world.clip(index) for index in range(6)]
    assert [len(clip.subjects) for clip in clips] == [1, 2, 1, 2, 1, 2]
    assert all(subject.kind != "background" for clip in clips for subject in clip.subjects)
    assert len(clips[0].frames_FYX3) == 5


def test_tables_show_the_papers_metrics() -> None:
    assert tuple(SCORES) == ablation.SCORES
    one = {"retrieval": Outcomes((1.0, 0.0), 0.125), **{name: Outcomes((0.25, 0.35)) for name in SCORES}}
    made = report("kaleido-4", {"40-percent": [one, one], "0-percent": [one, one]})
    assert made.chance["S2V Decoupling"] is None
    assert "0.300" in markdown(made)
    assert plot(made)[:4] == b"\x89PNG"
