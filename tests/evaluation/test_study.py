"""A study from folders of videos to votes to an analysis; the page is worked through in a real browser, where there is one."""

import json
import re
import shutil
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anyref.evaluation.cases import EvaluationCase, EvaluationReference, write_cases
from anyref.evaluation.study import make
from anyref.evaluation.study_analysis import analyze_aspect, predictions, side_bias
from anyref.evaluation.study_command import StudyAnalyzeConfig, StudyMakeConfig
from anyref.evaluation.study_design import NOISE
from anyref.evaluation.study_report import analysis, analyze, rater_table, summary
from anyref.evaluation.study_votes import Ballot, Key, read_ballot, read_key
from anyref.media import read_video, write_video
from tests.evaluation.browser import dump, live, needs_browser

MODELS = ("alpha", "beta", "gamma")
QUALITY = {"alpha": 2, "beta": 1, "gamma": 0, NOISE: -9}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    rng = np.random.default_rng(0)
    cases = []
    for number in range(6):
        picture = folder / f"reference{number}.png"
        Image.fromarray(rng.integers(0, 255, (20, 30, 4), dtype=np.uint8)).save(picture)
        reference = EvaluationReference(picture, "dog", "object", "a <b>red</b> dog")
        cases.append(
            EvaluationCase(f"case_{number}", f'A "dog" & cat, number {number}', "single", (reference,))
        )
        for model in MODELS:
            frames = np.full((5, 32, 48, 3), 40 * number + 5, dtype=np.uint8)
            write_video(frames, folder / model / f"case_{number}.mp4", fps=8)
    write_cases(folder / "cases.jsonl", cases)
    make(config(folder))
    return folder / "study"


def config(folder: Path, **changes: object) -> StudyMakeConfig:
    settings: dict[str, object] = {
        "model": tuple(f"{model}={folder / model}" for model in MODELS),
        "cases": folder / "cases.jsonl",
        "output": folder / "study",
        "questions": 9,
        "raters": 4,
        "raters_per_question": 2,
    }
    return StudyMakeConfig(**{**settings, **changes})  # type: ignore[arg-type]


def vote(study: Path, key: Key, raters: dict[int, str], folder: str = "votes") -> None:
    """Raters vote by QUALITY; "left" always takes the left, "tie" never decides, "fails" is careful but likes noise."""
    (study / folder).mkdir(exist_ok=True)
    for rater, manner in raters.items():
        answers = []
        for question in key.forms[rater - 1]:
            better = "left" if QUALITY[question.left] > QUALITY[question.right] else "right"
            if manner == "left" or (manner == "tie" and question.kind != "noise"):
                better = manner
            if manner == "fails" and question.kind == "noise":
                better = "left" if question.left == NOISE else "right"
            choices = {aspect.name: better for aspect in key.aspects}
            answers.append({"question": question.key, "choices": choices, "seconds": 10 + rater})
        record = {"study": key.study, "rater": rater, "answers": answers}
        (study / folder / f"votes-{rater}.json").write_text(json.dumps(record))


def test_what_raters_get_names_no_model(study: Path) -> None:
    form = study / "form"
    text = (form / "study.js").read_text() + (form / "index.html").read_text()
    for word in (*MODELS, "noise", "case_1", "repeat"):
        assert not re.search(rf"\b{word}\b", text), word
    assert "http" not in text.replace("http-equiv", "")
    page = json.loads((form / "study.js").read_text().removeprefix("window.STUDY = ").rstrip(";\n"))
    media = {path.name for path in (form / "media").iterdir()}
    used = {q[side] for questions in page["forms"] for q in questions for side in ("left", "right")}
    used |= {reference["file"] for case in page["cases"].values() for reference in case["references"]}
    assert used == media
    assert all(re.fullmatch(r"[0-9a-f]{12}\.(mp4|png)", name) for name in media)
    assert not (form / "key.json").exists()


def test_videos_of_all_models_are_encoded_alike_and_noise_is_noise(study: Path) -> None:
    key = read_key(study)
    page = json.loads((study / "form/study.js").read_text().removeprefix("window.STUDY = ").rstrip(";\n"))
    for question, shown in zip(key.forms[0], page["forms"][0], strict=True):
        for side in ("left", "right"):
            video = read_video(study / "form/media" / shown[side])
            spread = float(video.frames_FYX3.std())
            assert (spread > 30) == (getattr(question, side) == NOISE)


