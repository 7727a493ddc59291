"""The embedded models of the puppet world behind the protocols of this package: what runs where no real model does.

One function for each task, as the catalogue calls them. Weights lie in `anyref/puppets/weights` (or the folder of `puppets@FOLDER`) and are
opened once per folder and device. Whose face it is says the identity encoder, of the whole person: in this world skin, clothes and hat are
the identity, and heads alone are too few to tell people apart.
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from anyref.perception import Box, Detection, Face, ModelCard, Picture, Tag
from anyref.perception.models import Entry
from anyref.puppets import (
    action_reader,
    captioning,
    grammar,
    identity,
    image_text,
    judging,
    phrase_network,
    phrase_search,
    phrases,
    redrawing,
)
from anyref.puppets.models import WEIGHTS

_Loaded = TypeVar("_Loaded")
_PIECE = 0.05
"""Margin around a person whose identity is asked for, in lengths of the box's long side."""
_SEGMENTER, _TOWERS, _ACTIONS = "shared/phrase_segmenter", "shared/image_text", "shared/actions"
_IDENTITY = "identity.safetensors"
_TRAINED = {_SEGMENTER: "phrase-segmenter", _TOWERS: "image-text", _ACTIONS: "actions", _IDENTITY: "identity"}
"""Under the weights' folder, and the stage of the recipe that makes it."""


class PuppetDetector:
    """Finds by words, and cuts out what a box surrounds: `Detector` and `Segmenter` at once."""

    def __init__(self, model: phrase_network.PhraseSegmenter, card: ModelCard) -> None:
        self.card = card
        self._model = model

    def detect(self, picture_YX3: Picture, phrases: Sequence[str]) -> list[Detection]:
        """See `Detector`. A phrase without a noun of the world finds nothing; scores are mean probabilities over the thing's mask."""
        answers = phrase_search.find(self._model, picture_YX3, phrases)
        found = [
            Detection(number, _box_of(thing.mask_YX), thing.score)
            for number, each in enumerate(answers)
            for thing in each
        ]
        return sorted(found, key=lambda detection: -detection.score)

    def segment(self, picture_YX3: Picture, boxes: Sequence[Box]) -> NDArray[np.bool_]:
        """See `Segmenter`."""
        return phrase_search.cut(self._model, picture_YX3, boxes)


