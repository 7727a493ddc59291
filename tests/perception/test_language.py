"""Answers are read strictly; a real server on this machine is asked, fails, and is asked again; Qwen2.5-VL runs at a tiny size."""

import base64
import io
import json
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_perception import CARD, picture, qwen_processor, qwen_tokenizer
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from anyref.cli import _is_for_the_user, sentence
from anyref.perception import Captioner, Judge, Picture, Tag, Tagger
from anyref.perception.catalogue import open_model
from anyref.perception.endpoint import Endpoint, NoAnswerError
from anyref.perception.language import ChatCaptioner, ChatJudge, ChatTagger, Mention, place, spread
from anyref.perception.qwen_chat import QwenChat

CAPTION = "A woman in a red top walks a dog. The dog sees a dogsled near the woman's red house on the grass."


class Says:
    """A chat that gives prepared answers in turn."""

    card = CARD

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.shown: list[int] = []
        self.seeds: list[int | None] = []

    def ask(self, text: str, pictures: Sequence[Picture], max_tokens: int, seed: int | None = None) -> str:
        assert text and max_tokens > 0
        self.seeds.append(seed)
        self.shown.append(len(pictures))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def test_captions_see_sixteen_frames() -> None:
    chat = Says("A woman\nwalks. ")
    captioner = ChatCaptioner(chat)
    assert isinstance(captioner, Captioner)
    assert captioner.caption([picture(8, 8)] * 81) == "A woman walks."
    assert chat.shown == [16]
    with pytest.raises(ValueError, match="no frames"):
        captioner.caption([])


def test_spread_has_first_and_last() -> None:
    frames = [np.full((1, 1, 3), n, np.uint8) for n in range(81)]
    assert [int(f[0, 0, 0]) for f in spread(frames, 16)] == [int(n) for n in np.linspace(0, 80, 16)]
    assert len(spread(frames[:3], 16)) == 3


def test_phrases_are_placed_as_whole_words_longest_first() -> None:
    tags = place(
        CAPTION,
        [
            Mention("dog", "animal", "dog"),
            Mention("woman", "person", ""),
            Mention("red top", "clothing", "Top"),
            Mention("top", "clothing", "top"),  # inside a longer phrase: nowhere else to stand
            Mention("cat", "animal", "cat"),  # not in the caption
            Mention("grass", "scenery", "grass"),  # no such kind
            Mention("dogsled", "object", "sled"),
        ],
    )
    assert [(CAPTION[t.start : t.end], t.kind, t.label) for t in tags] == [
        ("woman", "person", "woman"),
        ("red top", "clothing", "top"),
        ("dog", "animal", "dog"),
        ("dogsled", "object", "sled"),
    ]
    assert place("The Dog.", [Mention("dog", "animal", "dog")]) == [Tag(4, 7, "animal", "dog")]
    assert place("a (b", [Mention("(b", "object", "b")]) == [Tag(2, 4, "object", "b")]


def test_tags_are_read_from_whatever_surrounds_them() -> None:
    answer = 'Sure {no}! ```json\n{"tags": [{"phrase": "dog", "kind": "animal", "label": "dog"}, {"phrase": 3}, 7]}\n```'
    tagger = ChatTagger(Says("not json", answer))
    assert isinstance(tagger, Tagger)
    assert [CAPTION[t.start : t.end] for t in tagger.tags(CAPTION)] == ["dog"]
    assert ChatTagger(Says('{"tags": null}')).tags(CAPTION) == []
    with pytest.raises(ValueError, match="did not answer with JSON in 3 attempts"):
        ChatTagger(Says("no")).tags(CAPTION)


def test_ratings_are_numbers_from_one_to_five() -> None:
    judge = ChatJudge(Says('{"realism": 4, "anatomy": 2.5}'))
    assert isinstance(judge, Judge)
    assert judge.judge([picture(8, 8)], "a cat", "Rate realism and anatomy.") == {
        "realism": 4.0,
        "anatomy": 2.5,
    }
    for wrong in ('{"realism": "4"}', '{"realism": 6}', '{"realism": true}', '{"realism": NaN}'):
        with pytest.raises(ValueError, match="1 to 5"):
            ChatJudge(Says(wrong)).judge([picture(8, 8)], "a cat", "Rate.")


def test_a_judge_is_asked_anew_with_each_seed_and_each_attempt() -> None:
    chat = Says("no json", '{"realism": 4}')
    ChatJudge(chat).judge([picture(8, 8)], "a cat", "Rate.", 2)
    assert chat.seeds == [2, 1002]
    tagging = Says('{"tags": []}')
    ChatTagger(tagging).tags(CAPTION)
    assert tagging.seeds == [None]  # the likeliest words