def test_a_second_call_keeps_names_and_other_settings_are_refused(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (study / "form/study.js").read_bytes()
    make(config(study.parent))
    assert (study / "form/study.js").read_bytes() == before
    with pytest.raises(ValueError, match="other settings"):
        make(config(study.parent, questions=6))


def test_careful_raters(study: Path) -> None:
    key = read_key(study)
    vote(study, key, {1: "careful", 2: "careful", 3: "fails", 4: "tie"})
    ballot = read_ballot(study, key)
    assert [rater.attentive for rater in ballot.raters] == [True, True, False, True]
    assert all(rater.agreement == 1 for rater in ballot.raters)
    analyze(StudyAnalyzeConfig(study, draws=50))
    result = json.loads((study / "analysis.json").read_text())
    assert [rater["counted"] for rater in result["raters"]] == [True, True, False, True]
    for aspect in result["aspects"]:
        assert [standing["model"] for standing in aspect["standings"]] == list(MODELS)
        assert sum(map(sum, aspect["wins"])) == 18, (
            "two raters who decide, nine questions each; checks do not count"
        )
        assert sum(map(sum, aspect["ties"])) == 2 * 9
        assert all(aspect["wins"][j][i] == 0 for i in range(3) for j in range(i + 1, 3))
    text = (study / "analysis.md").read_text()
    assert "1 preferred noise" in text
    assert "alpha" in (study / "analysis.html").read_text()
    assert (study / "votes.csv").read_text().count("\n") == 1 + 4 * 13 * 3


def test_kaleidos_four_aspects(study: Path, tmp_path: Path) -> None:
    make(config(study.parent, aspects="kaleido", output=tmp_path / "study"))
    key = read_key(tmp_path / "study")
    names = ["video quality", "prompt alignment", "S2V consistency", "S2V decoupling"]
    assert [aspect.name for aspect in key.aspects] == names
    assert [aspect.name for aspect in key.aspects if aspect.shows_noise] == ["video quality"]
    shown = (tmp_path / "study/form/study.js").read_text().removeprefix("window.STUDY = ").rstrip(";\n")
    assert [aspect["name"] for aspect in json.loads(shown)["aspects"]] == names
    vote(tmp_path / "study", key, {1: "careful", 2: "careful", 3: "fails", 4: "tie"})
    analyze(StudyAnalyzeConfig(tmp_path / "study", draws=50))
    result = json.loads((tmp_path / "study/analysis.json").read_text())
    assert [aspect["aspect"] for aspect in result["aspects"]] == names
    assert [rater["counted"] for rater in result["raters"]] == [True, True, False, True]
    for aspect in result["aspects"]:
        assert [standing["model"] for standing in aspect["standings"]] == list(MODELS)
    assert all(name in (tmp_path / "study/analysis.md").read_text() for name in names)
    assert (tmp_path / "study/votes.csv").read_text().count("\n") == 1 + 4 * 13 * 4


def test_what_could_not_be_played_is_no_vote(study: Path) -> None:
    key = read_key(study)
    shutil.rmtree(study / "votes", ignore_errors=True)
    vote(study, key, {1: "fails", 2: "careful"})
    path = study / "votes" / "votes-1.json"
    record = json.loads(path.read_text())
    noise = [question.key for question in key.forms[0] if question.kind == "noise"]
    other = next(question.key for question in key.forms[0] if question.kind == "pair")
    record["unplayable"] = [*noise, other, other, "of another form"]
    path.write_text(json.dumps(record))
    ballot = read_ballot(study, key)
    assert not {vote.question.key for vote in ballot.votes if vote.rater == 1} & {*noise, other}
    first, second = ballot.raters
    assert (first.unplayable, first.noise_seen, first.attentive) == (len(noise) + 1, 0, True)
    assert (second.unplayable, second.noise_seen > 0) == (0, True)
    result = analysis(key, ballot, {}, False, 50, 0)
    header, lines = rater_table(result)
    assert [line[header.index("not played")] for line in lines] == [str(len(noise) + 1), "0"]
    assert "could not be played" in summary(result)[0]
    record["unplayable"] = "q1"
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match="as unplayable"):
        read_ballot(study, key)
    shutil.rmtree(study / "votes")


