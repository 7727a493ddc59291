"""Which picture of a subject a training sample shows: variant mix and cross-pair ratio, two knobs, drawn by seed, and what came of them.

Kaleido, A.1: crop : segment : inpaint : redux = 1 : 5 : 3 : 1, and 20 to 40 % cross-pairs. Every variant is kept on disk and chosen when it
is loaded, so another mix or ratio needs no other curation.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from anyref.curation.records import VARIANT_KINDS, Variant, VariantKind

COPIED: tuple[VariantKind, ...] = ("crop", "segment")
"""Pictures cut from the clip itself, which a model learns to paste."""
CROSS: tuple[VariantKind, ...] = ("inpaint", "redux", "crossclip", "composite")
"""Pictures that show the subject elsewhere: in another place, another pose or another clip."""
MIX: Mapping[VariantKind, float] = {
    "crop": 1.0,
    "segment": 5.0,
    "inpaint": 3.0,
    "redux": 1.0,
    # The paper's mix is of the four above; pictures from other clips are weighed as those that a model redraws.
    "crossclip": 1.0,
    "composite": 1.0,
}


@dataclass(frozen=True)
class VariantSampling:
    """How a subject's picture is drawn. The ratio decides between cross-pairs and copies, the mix among the kinds of either."""

    mix: Mapping[VariantKind, float] = field(default_factory=lambda: dict(MIX))
    """Relative weights; a kind that is not named has 0."""
    cross_pair_ratio: float | None = 0.4
    """Share of references that are cross-pairs, as far as subjects have any; None: as the mix alone gives (0.4 for 1 : 5 : 3 : 1)."""
    background_share: float = 0.25
    """Share of samples whose background is a reference, where there is one."""

    def __post_init__(self) -> None:
        wrong = [kind for kind in self.mix if kind not in VARIANT_KINDS]
        if wrong or min(self.mix.values(), default=0) < 0 or not sum(self.mix.values()) > 0:
            raise ValueError(
                f"the variant mix is {dict(self.mix)}; give weights of 0 or more, not all 0, to some of {', '.join(VARIANT_KINDS)}"
            )
        for name, share in (
            ("cross_pair_ratio", self.cross_pair_ratio),
            ("background_share", self.background_share),
        ):
            if share is not None and not 0 <= share <= 1:
                raise ValueError(f"{name} is {share}; it must lie between 0 and 1")


def parse_mix(text: str) -> dict[VariantKind, float]:
    """A mix as "1:5:3:1" (crop, segment, inpaint, redux; further ones crossclip, composite) or "segment=5,crossclip=2"."""
    try:
        if "=" in text:
            pairs = [part.split("=") for part in text.split(",")]
            named = {name.strip(): float(weight) for name, weight in pairs}
        else:
            named = dict(zip(VARIANT_KINDS, map(float, text.split(":")), strict=False))
            if text.count(":") >= len(VARIANT_KINDS):
                raise ValueError
    except ValueError as error:
        raise ValueError(
            f"the variant mix is {text!r}; write weights such as 1:5:3:1 (crop, segment, inpaint, redux) or segment=5,crossclip=2"
        ) from error
    wrong = [kind for kind in named if kind not in VARIANT_KINDS]
    if wrong:
        raise ValueError(f"the variant mix names {wrong[0]!r}; name some of {', '.join(VARIANT_KINDS)}")
    return {kind: named[kind] for kind in VARIANT_KINDS if kind in named}


def is_cross(kind: VariantKind) -> bool:
    """Whether pictures of this kind make cross-pairs."""
    return kind in CROSS


def compensated(sampling: VariantSampling, subjects: Iterable[Sequence[Variant]]) -> VariantSampling:
    """The sampling with which all draws together come to the ratio that was asked for, although some subjects have no cross-pair.

    With N subjects, of which c have cross-pairs only and b have both, a ratio of r wants p = (r N - c) / b of the latter, 0 to 1.
    """
    if sampling.cross_pair_ratio is None:
        return sampling
    total = both = only = 0
    for variants in subjects:
        kinds = {one.kind for one in variants if one.accepted and sampling.mix.get(one.kind, 0) > 0}
        cross, copied = bool(kinds & set(CROSS)), bool(kinds & set(COPIED))
        total += cross or copied
        both += cross and copied
        only += cross and not copied
    if not both:
        return sampling
    share = (sampling.cross_pair_ratio * total - only) / both
    return replace(sampling, cross_pair_ratio=min(1.0, max(0.0, share)))


def draw(variants: Sequence[Variant], sampling: VariantSampling, rng: np.random.Generator) -> Variant | None:
    """One accepted variant, or None where there is none of a kind that the mix contains.

    The same numbers are taken from `rng` whatever there is, so that a variant more of one subject does not change the draw of the next.
    """
    cross, kind_at, variant_at = rng.random(3)
    usable = [variant for variant in variants if variant.accepted and sampling.mix.get(variant.kind, 0) > 0]
    kinds = [kind for kind in VARIANT_KINDS if any(variant.kind == kind for variant in usable)]
    if sampling.cross_pair_ratio is not None:
        wanted = CROSS if cross < sampling.cross_pair_ratio else COPIED
        kinds = [kind for kind in kinds if kind in wanted] or kinds
    if not kinds:
        return None
    weights = np.cumsum([sampling.mix[kind] for kind in kinds])
    kind = kinds[int(np.searchsorted(weights, kind_at * weights[-1], side="right"))]
    of_kind = sorted((variant for variant in usable if variant.kind == kind), key=lambda one: one.uri)
    return of_kind[int(variant_at * len(of_kind))]


@dataclass(frozen=True)
class Realised:
    """What a run of draws came to."""

    references: int
    mix: dict[str, float]
    """Kind to its share of the references."""
    cross_pair_ratio: float
    most_cross_pair_ratio: float
    """Share of references whose subject has a cross-pair at all: no ratio can come higher."""
    subjects_without: int
    """Subjects of whom there was no picture to draw."""

    def __str__(self) -> str:
        shares = ", ".join(f"{kind} {share:.1%}" for kind, share in self.mix.items() if share)
        return (
            f"{self.references} references: {shares}; cross-pairs {self.cross_pair_ratio:.1%}, "
            f"at most {self.most_cross_pair_ratio:.1%}; {self.subjects_without} subjects without a picture"
        )


def realised(draws: Iterable[tuple[Sequence[Variant], Variant | None]]) -> Realised:
    """Count draws, each with what it could choose from."""
    kinds: Counter[str] = Counter()
    possible = without = 0
    for variants, chosen in draws:
        if chosen is None:
            without += 1
            continue
        kinds[chosen.kind] += 1
        possible += any(variant.accepted and is_cross(variant.kind) for variant in variants)
    total = max(1, kinds.total())
    return Realised(
        references=kinds.total(),
        mix={kind: kinds[kind] / total for kind in VARIANT_KINDS},
        cross_pair_ratio=sum(kinds[kind] for kind in CROSS) / total,
        most_cross_pair_ratio=possible / total,
        subjects_without=without,
    )
