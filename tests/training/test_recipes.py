"""The recipes: rows of a table differ in what the table is about and in nothing else; the papers' numbers."""

from dataclasses import asdict, fields
from typing import Any

import pytest

from anyref.methods.folder import method_of, record_of
from anyref.training.recipes import ABLATIONS, I2V, RECIPES, T2V, TrainingRecipe

FULL = {
    "magref-3": "region-mask",
    "magref-4": "full",
    "magref-figure-6": "channel-concat",
    "kaleido-2": "shift-w-h",
    "kaleido-3": "cross-pairs",
    "kaleido-4": "40-percent",
    "kaleido-5": "shift-w-h",
    "saber": "full",
}
"""The row of each table that is the method itself."""


def differences(one: TrainingRecipe, other: TrainingRecipe) -> dict[str, Any]:
    """What a recipe changes of another: its base, its method, and the settings both methods have."""
    changed = {name: value for name, value in asdict(one).items() if value != asdict(other)[name]}
    changed.pop("method", None)
    if one.method.name != other.method.name:
        changed["method"] = one.method.name
    theirs = asdict(other.method)  # type: ignore[call-overload]
    mine = asdict(one.method)  # type: ignore[call-overload]
    return changed | {name: mine[name] for name in mine.keys() & theirs.keys() if mine[name] != theirs[name]}


def test_every_table_has_its_method_and_rows_that_differ_from_it() -> None:
    assert ABLATIONS.keys() == FULL.keys()
    for table, rows in ABLATIONS.items():
        full = rows[FULL[table]]
        changes = [differences(recipe, full) for recipe in rows.values()]
        assert changes.count({}) == 1, f"{table}: one row is the method itself"
        assert len({str(sorted(change.items(), key=str)) for change in changes}) == len(rows), table
        for recipe in rows.values():
            assert recipe.train == full.train, "equal steps and seed"
            assert recipe.clips == full.clips, "equal data"


@pytest.mark.parametrize(
    ("table", "row", "change"),
    [
        ("magref-3", "t2v-backbone", {"base": T2V}),
        ("magref-3", "vanilla-mask", {"method": "magref-vanilla-mask"}),
        ("magref-4", "no-cross-pairs", {"cross_pair_probability": 0.0}),
        ("magref-4", "no-disentanglement", {"anchor_strength": 0.0}),
        ("magref-figure-6", "token-concat", {"method": "magref-token-concat"}),
        ("kaleido-2", "concat", {"positions": "concat"}),
        ("kaleido-4", "80-percent", {"cross_pair_probability": 0.8}),
        ("kaleido-5", "channel-concat", {"positions": "channel-concat"}),
        ("saber", "fixed-ratio", {"mask_ratio": 0.3}),
        ("saber", "polygon-only", {"shapes": ("convex", "concave")}),
        ("saber", "no-attention-mask", {"attention_mask": False}),
        ("saber", "curated-pairs", {"curated_pairs": True}),
    ],
)
def test_a_row_changes_one_thing(table: str, row: str, change: dict[str, Any]) -> None:
    assert differences(ABLATIONS[table][row], ABLATIONS[table][FULL[table]]) == change


def test_backbones_fit_the_papers() -> None:
    assert ABLATIONS["magref-3"]["region-mask"].base == I2V
    assert all(recipe.base == T2V for recipe in ABLATIONS["saber"].values())
    assert all(recipe.base == T2V for recipe in ABLATIONS["kaleido-2"].values())


def test_every_row_is_a_recipe_and_its_method_can_be_stored() -> None:
    for table, rows in ABLATIONS.items():
        for row, recipe in rows.items():
            assert RECIPES[f"{table}-{row}"] is recipe
            assert method_of(record_of(recipe.method)) == recipe.method


def test_kaleido_is_trained_in_two_stages_as_published() -> None:
    first, second = RECIPES["kaleido-14b"].train, RECIPES["kaleido-14b-fine-tuning"].train
    assert (first.fit.num_steps, second.fit.num_steps) == (10_000, 5_000)
    rates = [stage.fit.optimizer.learning_rate for stage in (first, second)]
    assert rates == [1e-5, 5e-6]
    assert first.batch_size * first.fit.accumulate == second.batch_size * second.fit.accumulate == 256
    unlike = {
        field.name
        for field in fields(first.fit.optimizer)
        if getattr(first.fit.optimizer, field.name) != getattr(second.fit.optimizer, field.name)
    }
    assert unlike == {"learning_rate"}
    assert RECIPES["kaleido-14b-fine-tuning"].base == "runs/kaleido-14b/model"


def test_saber_is_trained_as_published() -> None:
    recipe = RECIPES["saber-14b"].train
    assert recipe.fit.optimizer.learning_rate == 1e-5
    assert recipe.batch_size * recipe.fit.accumulate == 64
