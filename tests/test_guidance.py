"""Guidance by prompt and by references: the rule against plain calls of the pipeline, in all three methods."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from test_pipeline import DEFAULTS, PROMPT, seeded
from tiny_model import SETTINGS, make_parts

from anyref.guidance import Branch, combine, join, texts_of, with_texts
from anyref.latents import TextContext
from anyref.methods import make_method
from anyref.methods.request import Prompts, read_request
from anyref.pipeline import AnyRefPipeline
from anyref.references import Reference
from anyref.sampling import make_scheduler

# One Euler step from sigma 1 to 0: latents = noise - velocity, so that the rule can be read off the latents.
ONE_STEP = {"sigmas": [1.0], "solver": "euler", "shift": 1.0, "negative_prompt": "blurry static"}
NEGATIVE = ONE_STEP["negative_prompt"]


@pytest.fixture(scope="module")
def pipelines() -> Callable[[str], AnyRefPipeline]:
    """Method -> pipeline, each made once."""
    made: dict[str, AnyRefPipeline] = {}

    def pipeline(method: str) -> AnyRefPipeline:
        if method not in made:
            settings = {**SETTINGS[method], "defaults": DEFAULTS}
            made[method] = AnyRefPipeline(
                **make_parts(method),
                scheduler=make_scheduler("unipc", 3.0),
                method=replace(make_method(method), **settings),
            )
            made[method].set_progress_bar_config(disable=True)
        return made[method]

    return pipeline


@pytest.fixture
def cut_out() -> list[Reference]:
    """Two references that every method takes without a matting model."""
    rng = np.random.default_rng(0)
    sizes = {"dog": (40, 90), "hat": (70, 30)}
    return [
        Reference(
            rng.integers(0, 256, (*size, 3), dtype=np.uint8), label=label, subject_mask=np.ones(size, bool)
        )
        for label, size in sizes.items()
    ]


def latents_of(pipe: AnyRefPipeline, references: Any, prompt: Any = PROMPT, **arguments: Any) -> torch.Tensor:
    given = {**ONE_STEP, **arguments}
    return pipe(prompt, references, generator=seeded(), output_type="latent", **given).frames


@pytest.mark.parametrize("method", SETTINGS)
def test_reference_guidance_is_its_rule(
    method: str, pipelines: Callable[[str], AnyRefPipeline], cut_out: list[Reference]
) -> None:
    pipe = pipelines(method)
    cond, uncond, plain = (
        latents_of(pipe, references, words, guidance_scale=1.0, **anchors)
        for references, words, anchors in (
            (cut_out, PROMPT, {}),
            # The negative prompt has no subject to anchor, so MAGREF's anchors are off there.
            (cut_out, NEGATIVE, {"settings": {"anchor_strength": 0.0}} if method == "magref" else {}),
            ([], NEGATIVE, {}),
        )
    )
    assert not torch.allclose(uncond, plain, atol=1e-3), "references matter, or this test shows nothing"
    for batch in (True, False):
        ours = latents_of(
            pipe, cut_out, guidance_scale=4.0, reference_guidance_scale=3.0, guidance_batch=batch
        )
        expected = plain + 3 * (uncond - plain) + 4 * (cond - uncond)
        torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)
        alone = latents_of(
            pipe, cut_out, guidance_scale=1.0, reference_guidance_scale=2.0, guidance_batch=batch
        )
        torch.testing.assert_close(alone, cond + uncond - plain, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("method", SETTINGS)
def test_one_is_the_rule_of_the_releases(
    method: str, pipelines: Callable[[str], AnyRefPipeline], cut_out: list[Reference]
) -> None:
    usual = latents_of(pipelines(method), cut_out)
    assert torch.equal(latents_of(pipelines(method), cut_out, reference_guidance_scale=1.0), usual)
    assert not torch.allclose(
        latents_of(pipelines(method), cut_out, reference_guidance_scale=1.5), usual, atol=1e-4
    )


def test_rows_without_references_and_several_videos(
    pipelines: Callable[[str], AnyRefPipeline], cut_out: list[Reference]
) -> None:
    pipe = pipelines("kaleido")
    noise = torch.randn(4, 16, 2, 4, 6, generator=seeded())
    together = latents_of(
        pipe, [cut_out, []], [PROMPT, PROMPT], num_videos_per_prompt=2, latents=noise, reference_guidance_scale=2.5
    )  # fmt: skip
    for row, references in enumerate((cut_out, cut_out, [], [])):
        alone = latents_of(pipe, references, latents=noise[row : row + 1], reference_guidance_scale=2.5)
        torch.testing.assert_close(together[row : row + 1], alone, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("guidance", "by_references", "count", "sides"),
    [
        (5.0, 1.0, 1, ("cond", "uncond")),
        (1.0, 1.0, 1, ("cond",)),
        (0.0, 1.0, 1, ("cond",)),
        (5.0, 2.0, 1, ("cond", "uncond", "unreferenced")),
        (1.0, 2.0, 1, ("cond", "uncond", "unreferenced")),
        (5.0, 2.0, 0, ("cond", "uncond")),
        (5.0, 0.0, 1, ("cond", "uncond", "unreferenced")),
    ],
)
def test_only_the_sides_that_matter_are_computed(
    guidance: float, by_references: float, count: int, sides: tuple[str, ...], cut_out: list[Reference]
) -> None:
    sampling = replace(DEFAULTS, guidance_scale=guidance, reference_guidance_scale=by_references)
    request = read_request(make_method("magref"), sampling, Prompts(PROMPT), cut_out[:count], 1)
    assert request.sides == sides


@pytest.mark.parametrize("scale", [-1.0, float("nan"), 5000.0])
def test_wrong_scales(scale: float) -> None:
    with pytest.raises(ValueError, match="reference_guidance_scale is"):
        read_request(
            make_method("magref"), replace(DEFAULTS, reference_guidance_scale=scale), Prompts(PROMPT), [], 1
        )


def test_combine() -> None:
    cond, uncond, plain = torch.tensor(7.0), torch.tensor(3.0), torch.tensor(1.0)
    assert combine([cond], 9.0) == 7
    assert combine([cond, uncond], 5.0) == 3 + 5 * 4
    assert combine([cond, uncond, plain], 5.0, 3.0) == 1 + 3 * 2 + 5 * 4
    assert combine([cond, uncond, plain], 0.5, 3.0) == 1 + 3 * 2 + 4, "less than 1 is none by the prompt"


def test_a_callback_changes_both_negative_sides(
    pipelines: Callable[[str], AnyRefPipeline], cut_out: list[Reference]
) -> None:
    pipe = pipelines("magref")
    sampling = replace(DEFAULTS, reference_guidance_scale=2.0)
    request = read_request(pipe.method, sampling, Prompts(PROMPT), cut_out, 1)
    branches = pipe.prepare_branches(request, pipe.encoders, Prompts(PROMPT), seeded())
    assert [branch.name for branch in branches] == list(request.sides)
    assert set(texts_of(branches)) == {"prompt_embeds", "negative_prompt_embeds"}
    assert with_texts(branches, texts_of(branches)) == branches, (
        "what is given back unchanged changes nothing"
    )
    zeros = torch.zeros_like(branches[1].text.tokens_BSD)
    changed = with_texts(branches, {"negative_prompt_embeds": zeros})
    assert changed[0] is branches[0]
    for old, new in zip(branches[1:], changed[1:], strict=True):
        assert new.text.tokens_BSD is zeros
        assert new.conditioning is old.conditioning
        assert new.cache is not old.cache, "the old one holds the old text"


def test_sides_join_in_order(pipelines: Callable[[str], AnyRefPipeline], cut_out: list[Reference]) -> None:
    pipe = pipelines("kaleido")
    sampling = replace(DEFAULTS, reference_guidance_scale=2.0)
    request = read_request(pipe.method, sampling, Prompts(PROMPT), cut_out, 1)
    branches = pipe.prepare_branches(request, pipe.encoders, Prompts(PROMPT), seeded())
    joined = join(branches)
    assert joined.sides == 3
    visible = joined.conditioning.visible_BL
    assert visible is not None
    assert visible.any(dim=1).tolist() == [True, True, False], "the last side has no references"
    assert len(joined.text.tokens_BSD) == 3
    assert isinstance(joined, Branch)
    assert isinstance(joined.text, TextContext)


def test_a_model_may_have_its_own_and_a_call_another(
    pipelines: Callable[[str], AnyRefPipeline], cut_out: list[Reference], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = pipelines("kaleido")
    usual, other = latents_of(pipe, cut_out), latents_of(pipe, cut_out, reference_guidance_scale=2.0)
    own = replace(pipe.method, defaults=replace(pipe.method.defaults, reference_guidance_scale=2.0))
    monkeypatch.setattr(pipe, "method", own)
    assert torch.equal(latents_of(pipe, cut_out), other)
    assert torch.equal(latents_of(pipe, cut_out, reference_guidance_scale=1.0), usual)
    assert own.official().defaults.reference_guidance_scale == 1.0, "the releases have none"
