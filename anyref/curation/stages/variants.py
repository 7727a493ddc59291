"""S11: the same subject drawn anew: on another ground, in another pose, in another place; each compared with what it was made from.

MAGREF B.4 varies faces, objects and backgrounds with an image generation model; Kaleido 3.2 (5) and (6) erases backgrounds by inpainting
and varies poses with Flux Redux; its A.1 composites subjects with unrelated places. Whether a variant is good is a decision over the likeness
that is stored here, with two sides: the same subject, yet not a copy. Composites are a stage of their own: their places are other clips', so
that they change with the set, and nothing dear may be done again for that.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from anyref.curation.clips import (
    ONE_CPU,
    device_of,
    put_picture,
    put_vectors,
    read_picture,
    read_vectors,
    seed_of,
    unit,
)
from anyref.curation.records import Background, FaceRow, ObjectRow, Variant, VariantKind, from_json, to_json
from anyref.curation.regions import composite, dilate, on_plain
from anyref.curation.stage import Outcome, Record, Resources
from anyref.curation.stages.objects import ClassCheck
from anyref.curation.store import Store
from anyref.curation.taxonomy import OURS, load_taxonomy
from anyref.perception import (
    FaceAnalyser,
    ImageEncoder,
    ImageTextEncoder,
    Inpainter,
    ModelCard,
    Picture,
    Varier,
)

ELSEWHERE = "a plain empty place, soft light, nothing else in the picture"
ANEW = "the same {}, seen from another angle, in another pose, in another place"
PLACE_ANEW = "the same place, seen from another angle, at another time of day"
FRINGE = 0.006
"""The subject keeps this share of the picture's diagonal around it when its background is filled anew."""


@dataclass(frozen=True)
class VariantStage:
    """Makes the variants of the faces and objects that `decisions.Select` names. An empty model name leaves its variants out.

    A model that refuses a picture (ValueError) costs that variant only; `variant_refusals` says so.
    """

    inpainter: str = "flux-fill"
    """An inpainter of the catalogue: "inpaint"."""
    varier: str = "flux-redux"
    """A varier of the catalogue: "redux"."""
    image_model: str = "dinov2-base"
    image_text_model: str = "clip-l14"
    face_model: str = "insightface-antelopev2"
    class_prompt: str = "a photo of a {}"
    redux: int = 1
    backgrounds: bool = True
    """Vary the background, too (MAGREF B.4)."""
    resources: Resources = ONE_CPU
    name: ClassVar[str] = "variants"
    version: ClassVar[int] = 3
    reads: ClassVar[frozenset[str]] = frozenset(
        {"objects", "object_faces", "face_candidates", "background", "to_draw", "to_redraw"}
    )
    writes: ClassVar[frozenset[str]] = frozenset(
        {"objects", "face_candidates", "face_vectors", "background", "variant_refusals"}
    )

    def files(self) -> tuple[Path, ...]:
        """See `ReadsFiles`."""
        return (OURS,)

    def open(self) -> "VariantWorker":
        """See `Stage`."""
        from anyref.perception.catalogue import open_model

        device = device_of(self.resources)
        text = cast("ImageTextEncoder", open_model("image-text-encoder", self.image_text_model, device))
        return VariantWorker(
            self,
            Likeness(
                cast("ImageEncoder", open_model("image-encoder", self.image_model, device)),
                ClassCheck(text, load_taxonomy(), self.class_prompt),
                cast("FaceAnalyser", open_model("face-analyser", self.face_model, device)),
            ),
            cast("Inpainter", open_model("inpainter", self.inpainter, device)) if self.inpainter else None,
            cast("Varier", open_model("varier", self.varier, device)) if self.varier else None,
        )


@dataclass(frozen=True)
class Likeness:
    """Compares a variant with what it was made from."""

    encoder: ImageEncoder
    check: ClassCheck
    analyser: FaceAnalyser

    def dino(self, source: Picture, variant: Picture) -> float:
        """Cosine of the pictures' vectors."""
        return _cosine(self.encoder, source, variant)

    def identity(self, vector: NDArray[np.float32], variant: Picture) -> float:
        """The best cosine of a face in the variant; 0 where there is no face."""
        faces = self.analyser.faces(variant)
        return max((float(unit(face.embedding_D) @ unit(vector)) for face in faces), default=0.0)

    def margin(self, variant: Picture, class_id: str | None) -> float | None:
        """See `ClassCheck`."""
        verdict = self.check.verdicts([variant], [class_id])[0]
        return verdict.margin if verdict else None