class Handler(BaseHTTPRequestHandler):
    statuses: ClassVar[list[int]] = []
    answer: ClassVar[Any] = None
    seen: ClassVar[list[tuple[str, dict[str, Any], str | None]]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen.append((self.path, body, self.headers["Authorization"]))
        status = self.statuses.pop(0) if self.statuses else 200
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(self.answer).encode())

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    Handler.statuses, Handler.seen = [], []
    Handler.answer = {"choices": [{"message": {"content": "a cat"}}]}
    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_endpoint_gets_pictures_and_the_key(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYREF_API_KEY", "word")
    captioner = open_model("captioner", f"endpoint@{address}#some/model")
    assert isinstance(captioner, Captioner) and captioner.caption([picture(600, 1024)] * 2) == "a cat"
    (path, body, key) = Handler.seen[0]
    assert path == "/v1/chat/completions" and body["model"] == "some/model" and key == "Bearer word"
    content = body["messages"][0]["content"]
    assert [part["type"] for part in content] == ["image_url", "image_url", "text"]
    image = Image.open(io.BytesIO(base64.b64decode(content[0]["image_url"]["url"].partition(",")[2])))
    assert image.size == (512, 300)
    assert (body["temperature"], body["seed"]) == (0.1, 0)


def test_three_answers_of_a_judge_are_three_requests(address: str) -> None:
    Handler.answer = {"choices": [{"message": {"content": '{"realism": 3}'}}]}
    judge = open_model("judge", f"endpoint@{address}#m")
    assert isinstance(judge, Judge)
    for seed in range(3):
        judge.judge([picture(8, 8)], "a cat", "Rate.", seed)
    assert [body["seed"] for _, body, _ in Handler.seen] == [0, 1, 2]
    assert all("temperature" not in body and "top_p" not in body for _, body, _ in Handler.seen)


def test_a_busy_endpoint_is_asked_again_and_a_wrong_one_is_not(address: str) -> None:
    pauses: list[float] = []
    endpoint = Endpoint(address, "m", CARD, sleep=pauses.append)
    Handler.statuses = [503, 429]
    assert endpoint.ask("?", [], 5) == "a cat" and pauses == [1, 2]
    Handler.statuses = [404]
    with pytest.raises(NoAnswerError, match="HTTP 404"):
        endpoint.ask("?", [], 5)
    assert len(pauses) == 2
    Handler.answer = {"error": "no"}
    with pytest.raises(ValueError, match="no chat answer"):
        endpoint.ask("?", [], 5)


def test_no_endpoint_there() -> None:
    pauses: list[float] = []
    with pytest.raises(ConnectionError, match=r"did not answer .*; start the server"):
        Endpoint("http://127.0.0.1:9/v1", "m", CARD, sleep=pauses.append).ask("?", [], 5)
    assert pauses == [1, 2, 4, 8]
    refused = NoAnswerError("http://x did not answer; start the server")
    assert _is_for_the_user(refused) and sentence(refused) == str(refused)
    with pytest.raises(ValueError, match="endpoint@http"):
        open_model("judge", "endpoint@file:///etc#m")


def test_qwen_in_process_at_a_tiny_size() -> None:
    torch.manual_seed(0)
    tokenizer = qwen_tokenizer()
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0},
        "max_position_embeddings": 512,
        "eos_token_id": None,
        "bos_token_id": None,
    }
    vision = {
        "depth": 1,
        "hidden_size": 32,
        "out_hidden_size": 32,
        "intermediate_size": 32,
        "num_heads": 2,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "fullatt_block_indexes": [0],
    }
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
    )
    model = Qwen2_5_VLForConditionalGeneration(config)
    chat = QwenChat(model, qwen_processor(), tokenizer, CARD)
    pictures = [picture(30, 60, 1), picture(60, 30, 2)]
    answer = chat.ask("a red cat", pictures, 6)
    assert answer and "<|" not in answer and chat.ask("a red cat", pictures, 6) == answer
    assert chat.ask("a red cat", [], 6)
    before = torch.random.get_rng_state()
    drawn = {chat.ask("a red cat", [], 6, seed) for seed in (0, 1, 2, 0)}
    assert len(drawn) == 3 and torch.equal(before, torch.random.get_rng_state())
    placed = []
    original = model.model.get_rope_index
    model.model.get_rope_index = lambda *a, **k: placed.append(1) or original(*a, **k)
    chat.ask("a red cat", pictures, 2)
    assert placed  # pictures are placed in time, rows and columns
