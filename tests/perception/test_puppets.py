"""The embedded models behind the protocols of perception: opened by task, with the right shapes, orders and cards."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from anyref import perception
from anyref.perception import Box, puppets
from anyref.perception.models import Entry, Task
from anyref.puppets import action_reader, identity, image_text, phrase_network, phrase_search
from anyref.puppets.phrase_search import Found


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained models where the trained ones would lie."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    phrase_network.save(phrase_network.build(), folder / "shared" / "phrase_segmenter")
    tokenizer = image_text.build_tokenizer(["a dog on the left jumps."], size=300)
    image_text.save(
        image_text.Towers(image_text.build(tokenizer), tokenizer), folder / "shared" / "image_text"
    )
    action_reader.save(action_reader.ActionReader(), folder / "shared" / "actions")
    identity.save(identity.IdentityEncoder(), folder / "identity.safetensors")
    return folder


def _entry(task: Task, weights: Path) -> Entry:
    return Entry("puppets", task, f"anyref.perception.puppets:{task}", str(weights), "", "Apache-2.0", True)


@pytest.mark.parametrize(
    ("task", "protocol"),
    [
        ("detector", perception.Detector),
        ("segmenter", perception.Segmenter),
        ("image-encoder", perception.ImageEncoder),
        ("image-text-encoder", perception.ImageTextEncoder),
        ("face-analyser", perception.FaceAnalyser),
        ("aesthetic", perception.AestheticPredictor),
        ("captioner", perception.Captioner),
        ("tagger", perception.Tagger),
        ("inpainter", perception.Inpainter),
    ],
)
def test_every_task_is_opened_and_says_what_answers(task: Task, protocol: type, weights: Path) -> None:
    model = getattr(puppets, task.replace("-", "_"))(_entry(task, weights), "cpu")
    assert isinstance(model, protocol)
    assert model.card.name == "puppets"
    assert model.card.commercial
    assert len(model.card.revision) % 13 in (0, 12), "hashes of 12 digits joined by +"


def test_missing_weights_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="anyref puppets train --stages phrase-segmenter"):
        puppets.detector(_entry("detector", tmp_path), "cpu")


def test_the_detector_answers_best_first_with_the_number_of_the_phrase(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = np.zeros((20, 30), bool)
    mask[4:9, 6:12] = True

    def find(model: object, picture: NDArray[np.uint8], asked: list[str]) -> list[list[Found]]:
        return [[Found(mask, 0.6)], [Found(mask, 0.9), Found(~mask, 0.3)]]

    monkeypatch.setattr(phrase_search, "find", find)
    detector = puppets.detector(_entry("detector", weights), "cpu")
    found = detector.detect(np.zeros((20, 30, 3), np.uint8), ["dog", "cat"])
    assert [(one.phrase, one.score) for one in found] == [(1, 0.9), (0, 0.6), (1, 0.3)]
    assert found[0].box == Box(4, 6, 9, 12)


def test_a_face_is_where_the_head_is_and_its_vector_is_of_the_whole_person(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[10:30, 5:15] = (200, 30, 30)
    picture[2:36, 40:56] = (30, 30, 200)
    people, heads = np.zeros((2, 2, 40, 60), bool)
    people[0, 10:30, 5:15] = people[1, 2:36, 40:56] = True
    heads[0, 10:16, 5:15] = heads[1, 2:12, 40:56] = True

    def find(model: object, shown: NDArray[np.uint8], asked: list[str]) -> list[list[Found]]:
        assert asked == ["face", "person"]
        return [[Found(heads[0], 0.9), Found(heads[1], 0.8)], [Found(people[0], 0.7), Found(people[1], 0.7)]]

    monkeypatch.setattr(phrase_search, "find", find)
    faces = puppets.face_analyser(_entry("face-analyser", weights), "cpu").faces(picture)
    assert [face.box for face in faces] == [Box(2, 40, 12, 56), Box(10, 5, 16, 15)], "largest first"
    encoder = puppets.image_encoder(_entry("image-encoder", weights), "cpu")
    cut = np.full((23, 13, 3), 255, np.uint8)  # the person on white, with a margin
    cut[1:21, 1:11] = (200, 30, 30)
    np.testing.assert_allclose(faces[1].embedding_D, encoder.encode([cut])[0], atol=1e-5)


def test_vectors_have_length_one_and_nothing_gives_nothing(weights: Path) -> None:
    picture = np.zeros((20, 30, 3), np.uint8)
    for task in ("image-encoder", "image-text-encoder"):
        encoder = getattr(puppets, task.replace("-", "_"))(_entry(task, weights), "cpu")  # type: ignore[arg-type]
        vectors = encoder.encode([picture, picture[:9]])
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        assert encoder.encode([]).shape == (0, vectors.shape[1])
    assert encoder.encode_text(["a dog"]).shape == (1, 128)
    assert encoder.encode_text([]).shape == (0, 128)


def test_ratings_fall_with_blur_and_grey_and_stay_on_the_scale(weights: Path) -> None:
    rng = np.random.default_rng(0)
    sharp = np.repeat(np.repeat(rng.integers(0, 256, (8, 12, 3), dtype=np.uint8), 8, axis=0), 8, axis=1)
    soft = sharp.astype(float)
    for axis in (0, 1):
        soft = sum(np.roll(soft, shift, axis) for shift in range(-4, 5)) / 9
    grey = np.broadcast_to(sharp.mean(axis=2, keepdims=True), sharp.shape)
    flat = np.full_like(sharp, 128)
    aesthetic = puppets.aesthetic(_entry("aesthetic", weights), "cpu")
    best, blurred, colourless, nothing = aesthetic.rate(
        [sharp, soft.astype(np.uint8), grey.astype(np.uint8), flat]
    )
    assert 10 >= best > max(blurred, colourless)
    assert nothing == pytest.approx(1.0)
    assert aesthetic.rate([np.zeros((1, 1, 3), np.uint8)]).shape == (1,)


def test_tags_are_spans_of_the_caption(weights: Path) -> None:
    caption = "The small dog on the left jumps on a beach at night."
    found = puppets.tagger(_entry("tagger", weights), "cpu").tags(caption)
    assert [(caption[tag.start : tag.end], tag.kind, tag.label) for tag in found] == [
        ("The small dog on the left", "animal", "dog"),
        ("a beach", "background", "beach"),
    ]