@dataclass(frozen=True)
class VariantWorker:
    """See `VariantStage`."""

    stage: VariantStage
    likeness: Likeness
    inpainter: Inpainter | None
    varier: Varier | None

    def __call__(self, record: Record, store: Store) -> Outcome:
        """Adds variants to `objects`, `face_candidates` and `background`; writes `face_vectors`, the encoder's of the faces' pictures."""
        refusals: list[dict[str, str]] = []
        faces = [from_json(FaceRow, value) for value in record["face_candidates"]]
        whose = {
            face.face_id: read_vectors(store, face.reference.embedding_uri)[0]
            for face in faces
            if face.reference.embedding_uri
        }
        objects = []
        for value in record["objects"]:
            row = from_json(ObjectRow, value)
            if row.object_id in record["to_draw"]:
                new = self._made(self._of_object(row, record, whose, store), refusals)
                row = replace(row, variants=(*row.variants, *new))
            objects.append(row)
        for number, face in enumerate(faces):
            if face.face_id in record["to_draw"]:
                new = self._made(self._of_face(face, record, whose[face.face_id], store), refusals)
                faces[number] = replace(face, variants=(*face.variants, *new))
        background = record.get("background")
        if background:
            row_ = from_json(Background, background)
            new = self._made(self._of_background(row_, record, store), refusals)
            background = to_json(replace(row_, variants=(*row_.variants, *new)))
        values = {
            "objects": to_json(objects),
            "face_candidates": to_json(faces),
            "face_vectors": self._vectors(faces, store),
            "background": background,
            "variant_refusals": refusals,
        }
        return Outcome.ok(record.with_values(values))

    def _made(self, orders: Sequence["_Order"], refusals: list[dict[str, str]]) -> list[Variant]:
        """The variants that were ordered, without those that a model refuses to make."""
        made = []
        for order in orders:
            try:
                made.append(order.make())
            except ValueError as error:
                refusals.append({"source_id": order.source_id, "kind": order.kind, "reason": str(error)})
        return made

    def _of_object(
        self, row: ObjectRow, record: Record, whose: dict[str, NDArray[np.float32]], store: Store
    ) -> list["_Order"]:
        """Inpaint and redux of a thing."""
        uris = {variant.kind: variant.uri for variant in row.variants}
        cropped, segment = read_picture(store, uris["crop"]), read_picture(store, uris["segment"])
        seed = seed_of(record.id, row.object_id, self.stage.name)
        nearest = record.get("object_faces", {}).get(row.object_id)
        face = nearest if row.scores.get("holds_face", 0.0) >= 0.9 else None
        compared = _Compared(cropped, row.class_id, whose.get(face) if face else None)
        orders: list[_Order] = []

        def inpaint(inpainter: Inpainter) -> Variant:
            hole = ~dilate(segment[..., 3] >= 128, FRINGE)
            picture = inpainter.inpaint(cropped, hole, ELSEWHERE, seed) if hole.any() else cropped
            drawn = _Drawn("inpaint", picture, row.object_id, inpainter.card, ELSEWHERE, seed)
            return self._measured(drawn, replace(compared, identity=None), store)

        if self.inpainter:
            orders.append(_Order("inpaint", row.object_id, partial(inpaint, self.inpainter)))
        if row.object_id in record["to_redraw"]:
            anew = ANEW.format(row.label)
            orders += self._redrawn(row.object_id, on_plain(segment), anew, seed, compared, store)
        return orders

    def _of_face(
        self, face: FaceRow, record: Record, vector: NDArray[np.float32], store: Store
    ) -> list["_Order"]:
        """Face': the person drawn anew."""
        picture = read_picture(store, face.reference.uri)[..., :3]
        seed = seed_of(record.id, face.face_id, self.stage.name)
        compared = _Compared(picture, None, vector)
        return self._redrawn(face.face_id, picture, ANEW.format("person"), seed, compared, store)

    def _of_background(self, background: Background, record: Record, store: Store) -> list["_Order"]:
        """Bg', which MAGREF's text makes and its formula leaves out."""
        if not self.stage.backgrounds:
            return []
        picture = read_picture(store, background.uri)[..., :3]
        seed = seed_of(record.id, "background", self.stage.name)
        compared = _Compared(picture, None, None)
        return self._redrawn("background", picture, PLACE_ANEW, seed, compared, store)

    def _redrawn(
        self, source_id: str, picture: Picture, prompt: str, seed: int, compared: "_Compared", store: Store
    ) -> list["_Order"]:
        """What the varier is to draw."""
        varier = self.varier
        if varier is None:
            return []

        def redraw(seed: int) -> Variant:
            drawn = _Drawn("redux", varier.vary(picture, prompt, seed), source_id, varier.card, prompt, seed)
            return self._measured(drawn, compared, store)

        return [_Order("redux", source_id, partial(redraw, seed + n)) for n in range(self.stage.redux)]

    def _measured(self, drawn: "_Drawn", compared: "_Compared", store: Store) -> Variant:
        """Keep a picture as a variant, with its likeness to what it was made from."""
        height, width = drawn.picture.shape[:2]
        vector = compared.identity
        return Variant(
            uri=put_picture(store, drawn.picture),
            kind=drawn.kind,
            source_id=drawn.source_id,
            model=drawn.card.source or drawn.card.name if drawn.card else None,
            revision=drawn.card.revision if drawn.card else None,
            prompt=drawn.prompt,
            seed=drawn.seed,
            similarity_identity=None if vector is None else self.likeness.identity(vector, drawn.picture),
            similarity_dino=self.likeness.dino(compared.picture, drawn.picture),
            similarity_clip=self.likeness.margin(drawn.picture, compared.class_id),
            height=height,
            width=width,
        )

    def _vectors(self, faces: Sequence[FaceRow], store: Store) -> dict[str, str] | None:
        if not faces:
            return None
        pictures = [read_picture(store, face.reference.uri)[..., :3] for face in faces]
        card = self.likeness.encoder.card
        return {
            "uri": put_vectors(store, self.likeness.encoder.encode(pictures)),
            "model": f"{card.source or card.name}@{card.revision}",
        }


