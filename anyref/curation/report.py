"""The report of a curation, one HTML page that needs no network, and its data card: funnel, thresholds over histograms, sheets of both sides.

A threshold can be looked at before it is used: the page is made with any bounds, from stored scores, and nothing is computed anew.
"""

import base64
import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anyref.curation.decisions import Bound, Level
from anyref.curation.draws import VariantSampling
from anyref.curation.records import VARIANT_KINDS
from anyref.curation.store import Store
from anyref.curation.survey import FRONTAL_FACE, Judged, Survey

TITLES: dict[Level, tuple[str, str]] = {
    "clip": ("Clips", "Every clip that was scored, by every number that a decision looks at."),
    "object": (
        "Objects",
        "People, animals, garments and things, each in one frame. Masks are scored after clean-up.",
    ),
    "face": (
        "Faces that stand for somebody",
        "Views of faces; one that passes all of these can be the reference.",
    ),
    "view": ("Faces that vary", "The looser bounds for the up to ten views that span poses."),
    "background": (
        "Backgrounds",
        "A frame of each clip without its subjects; a place that is mostly made up is left out, the clip stays.",
    ),
    "variant": (
        "Variants",
        "Pictures made from a subject or a place: like it, yet no copy. Numbers are cosines, and of clip, a margin.",
    ),
}
_BINS = 30
_THUMBNAIL = (208, 156)


@dataclass(frozen=True)
class Figure:
    """A thumbnail on a sheet."""

    title: str
    value: str
    image: str


@dataclass(frozen=True)
class BoundView:
    """A bound as the page shows it."""

    name: str
    interval: str
    outside: int
    total: int
    svg: Any
    dropped: list[Figure] = field(default_factory=list)
    kept: list[Figure] = field(default_factory=list)


def html(survey: Survey, store: Store, title: str, examples: int = 7) -> str:
    """The page. `examples`: thumbnails on each side of each bound."""
    try:
        from jinja2 import Environment
        from markupsafe import Markup
    except ModuleNotFoundError as error:
        raise ValueError("jinja2 is not installed; run: pip install 'anyref[evaluation]'") from error

    judged = list(survey.judged())
    pictures = _Pictures(store)
    groups = []
    for level, (heading, about) in TITLES.items():
        of_level = [one for one in judged if one.level == level]
        asked = survey.rules.of(level)
        if level == "object" and survey.rules.people_need_face:
            asked = (*asked, Bound(level, FRONTAL_FACE, low=1.0))
        bounds = [_bound_view(bound, of_level, pictures, examples, Markup) for bound in asked]
        groups.append(
            {
                "level": level,
                "title": heading,
                "about": about,
                "bounds": [view for view in bounds if view.total],
            }
        )
    template = Environment(autoescape=True).from_string(
        Path(__file__).with_suffix(".html").read_text(encoding="utf-8")
    )
    counts = survey.counts()
    return template.render(
        title=title,
        subtitle=_subtitle(survey),
        tiles=_tiles(survey, counts),
        funnel=[
            {**row._asdict(), "lost": row.dropped + row.failed + row.quarantined} for row in survey.funnel()
        ],
        tables=_tables(counts),
        mix=_mix(survey, counts),
        mix_about=_mix_about(survey),
        groups=groups,
    )