def test_a_rater_who_always_takes_the_left_shows(study: Path) -> None:
    key = read_key(study)
    vote(study, key, {1: "left", 2: "left"})
    shutil.rmtree(study / "votes")
    vote(study, key, {1: "left", 2: "left"})
    ballot = read_ballot(study, key)
    mine = [one for one in ballot.votes if one.aspect == key.aspects[0].name and one.question.kind == "pair"]
    bias = side_bias(mine)
    assert bias.left_wins == bias.decided == 18
    assert bias.p_value is not None
    assert bias.p_value < 1e-4
    assert all(rater.agreement == 0 for rater in ballot.raters), "the sides were swapped"
    shutil.rmtree(study / "votes")


def test_a_metric_that_predicts_and_one_that_does_not(study: Path, tmp_path: Path) -> None:
    key = read_key(study)
    vote(study, key, {1: "careful", 2: "careful", 3: "careful", 4: "careful"})
    ballot = read_ballot(study, key)
    rng = np.random.default_rng(0)
    cases = {question.case for form in key.forms for question in form}
    good = {(m, case): QUALITY[m] + rng.uniform(0, 0.5) for m in MODELS for case in cases}
    scores = {
        ("good", "strict"): good,
        ("bad", "strict"): {place: -value for place, value in good.items()},
        ("constant", "strict"): dict.fromkeys(good, 1.0),
        ("absent", "strict"): {("alpha", "case_0"): 1.0},
    }
    found = {p.metric: p for p in predictions(ballot.votes, scores, 100, rng) if p.aspect == "visual quality"}
    assert found["good"].accuracy.value == 1
    assert found["good"].correlation.value > 0.8
    assert found["bad"].accuracy.value == 0
    assert found["bad"].correlation.value == pytest.approx(-found["good"].correlation.value)
    assert found["constant"].accuracy.value == 0.5
    assert np.isnan(found["constant"].correlation.value)
    assert "absent" not in found


def test_intervals_know_that_raters_differ(study: Path) -> None:
    """The same counts: where raters disagree with one another, the interval over raters is wider than where they do not."""
    key = read_key(study)
    widths = []
    for manners in ({1: "careful", 2: "careful", 3: "tie", 4: "tie"}, dict.fromkeys((1, 2, 3, 4), "careful")):
        shutil.rmtree(study / "votes", ignore_errors=True)
        vote(study, key, manners)
        votes = read_ballot(study, key).votes
        result = analyze_aspect(key, votes, "visual quality", 200, np.random.default_rng(0))
        best = result.standings[0].win_rate
        assert best.low is not None
        assert best.high is not None
        widths.append(best.high - best.low)
    assert widths[0] > widths[1] + 0.1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"study": "other"}, "belongs to the study other"),
        ({"rater": 99}, "the study has 4 forms"),
        ({"answers": [{"question": "r01-nothing", "choices": {}}]}, "does not ask for"),
        ({"answers": ["nonsense"]}, "does not ask for"),
        ({"answers": [{"question": None, "choices": {"visual quality": "up"}}]}, "does not ask for"),
        (None, "is not a file of votes"),
    ],
)
def test_votes_that_cannot_be(study: Path, change: dict[str, object] | None, message: str) -> None:
    key = read_key(study)
    shutil.rmtree(study / "votes", ignore_errors=True)
    vote(study, key, {1: "careful"})
    path = study / "votes/votes-1.json"
    raw = json.loads(path.read_text())
    path.write_text("{" if change is None else json.dumps({**raw, **change}))
    with pytest.raises(ValueError, match=message):
        read_ballot(study, key)
    path.write_text(json.dumps(raw))
    shutil.copy(path, study / "votes/again.json")
    with pytest.raises(ValueError, match="both of rater 1"):
        read_ballot(study, key)


def test_what_cannot_be_made_or_analysed(study: Path, tmp_path: Path) -> None:
    folder = study.parent
    with pytest.raises(ValueError, match="twice or more"):
        make(config(folder, model=(f"alpha={folder / 'alpha'}",), output=tmp_path))
    with pytest.raises(ValueError, match="not NAME=FOLDER"):
        make(config(folder, model=("alpha", "beta"), output=tmp_path))
    lacking = tmp_path / "lacking"
    shutil.copytree(folder / "beta", lacking)
    (lacking / "case_2.mp4").unlink()
    models = (f"alpha={folder / 'alpha'}", f"beta={lacking}")
    with pytest.raises(ValueError, match=r"1 video of 12 missing \(beta/case_2\)"):
        make(config(folder, model=models, output=tmp_path / "study", questions=5))
    make(config(folder, model=models, output=tmp_path / "study", questions=5, skip_missing=True))
    assert "case_2" not in {q.case for form in read_key(tmp_path / "study").forms for q in form}
    with pytest.raises(ValueError, match="no votes"):
        analyze(StudyAnalyzeConfig(tmp_path / "study"))
    with pytest.raises(ValueError, match=r"no key\.json"):
        analyze(StudyAnalyzeConfig(tmp_path))
    key = read_key(folder / "study")
    with pytest.raises(ValueError, match="none of 0 raters"):
        analysis(key, Ballot((), ()), {}, False, 10, 0)


