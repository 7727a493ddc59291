"""Score a curation of puppet films against their ground truth: cuts, defects, subjects, masks, identities, cross-pairs, each with an interval.

Films are drawn at random, what is in one belongs together: 95 % intervals are percentile bootstraps over films. What counts as right is said
in `truth_report.MEASURES`; `anyref.curation.findings` reads what a curation found.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anyref.curation import records as rows
from anyref.curation.draws import is_cross
from anyref.curation.findings import FoundClip, FoundFilm, Shot, TrueFilms
from anyref.curation.truth_report import MEASURES, Counted, TruthReport, commonest_share, share_of
from anyref.runlengths import decode

HARD_TOLERANCE = 2
"""Frames that a hard cut may be off; a fade's cut must lie in the darkened frames or this close to them."""
SAME_MASK = 0.5
"""IoU with a subject's true mask from which on an object is that subject."""
NEAR_COPY = 4.0
"""Mean difference, of 255, of two 32 x 32 pictures on white below which one is a copy of the other."""


class Seen(NamedTuple):
    """A subject in a cluster, and who it is."""

    film: str
    cluster: str
    identity: str


def score(
    truth: TrueFilms, found: Sequence[FoundFilm], read: Callable[[str], NDArray[np.uint8]]
) -> TruthReport:
    """Score what a curation found; `read` gives a picture of its store by its name."""
    by_name = {film.name: film for film in found}
    missing = sorted(set(truth.films) - set(by_name))
    if missing:
        raise ValueError(
            f"the curation has not seen {len(missing)} of the films, such as {missing[0]}; curate the same folder"
        )
    shares: dict[str, list[Counted]] = {
        **_cut_shares(truth, by_name),
        **_defect_shares(truth, by_name),
        **_subject_shares(truth, by_name),
        **_pair_shares(truth, by_name, read),
    }
    objects, faces = list(_seen_objects(truth, by_name)), list(_seen_faces(truth, by_name))
    clusters = {
        "identity purity": [(one.film, one.cluster, one.identity) for one in objects],
        "identity completeness": [(one.film, one.identity, one.cluster) for one in objects],
        "face purity": [(one.film, one.cluster, one.identity) for one in faces],
        "face completeness": [(one.film, one.identity, one.cluster) for one in faces],
    }
    measured = [
        commonest_share(measure, clusters[measure.name], truth.names)
        if measure.name in clusters
        else share_of(measure, shares.get(measure.name, ()), truth.names)
        for measure in MEASURES
    ]
    return TruthReport(tuple(measured), len(truth.films))


def _cut_shares(truth: TrueFilms, found: Mapping[str, FoundFilm]) -> dict[str, list[Counted]]:
    shares: dict[str, list[Counted]] = defaultdict(list)
    for name, film in truth.films.items():
        if film["damage"] or found[name].status != "ok":
            continue
        left = sorted(found[name].cuts)
        hit = {"cut": 0, "fade": 0}
        for cut in film["transitions"]:
            near = [c for c in left if cut["first"] - HARD_TOLERANCE <= c <= cut["last"] + HARD_TOLERANCE]
            if near:
                left.remove(near[0])
                hit[cut["kind"]] += 1
        fades = sum(cut["kind"] == "fade" for cut in film["transitions"])
        hard = len(film["transitions"]) - fades
        right = hit["cut"] + hit["fade"]
        shares["cut F1"].append(Counted(name, 2 * right, 2 * right + len(left) + hard + fades - right))
        missed = hard - hit["cut"]
        shares["hard cut F1"].append(Counted(name, 2 * hit["cut"], 2 * hit["cut"] + len(left) + missed))
        shares["fade recall"].append(Counted(name, hit["fade"], fades))
    return shares


def _defect_shares(truth: TrueFilms, found: Mapping[str, FoundFilm]) -> dict[str, list[Counted]]:
    shares: dict[str, list[Counted]] = defaultdict(list)
    for name, film in truth.films.items():
        caught = found[name].status == "quarantined"
        key = "damaged films quarantined" if film["damage"] else "whole films decoded"
        shares[key].append(Counted(name, caught if film["damage"] else not caught, 1))
        for clip in () if film["damage"] else found[name].clips:
            off = max(abs(one - other) for one, other in zip(clip.crop, film["content_box"], strict=True))
            if film["letterbox"]:
                shares["letterbox found"].append(Counted(name, off <= 2, 1))
    for shot, twins in truth.shots():
        clips = [clip for twin in (shot, *twins) for clip in _clips_of(truth, found, twin)]
        kept = [clip for clip in clips if clip.drop is None]
        own = _clips_of(truth, found, shot)
        if shot.defect == "static":
            shares["static shots dropped"].append(_dropped_for(shot, own, ("flow_p95", "flow_mean")))
        elif shot.defect == "blurred":
            shares["blurred shots dropped"].append(_dropped_for(shot, own, ("blur",)))
        else:
            shares["good shots kept"].append(Counted(shot.film, bool(kept), 1))
        for twin in twins if shot.defect is None else ():
            shares["duplicates dropped"].append(Counted(twin.film, _once_only(truth, found, shot, twin), 1))
    return shares


def _dropped_for(shot: Shot, clips: Sequence[FoundClip], scores: tuple[str, ...]) -> Counted:
    """Right where nothing of the shot is kept, and what there was of it was dropped for one of the scores, whatever else was wrong."""
    right = all(
        clip.drop is not None
        and any(reason.strip().split(":")[0] in scores for reason in clip.drop.split(";"))
        for clip in clips
    )
    return Counted(shot.film, right, 1)