class PuppetImageEncoder:
    """Pictures of one subject are near where the subject is the same: the identity encoder, in place of DINO."""

    def __init__(self, model: identity.IdentityEncoder, card: ModelCard) -> None:
        self.card = card
        self._model = model

    def encode(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        """See `ImageEncoder`; 96 values."""
        if not pictures:
            return np.zeros((0, 96), np.float32)
        return judging.embed(self._model, pictures)


class PuppetImageTextEncoder:
    """Pictures and sentences in one space, in place of CLIP and GME."""

    def __init__(self, towers: image_text.Towers, card: ModelCard) -> None:
        self.card = card
        self._towers = towers

    def encode(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        """See `ImageEncoder`; 128 values."""
        return self._towers.encode_pictures(pictures) if pictures else np.zeros((0, 128), np.float32)

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `ImageTextEncoder`; of a text, the first 64 tokens count."""
        return self._towers.encode_texts(texts) if texts else np.zeros((0, 128), np.float32)


class PuppetFaceAnalyser:
    """Heads of people, found by words; whose they are, by the identity encoder on the whole person, cut out."""

    def __init__(
        self, segmenter: phrase_network.PhraseSegmenter, encoder: identity.IdentityEncoder, card: ModelCard
    ) -> None:
        self.card = card
        self._segmenter, self._encoder = segmenter, encoder

    def faces(self, picture_YX3: Picture) -> list[Face]:
        """See `FaceAnalyser`. No keypoints and no pose: the world's heads look at us."""
        heads, people = phrase_search.find(self._segmenter, picture_YX3, ["face", "person"])
        faces = []
        for head in heads:
            box = _box_of(head.mask_YX)
            inside = [int((person.mask_YX & head.mask_YX).sum()) for person in people]
            best = int(np.argmax(inside)) if inside else 0
            known = bool(inside) and inside[best] >= 0.3 * head.mask_YX.sum()
            shown = _piece(picture_YX3, people[best].mask_YX | head.mask_YX if known else head.mask_YX)
            faces.append(Face(box, head.score, judging.embed(self._encoder, [shown])[0]))
        return sorted(
            faces, key=lambda face: -(face.box.bottom - face.box.top) * (face.box.right - face.box.left)
        )


class PuppetAesthetic:
    """Colourfulness, contrast and sharpness on a scale of 1 to 10. Not learned: it falls with blur, grey and flatness, and says no more."""

    def __init__(self, card: ModelCard) -> None:
        self.card = card

    def rate(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        """See `AestheticPredictor`."""
        return np.array([_rating(picture) for picture in pictures], np.float32)


class PuppetCaptioner:
    """See `puppets.captioning`."""

    def __init__(self, captioner: captioning.Captioner, card: ModelCard) -> None:
        self.card = card
        self._captioner = captioner

    def caption(self, frames: Sequence[Picture]) -> str:
        """See `Captioner`. One sentence, in the words of the world's own captions."""
        return self._captioner.describe(frames).text


class PuppetTagger:
    """See `puppets.grammar`."""

    def __init__(self, card: ModelCard) -> None:
        self.card = card

    def tags(self, caption: str) -> list[Tag]:
        """See `Tagger`."""
        return [Tag(one.start, one.end, one.kind, one.label) for one in grammar.named_in(caption)]


class PuppetInpainter:
    """See `puppets.redrawing.fill`; prompt and seed do nothing."""

    def __init__(self, card: ModelCard) -> None:
        self.card = card

    def inpaint(self, picture_YX3: Picture, hole_YX: NDArray[np.bool_], prompt: str, seed: int) -> Picture:  # noqa: ARG002
        """See `Inpainter`."""
        return redrawing.fill(picture_YX3, hole_YX)


class PuppetVarier:
    """See `puppets.redrawing.redraw`: a frame of a video that an embedded model makes of the picture's subject."""

    def __init__(
        self,
        folder: Path,
        segmenter: phrase_network.PhraseSegmenter,
        towers: image_text.Towers,
        card: ModelCard,
        device: str = "cpu",
    ) -> None:
        self.card = card
        self._folder, self._device = folder, device
        self._segmenter, self._towers = segmenter, towers

    def vary(self, picture_YX3: Picture, prompt: str, seed: int) -> Picture:
        """See `Varier`. A prompt that names no subject in the world's words is replaced by one that does; takes seconds on a CPU."""
        label = redrawing.what_is_it(self._towers, picture_YX3)
        words = (redrawing.prompt_for(label, prompt), label)
        return redrawing.redraw(self._pipeline, self._segmenter, picture_YX3, words, seed)

    @cached_property
    def _pipeline(self) -> Any:
        from anyref.pipeline import AnyRefPipeline

        pipeline = AnyRefPipeline.from_pretrained(self._folder).to(self._device)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline


def detector(entry: Entry, device: str) -> PuppetDetector:
    """The phrase segmenter."""
    return PuppetDetector(_segmenter(entry, device), _card(entry, _SEGMENTER))


def segmenter(entry: Entry, device: str) -> PuppetDetector:
    """The same model: it answers to boxes too."""
    return detector(entry, device)


def image_encoder(entry: Entry, device: str) -> PuppetImageEncoder:
    """The identity encoder."""
    return PuppetImageEncoder(_identity(entry, device), _card(entry, _IDENTITY))


def image_text_encoder(entry: Entry, device: str) -> PuppetImageTextEncoder:
    """The tiny CLIP."""
    return PuppetImageTextEncoder(_towers(entry, device), _card(entry, _TOWERS))


def face_analyser(entry: Entry, device: str) -> PuppetFaceAnalyser:
    """The phrase segmenter and the identity encoder."""
    models = _segmenter(entry, device), _identity(entry, device)
    return PuppetFaceAnalyser(*models, _card(entry, _SEGMENTER, _IDENTITY))


def aesthetic(entry: Entry, device: str) -> PuppetAesthetic:  # noqa: ARG001 - every task is opened alike
    """Arithmetic, no model."""
    return PuppetAesthetic(_card(entry))


def captioner(entry: Entry, device: str) -> PuppetCaptioner:
    """The phrase segmenter, the tiny CLIP and the action reader."""
    models = _segmenter(entry, device), _towers(entry, device), _reader(entry)
    return PuppetCaptioner(captioning.Captioner(*models), _card(entry, _SEGMENTER, _TOWERS, _ACTIONS))


def tagger(entry: Entry, device: str) -> PuppetTagger:  # noqa: ARG001 - every task is opened alike
    """Rules, no model."""
    return PuppetTagger(_card(entry))


def inpainter(entry: Entry, device: str) -> PuppetInpainter:  # noqa: ARG001 - every task is opened alike
    """Arithmetic, no model."""
    return PuppetInpainter(_card(entry))


def varier(entry: Entry, device: str) -> PuppetVarier:
    """The embedded Kaleido model or, where it is not there, MAGREF's."""
    folder = redrawing.generator_folder(_weights(entry))
    card = _card(entry, f"{folder.name}/transformer/diffusion_pytorch_model.safetensors")
    return PuppetVarier(folder, _segmenter(entry, device), _towers(entry, device), card, device)


def _weights(entry: Entry) -> Path:
    return WEIGHTS if entry.source == "anyref/puppets/weights" else Path(entry.source)


def _card(entry: Entry, *parts: str) -> ModelCard:
    """With the first digits of the hash of each file of weights as the revision."""
    hashes = []
    for part in parts:
        path = _weights(entry) / part
        file = path / "model.safetensors" if path.is_dir() else path
        hashes.append(hashlib.sha256(file.read_bytes()).hexdigest()[:12])
    return ModelCard(entry.name, entry.source, "+".join(hashes), entry.licence, entry.commercial)


def _segmenter(entry: Entry, device: str) -> phrase_network.PhraseSegmenter:
    return _open(phrase_network.load, _weights(entry), _SEGMENTER).to(device)


def _towers(entry: Entry, device: str) -> image_text.Towers:
    towers = _open(image_text.load, _weights(entry), _TOWERS)
    towers.model.to(device)
    return towers


def _identity(entry: Entry, device: str) -> identity.IdentityEncoder:
    return _open(identity.load, _weights(entry), _IDENTITY).to(device)


def _reader(entry: Entry) -> action_reader.ActionReader:
    return _open(action_reader.load, _weights(entry), _ACTIONS)


@cache
def _open(load: Callable[[Path], _Loaded], weights: Path, part: str) -> _Loaded:
    path = weights / part
    if not path.exists():
        raise ValueError(
            f"the embedded model {part} is not under {weights}; train it: anyref puppets train --stages {_TRAINED[part]}, "
            "or name another folder: puppets@FOLDER"
        )
    return load(path)


def _box_of(mask_YX: NDArray[np.bool_]) -> Box:
    return Box(*(float(side) for side in phrases.box_of(mask_YX)))


def _piece(picture_YX3: Picture, mask_YX: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """What a mask covers, cut out (RGBA), with a margin."""
    rows, columns = phrases.window_around(phrases.box_of(mask_YX), mask_YX.shape, _PIECE)
    alpha = np.where(mask_YX, 255, 0).astype(np.uint8)
    return np.ascontiguousarray(np.dstack([picture_YX3, alpha])[rows, columns])


def _rating(picture_YX3: Picture) -> float:
    red, green, blue = np.moveaxis(picture_YX3.astype(np.float32) / 255, 2, 0)
    # Colourfulness after Hasler and Suesstrunk (2003), on values in [0, 1].
    apart, warm = red - green, (red + green) / 2 - blue
    colour = np.hypot(apart.std(), warm.std()) + 0.3 * np.hypot(apart.mean(), warm.mean())
    grey = 0.299 * red + 0.587 * green + 0.114 * blue
    steps = [np.abs(np.diff(grey, axis=axis)) for axis in (0, 1) if grey.shape[axis] > 1]
    # Of the pixels' steps only the steepest 5 % count, as a share of the contrast: what blur takes away first.
    sharpness = float(np.mean([np.quantile(step, 0.95) for step in steps])) if steps else 0.0
    parts = colour / 0.4, grey.std() / 0.25, sharpness / 0.25
    return float(1 + 9 * np.mean([np.tanh(part) for part in parts]))