@dataclass(frozen=True)
class Composites:
    """Lays the objects that `decisions.Select` names on the places that `pairs.Donors` chose; no model draws anything for it."""

    image_model: str = "dinov2-base"
    """Compares each with the crop that it shows elsewhere."""
    count: int = 1
    """At most, for each object."""
    resources: Resources = ONE_CPU
    name: ClassVar[str] = "composites"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"objects", "donors", "to_draw"})
    writes: ClassVar[frozenset[str]] = frozenset({"objects"})

    def open(self) -> "CompositeWorker":
        """See `Stage`."""
        from anyref.perception.catalogue import open_model

        encoder = open_model("image-encoder", self.image_model, device_of(self.resources))
        return CompositeWorker(self, cast("ImageEncoder", encoder))


@dataclass(frozen=True)
class CompositeWorker:
    """See `Composites`."""

    stage: Composites
    encoder: ImageEncoder

    def __call__(self, record: Record, store: Store) -> Outcome:
        """Adds variants to `objects`."""
        donors = record.get("donors", ())[: self.stage.count]
        places = [read_picture(store, uri)[..., :3] for uri in donors]
        objects = []
        for value in record["objects"]:
            row = from_json(ObjectRow, value)
            if places and row.object_id in record["to_draw"]:
                row = replace(row, variants=(*row.variants, *self._laid(row, record.id, places, store)))
            objects.append(row)
        return Outcome.ok(record.with_values({"objects": to_json(objects)}))

    def _laid(self, row: ObjectRow, record_id: str, places: Sequence[Picture], store: Store) -> list[Variant]:
        uris = {variant.kind: variant.uri for variant in row.variants}
        cropped, segment = read_picture(store, uris["crop"]), read_picture(store, uris["segment"])
        first = seed_of(record_id, row.object_id, self.stage.name)
        laid = []
        for seed, place in enumerate(places, first):
            rng = np.random.default_rng(seed)
            picture = composite(segment, place, rng.uniform(0.5, 0.9), rng)
            laid.append(
                Variant(
                    uri=put_picture(store, picture),
                    kind="composite",
                    source_id=row.object_id,
                    seed=seed,
                    similarity_dino=_cosine(self.encoder, cropped, picture),
                    height=picture.shape[0],
                    width=picture.shape[1],
                )
            )
        return laid


def _cosine(encoder: ImageEncoder, one: Picture, other: Picture) -> float:
    """Cosine of two pictures' vectors."""
    vectors = unit(encoder.encode([one, other]))
    return float(vectors[0] @ vectors[1])


@dataclass(frozen=True)
class _Order:
    """A variant that is to be made."""

    kind: VariantKind
    source_id: str
    make: Callable[[], Variant]


@dataclass(frozen=True)
class _Compared:
    """What a variant is compared with: a picture, a class, whose face it must be."""

    picture: Picture
    class_id: str | None
    identity: NDArray[np.float32] | None


@dataclass(frozen=True)
class _Drawn:
    """A picture and how it was made."""

    kind: VariantKind
    picture: Picture
    source_id: str
    card: ModelCard | None
    prompt: str | None
    seed: int