def _once_only(truth: TrueFilms, found: Mapping[str, FoundFilm], shot: Shot, twin: Shot) -> bool:
    """Whether of two equal shots one is kept at most, and the other dropped as a duplicate, itself or with its whole film."""
    first, second = _clips_of(truth, found, shot), _clips_of(truth, found, twin)
    if any(clip.drop is None for clip in first) and any(clip.drop is None for clip in second):
        return False
    whole = [found[one.film].reason for one in (shot, twin) if found[one.film].status == "dropped"]
    drops = [clip.drop for clip in (*first, *second) if clip.drop is not None]
    return any("duplicate" in reason for reason in (*whole, *drops))


def _clips_of(truth: TrueFilms, found: Mapping[str, FoundFilm], shot: Shot) -> list[FoundClip]:
    return [clip for clip in found[shot.film].clips if truth.shot_at(shot.film, clip) == shot.number]


def _subject_shares(truth: TrueFilms, found: Mapping[str, FoundFilm]) -> dict[str, list[Counted]]:
    shares: dict[str, list[Counted]] = defaultdict(list)
    for film, clip, sample in _kept(found):
        number = truth.shot_at(film, clip)
        subjects = truth.films[film]["shots"][number]["subjects"]
        shown = set()
        for one in sample.objects:
            if one.dropped or one.suppressed_by_face:
                continue
            whose, overlap = truth.whose(film, one.frame, decode(one.mask))
            shares["object precision"].append(Counted(film, overlap >= SAME_MASK, 1))
            if overlap >= SAME_MASK:
                shown.add(whose)
                shares["mask IoU"].append(Counted(film, overlap, 1))
        # A person whose face is kept is shown by it: MAGREF's rule drops the object then.
        shown |= {truth.person_at(film, face.reference.frame, face.reference.box) for face in sample.faces}
        shares["subject recall"].append(
            Counted(film, len(shown & {subject["identity"] for subject in subjects}), len(subjects))
        )
    return shares


def _seen_objects(truth: TrueFilms, found: Mapping[str, FoundFilm]) -> Iterator[Seen]:
    for film, _, sample in _kept(found):
        for one in sample.objects:
            if one.dropped or one.global_identity_id is None:
                continue
            whose, overlap = truth.whose(film, one.frame, decode(one.mask))
            if whose is not None and overlap >= SAME_MASK:
                yield Seen(film, one.global_identity_id, whose)


def _seen_faces(truth: TrueFilms, found: Mapping[str, FoundFilm]) -> Iterator[Seen]:
    for film, _, sample in _kept(found):
        for face in sample.faces:
            whose = truth.person_at(film, face.reference.frame, face.reference.box)
            if whose is not None and face.global_identity_id is not None:
                yield Seen(film, face.global_identity_id, whose)


def _pair_shares(
    truth: TrueFilms, found: Mapping[str, FoundFilm], read: Callable[[str], NDArray[np.uint8]]
) -> dict[str, list[Counted]]:
    """Pictures that come from other clips: whose they are, and whether they repeat one of this clip's."""
    shares: dict[str, list[Counted]] = defaultdict(list)
    thumbnail = lru_cache(maxsize=4096)(lambda uri: small_on_white(read(uri)))
    views = dict(_views(truth, found))
    for film, clip, sample in _kept(found):
        for key, variants in _subjects_of(sample):
            own = views.get(f"{sample.sample_id}-{key}")
            near = [v.uri for v in variants if not is_cross(v.kind)]
            for variant in variants:
                if variant.kind != "crossclip" or not variant.accepted or own is None:
                    continue
                other = views.get(variant.source_id)
                same = other is not None and other.identity == own.identity
                shares["cross-pairs of the same subject"].append(Counted(film, same, 1))
                copy = other is not None and truth.original(other.film, other.shot) == truth.original(
                    film, truth.shot_at(film, clip)
                )
                alike = any(
                    float(np.abs(thumbnail(variant.uri) - thumbnail(uri)).mean()) < NEAR_COPY for uri in near
                )
                shares["near-copies"].append(Counted(film, copy or alike, 1))
    return shares


class _View(NamedTuple):
    film: str
    shot: int
    identity: str


def _views(truth: TrueFilms, found: Mapping[str, FoundFilm]) -> Iterator[tuple[str, _View]]:
    """Every object and face that a cross-pair could have come from, dropped or not, by the name that variants call it."""
    for film in found.values():
        for clip in film.clips:
            if clip.sample is None:
                continue
            shot = truth.shot_at(film.name, clip)
            for one in clip.sample.objects:
                whose, overlap = truth.whose(film.name, one.frame, decode(one.mask))
                if whose is not None and overlap > 0:
                    yield f"{clip.sample.sample_id}-{one.object_id}", _View(film.name, shot, whose)
            for face in clip.sample.faces:
                person = truth.person_at(film.name, face.reference.frame, face.reference.box)
                if person is not None:
                    yield f"{clip.sample.sample_id}-{face.face_id}", _View(film.name, shot, person)


def _subjects_of(sample: rows.Sample) -> Iterator[tuple[str, tuple[rows.Variant, ...]]]:
    for one in sample.objects:
        if not one.dropped and one.suppressed_by_face is None:
            yield one.object_id, one.variants
    for face in sample.faces:
        yield face.face_id, (rows.Variant(face.reference.uri, "crop", face.face_id), *face.variants)


def _kept(found: Mapping[str, FoundFilm]) -> Iterator[tuple[str, FoundClip, rows.Sample]]:
    for film in found.values():
        for clip in film.clips:
            if clip.drop is None and clip.sample is not None:
                yield film.name, clip, clip.sample


def small_on_white(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """An RGB or RGBA picture on white, squeezed to 32 x 32."""
    from PIL import Image

    image = Image.fromarray(picture).convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    small = Image.alpha_composite(white, image).convert("RGB").resize((32, 32), Image.Resampling.BOX)
    return np.asarray(small, np.float32)