WALK = """
<script>
  const log = [];
  function watch() { for (const video of document.querySelectorAll("video")) video.dispatchEvent(new Event("ended")); }
  document.getElementById("start").click();
  for (let count = 0; document.getElementById("next") && count < 99; count += 1) {
    const next = document.getElementById("next");
    for (const button of document.querySelectorAll('[data-choice="CHOICE"]')) button.click();
    if (!next.disabled) log.push("not seen, yet next");
    watch();
    if (next.disabled) log.push("seen and answered, yet no next");
    next.click();
  }
  document.title = "walked " + log.join("; ");
</script>
"""


@needs_browser
def test_a_rater_works_through_the_page(study: Path, tmp_path: Path) -> None:
    """What the page saves is what the analysis reads."""
    key = read_key(study)
    form = tmp_path / "form"
    shutil.copytree(study / "form", form)
    page = form / "walk.html"
    page.write_text(
        (form / "index.html").read_text().replace("</body>", WALK.replace("CHOICE", "right") + "</body>")
    )
    done = dump(page, tmp_path / "profile", "#rater=2")
    assert "<title>walked </title>" in done
    saved = re.search(r'<textarea id="votes"[^>]*>(.*?)</textarea>', done, flags=re.S)
    assert saved is not None
    shutil.rmtree(study / "votes", ignore_errors=True)
    (study / "votes").mkdir()
    (study / "votes" / "votes-2.json").write_text(unescape(saved[1]))
    ballot = read_ballot(study, key)
    assert ballot.raters[0].answered == len(key.forms[1]) == 13
    assert all(vote.choice == vote.question.right for vote in ballot.votes)
    assert len(ballot.votes) == 13 * 3


@needs_browser
def test_the_page_shows_text_references_and_both_videos(study: Path, tmp_path: Path) -> None:
    form = tmp_path / "form"
    shutil.copytree(study / "form", form)
    start = '<script>document.getElementById("start").click()</script></body>'
    (form / "first.html").write_text((form / "index.html").read_text().replace("</body>", start))
    shown = dump(form / "first.html", tmp_path / "profile", "#rater=1")
    page = json.loads((form / "study.js").read_text().removeprefix("window.STUDY = ").rstrip(";\n"))
    first = page["forms"][0][0]
    case = page["cases"][first["case"]]
    assert case["prompt"] in unescape(shown)
    assert "a &lt;b&gt;red&lt;/b&gt; dog" in shown, "a label is text, not markup"
    for name in (first["left"], first["right"], case["references"][0]["file"]):
        assert f'src="media/{name}"' in shown
    assert "Pair 1 of 13" in shown
    assert shown.count('role="radiogroup"') == 3
    nobody = dump(form / "index.html", tmp_path / "profile", "#rater=77")
    assert "There are 4 forms" in nobody


@pytest.mark.slow
@needs_browser
def test_next_opens_when_both_videos_have_been_seen(study: Path, tmp_path: Path) -> None:
    form = tmp_path / "form"
    shutil.copytree(study / "form", form)
    start = """<script>setTimeout(() => { document.getElementById("start").click();
      for (const button of document.querySelectorAll('[data-choice="tie"]')) button.click(); }, 10)</script></body>"""
    (form / "first.html").write_text((form / "index.html").read_text().replace("</body>", start))
    script = """JSON.stringify({ disabled: document.getElementById("next").disabled,
      drift: Math.abs(document.querySelectorAll("video")[0].currentTime - document.querySelectorAll("video")[1].currentTime),
      width: document.querySelectorAll("video")[0].videoWidth })"""
    seen = json.loads(str(live(form / "first.html", tmp_path / "profile", "#rater=1", script, seconds=6)))
    assert seen["width"] == 48, "the browser plays what we encode"
    assert not seen["disabled"]
    assert seen["drift"] < 0.3
