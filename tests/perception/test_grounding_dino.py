"""Phrases by token spans, captions within the token cap, boxes in pixels; and the real class at a tiny size."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_perception import CARD, bert_tokenizer, picture, tiny_grounding_dino
from transformers.models.grounding_dino.image_processing_pil_grounding_dino import (
    GroundingDinoImageProcessorPil,
)

from anyref.perception import Detector
from anyref.perception.grounding_dino import GroundingDino


class Scripted:
    """Gives the logits that it is told for tokens (by id) and remembers the captions."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, answers: list[dict[int, float]], cap: int = 256) -> None:
        self.answers = answers
        self.asked: list[list[int]] = []
        text = SimpleNamespace(max_position_embeddings=512)
        self.config = SimpleNamespace(max_text_len=cap, text_config=text)

    def eval(self) -> "Scripted":
        return self

    def __call__(self, input_ids: torch.Tensor, **_: Any) -> SimpleNamespace:
        ids = input_ids[0].tolist()
        self.asked.append(ids)
        logits = torch.full((1, len(self.answers), 256), -9.0)
        for query, answer in enumerate(self.answers):
            for position, token in enumerate(ids):
                if token in answer:
                    logits[0, query, position] = torch.logit(torch.tensor(answer[token]))
        boxes = torch.tensor([[0.5, 0.25, 0.2, 0.1]]).expand(1, len(self.answers), 4)
        return SimpleNamespace(logits=logits, pred_boxes=boxes)


def detector(model: Any) -> GroundingDino:
    processor = GroundingDinoImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 128})
    return GroundingDino(model, processor, bert_tokenizer(), CARD)


def token(word: str) -> int:
    return int(bert_tokenizer().convert_tokens_to_ids(word))


def test_a_phrase_is_its_own_tokens() -> None:
    # One box for "dog", one for "red" of "red car" and a little for "cat", one for a full stop, which is nobody's.
    model = Scripted([{token("dog"): 0.9}, {token("red"): 0.6, token("cat"): 0.4}, {1012: 0.95}])
    found = detector(model).detect(picture(100, 200), ["Cat", "a red car.", "dog"])
    assert [(d.phrase, round(d.score, 3)) for d in found] == [(2, 0.9), (1, 0.6), (0, 0.4)]
    assert found[0].box == pytest.approx((20, 80, 30, 120))
    words = bert_tokenizer().decode(model.asked[0]).replace(" ", "")
    assert words == "[CLS]cat.aredcar.dog.[SEP]"


def test_a_word_in_two_phrases_counts_where_it_stands() -> None:
    # "person" is in the first phrase only; "top" in the second: a box that says "top" is not a person's.
    found = detector(Scripted([{token("top"): 0.8}])).detect(picture(64, 64), ["person", "red top"])
    assert [d.phrase for d in found] == [1]


def test_below_the_threshold_and_without_phrases_there_is_nothing() -> None:
    assert detector(Scripted([{token("dog"): 0.34}])).detect(picture(64, 64), ["dog"]) == []
    assert detector(Scripted([])).detect(picture(64, 64), []) == []


def test_many_phrases_are_asked_in_several_captions_and_keep_their_numbers() -> None:
    model = Scripted([{token("dog"): 0.9}])
    phrases = ["blue car on the red grass"] * 80 + ["dog"]
    found = detector(model).detect(picture(64, 64), phrases)
    assert [d.phrase for d in found] == [80]
    assert len(model.asked) == 3 and all(len(ids) <= 256 for ids in model.asked)
    assert sum(ids.count(token("car")) for ids in model.asked) == 80


@pytest.mark.parametrize(("phrase", "words"), [(" . ", "names nothing"), ("dog " * 300, "longer than")])
def test_phrases_that_cannot_be_asked(phrase: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        detector(Scripted([])).detect(picture(64, 64), ["cat", phrase])


def test_other_scripts_find_nothing_or_something_but_do_not_stop() -> None:
    assert detector(Scripted([{token("dog"): 0.9}])).detect(picture(64, 64), ["\u732b", "dog"])[0].phrase == 1


def test_the_real_class_at_a_tiny_size() -> None:
    model = tiny_grounding_dino()
    processor = GroundingDinoImageProcessorPil(size={"shortest_edge": 128, "longest_edge": 192})
    ours = GroundingDino(model, processor, bert_tokenizer(), CARD, threshold=0.0)
    assert isinstance(ours, Detector)
    found = ours.detect(picture(90, 120), ["a cat", "red top"])
    assert len(found) == 2 * 10  # threshold 0: every query answers both phrases
    boxes = np.array([d.box for d in found])
    assert (boxes >= 0).all() and (boxes[:, 2] <= 90).all() and (boxes[:, 3] <= 120).all()
    assert ours.detect(picture(90, 120), ["a cat", "red top"]) == found