def data_card(survey: Survey, title: str) -> str:
    """What a user of the set must know, as Markdown: origin, licences, what was left out and why, who is in it, how it was made."""
    counts = survey.counts()
    lines = [f"# {title}", "", _subtitle(survey), ""]
    lines += [f"- {name}: {value}" for name, value in _tiles(survey, counts)]
    lines += ["", "## Licences of the films", "", *_listed(counts["licences"], "clips")]
    lines += [
        "",
        "## What was left out",
        "",
        "| stage | in | out | dropped | quarantined | failed | reasons |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in survey.funnel():
        named = ", ".join(f"{reason} {count}" for reason, count in row.reasons)
        numbers = (row.entered, row.left, row.dropped, row.quarantined, row.failed)
        lines.append(f"| {row.stage} | {' | '.join(str(number) for number in numbers)} | {named} |")
    lines += ["", "## Thresholds", ""]
    lines += [f"- {bound.level}.{bound.name}: {_interval(bound)}" for bound in survey.rules.bounds]
    lines += ["", "## Subjects", "", *_listed(counts["kinds"], "objects and faces")]
    lines += ["", "Commonest classes:", "", *_listed(counts["classes"], "clips", 40)]
    lines += [
        "",
        "## Variants",
        "",
        "| kind | stored | accepted | wanted | realised |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['kind']} | {r['stored']} | {r['accepted']} | {r['wanted']} | {r['realised']} |"
        for r in _mix(survey, counts)
    ]
    lines += ["", _mix_about(survey), "", "## Captions", "", *_listed(counts["captions"], "clips")]
    lines += [
        "",
        "## People",
        "",
        "Faces are in this set, with vectors that recognise them. Use it only where that is lawful.",
    ]
    return "\n".join(lines) + "\n"


def histogram(values: Sequence[float], bound: Bound) -> str:
    """An SVG of the values: those inside the bound and outside it in two colours, the bound's limits as lines. Heights are square roots."""
    data = np.asarray(values, dtype=np.float64)
    limits = [limit for limit in (bound.low, bound.high) if limit is not None]
    low, high = _range(data, limits)
    edges = np.linspace(low, high, _BINS + 1)
    outside = np.zeros(len(data), dtype=np.bool_)
    if bound.low is not None:
        outside |= data < bound.low
    if bound.high is not None:
        outside |= data > bound.high
    clipped = np.clip(data, low, high)
    inner, outer = (np.histogram(clipped[side], edges)[0] for side in (~outside, outside))
    tallest = max(1, int((inner + outer).max()))
    width, height, base = 360.0, 130.0, 112.0
    step = width / _BINS
    parts = []
    for number, (kept, lost) in enumerate(zip(inner, outer, strict=True)):
        total = int(kept + lost)
        if not total:
            continue
        tall = 92 * float(np.sqrt(total / tallest))
        share = tall * lost / total
        left = number * step
        parts.append(_rectangle(left, base - tall, step - 1, tall - share, "var(--keep)"))
        parts.append(_rectangle(left, base - share, step - 1, share, "var(--drop)"))
    for limit in limits:
        x = width * (limit - low) / (high - low)
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="8" y2="{base}" stroke="var(--mark)" stroke-width="2" stroke-dasharray="4 3"/>'
        )
        anchor = "end" if x > width / 2 else "start"
        shift = -4 if x > width / 2 else 4
        parts.append(f'<text x="{x + shift:.1f}" y="16" text-anchor="{anchor}">{limit:.4g}</text>')
    parts.append(
        f'<text x="0" y="126">{low:.4g}</text><text x="{width}" y="126" text-anchor="end">{high:.4g}</text>'
    )
    label = f"{bound.level}.{bound.name}: {len(data)} values, {int(outside.sum())} outside"
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
    )


class _Pictures:
    """Thumbnails as data URIs; empty where there is no picture to be had."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.of = lru_cache(maxsize=4096)(self._of)

    def _of(self, uri: str | None, film: str | None, frame: int) -> str:
        from anyref.curation.clips import read_picture

        try:
            picture = read_picture(self.store, uri) if uri else self._frame(film, frame)
        except (FileNotFoundError, ValueError, OSError):
            return ""  # the films may be elsewhere by now, and a report must not stop for a thumbnail
        return _data_uri(picture)

    def _frame(self, film: str | None, frame: int) -> NDArray[np.uint8]:
        from anyref import footage

        if film is None or not self.store.films:
            raise FileNotFoundError
        with self.store.film(film) as path:
            return footage.frames_at(path, [frame])[0]


def _data_uri(picture: NDArray[np.uint8]) -> str:
    from PIL import Image

    image = Image.fromarray(picture)
    image.thumbnail(_THUMBNAIL)
    if image.mode == "RGBA":
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    data = io.BytesIO()
    image.convert("RGB").save(data, format="JPEG", quality=78)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()


def _bound_view(
    bound: Bound, judged: Sequence[Judged], pictures: _Pictures, examples: int, markup: Callable[[str], Any]
) -> BoundView:
    measured = [one for one in judged if one.values.get(bound.name) is not None]
    values = [float(one.values[bound.name] or 0.0) for one in measured]
    outside = [one for one in measured if bound.reason(one.values[bound.name])]
    inside = [one for one in measured if not bound.reason(one.values[bound.name])]

    def sheet(chosen: Sequence[Judged]) -> list[Figure]:
        ordered = sorted(chosen, key=lambda one: (one.values[bound.name] or 0.0, one.title))
        places = np.unique(np.linspace(0, len(ordered) - 1, min(examples, len(ordered))).round().astype(int))
        return [
            Figure(one.title, f"{one.values[bound.name]:.3g}", pictures.of(one.uri, one.film, one.frame))
            for one in (ordered[place] for place in places)
        ]

    return BoundView(
        name=bound.name,
        interval=_interval(bound),
        outside=len(outside),
        total=len(measured),
        svg=markup(histogram(values, bound)) if values else "",
        dropped=sheet(outside) if outside else [],
        kept=sheet(inside) if inside else [],
    )


def _range(data: NDArray[np.float64], limits: Sequence[float]) -> tuple[float, float]:
    """From the 1st to the 99th percentile, the limits within; what lies beyond is in the first and last bin."""
    low, high = np.quantile(data, [0.01, 0.99])
    low, high = min([float(low), *limits]), max([float(high), *limits])
    margin = 0.05 * (high - low) or max(1e-3, 0.05 * abs(high))
    return low - margin, high + margin


def _rectangle(x: float, y: float, width: float, height: float, colour: str) -> str:
    if height < 0.05:
        return ""
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'


def _interval(bound: Bound) -> str:
    low, high = bound.low, bound.high
    if low is not None and high is not None:
        return f"{low:.4g} to {high:.4g}"
    return (
        f"at least {low:.4g}"
        if low is not None
        else f"at most {high:.4g}"
        if high is not None
        else "not limited"
    )


def _subtitle(survey: Survey) -> str:
    hours = sum(film["source"]["duration_s"] for film in survey.films if film.get("source")) / 3600
    return f"{len(survey.films)} films, {hours:.2f} hours, {len(survey.clips)} clips; {len(survey.kept)} are in the set."


def _tiles(survey: Survey, counts: dict[str, Counter[str]]) -> list[tuple[str, str]]:
    seconds = sum(
        sample.clip.num_frames / sample.source.fps for sample in survey.samples if sample.source.fps
    )
    several = sum(number > 1 for number in counts["identities"].values())
    return [
        ("clips in the set", f"{len(survey.kept)}"),
        ("minutes of video", f"{seconds / 60:.1f}"),
        ("subjects", f"{sum(counts['kinds'].values())}"),
        ("classes", f"{len(counts['classes'])}"),
        ("identities", f"{len(counts['identities'])}"),
        ("identities in several clips", f"{several}"),
    ]


def _tables(counts: dict[str, Counter[str]]) -> list[dict[str, Any]]:
    sizes: Counter[str] = Counter()
    for number in counts["identities"].values():
        sizes[f"{number} clip{'s' if number > 1 else ''}" if number < 10 else "10 clips or more"] += 1
    return [
        _table("Licences", counts["licences"], "clips by the licence of their film"),
        _table("Kinds", counts["kinds"], "objects and faces that are kept"),
        _table("Identities", sizes, "how many clips an identity occurs in"),
        _table("Classes", counts["classes"], "of the taxonomy, or the words where it has none", 20),
    ]


def _table(title: str, counter: Counter[str], about: str, most: int = 12) -> dict[str, Any]:
    counter = +counter  # without those that were counted as nothing
    top = counter.most_common(most)
    largest = max((number for _, number in top), default=1)
    rows = [(name, number, round(100 * number / largest, 1)) for name, number in top]
    return {"title": title, "about": about, "rows": rows, "more": max(0, len(counter) - most)}


def _mix(survey: Survey, counts: dict[str, Counter[str]]) -> list[dict[str, Any]]:
    sampling = VariantSampling()
    drawn = survey.drawn(sampling)
    total = sum(sampling.mix.values())
    return [
        {
            "kind": kind,
            "stored": counts["stored"][kind],
            "accepted": counts["accepted"][kind],
            "wanted": f"{sampling.mix.get(kind, 0) / total:.0%}",
            "realised": f"{drawn.mix.get(kind, 0):.1%}",
        }
        for kind in VARIANT_KINDS
    ]


def _mix_about(survey: Survey) -> str:
    sampling = VariantSampling()
    drawn = survey.drawn(sampling)
    return (
        f"What training draws with its default mix (crop : segment : inpaint : redux = 1 : 5 : 3 : 1) and a cross-pair ratio of "
        f"{sampling.cross_pair_ratio}: {drawn}."
    )


def _listed(counter: Counter[str], unit: str, most: int = 12) -> list[str]:
    return [f"- {name}: {number} {unit}" for name, number in (+counter).most_common(most)] or ["- none"]
