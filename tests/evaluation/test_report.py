"""The report of two made-up runs: its numbers, its page in a real browser, and the files beside it."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anyref.evaluation.comparing import compare
from anyref.evaluation.exports import latex_table, markdown_table
from anyref.evaluation.gallery import filmstrip, looked_at, spread
from anyref.evaluation.published import published_rows
from anyref.evaluation.report import gallery_cases, report
from anyref.evaluation.report_command import CompareConfig, ReportConfig
from anyref.evaluation.runs import caveats, read_runs, suite_of, within
from anyref.evaluation.statistics import score
from anyref.evaluation.suites import aggregate, find_suite
from anyref.evaluation.tables import worst
from tests.evaluation.browser import dump, needs_browser, text_of
from tests.evaluation.scored_runs import ODD, make_cases, make_run, mark, moving_square, square_left

METRICS = [weighted.metric for weighted in find_suite("puppets").metrics]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("runs")
    cases = make_cases(folder, 6)
    ours, theirs = make_run(folder / "a", cases, 0.7, 1), make_run(folder / "b", cases, 0.45, 2)
    return f"ours={ours}", f"the & others={theirs}"


@pytest.fixture(scope="module")
def made(runs: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    report(ReportConfig(runs, folder, published="magref.multi", draws=200))
    return folder


def keys_shown(document: str) -> list[str]:
    cards = re.findall(r'<article class="case"[^>]*>.*?<h3>(\S+)', document, flags=re.S)
    hidden = re.findall(r'<article class="case"[^>]*hidden[^>]*>.*?<h3>(\S+)', document, flags=re.S)
    return [key for key in cards if key not in hidden]


def test_the_leaderboard_has_the_suites_numbers_and_published_rows_apart(
    runs: tuple[str, str], made: Path
) -> None:
    written = json.loads((made / "report.json").read_text())
    assert written["suite"] == "puppets"
    boards = {board["mode"]: board["lines"] for board in written["leaderboards"]}
    for run in read_runs(runs):
        for mode, lines in boards.items():
            line = next(line for line in lines if line["name"] == run.name)
            expected = score(run.rows, find_suite("puppets"), mode, draws=200)
            assert line["scores"]["total"]["value"] == pytest.approx(expected.scores.total)
            assert line["scores"]["total"]["low"] == pytest.approx(expected.intervals["total"].low)
            assert line["scores"]["magref.bg_sim"]["value"] == pytest.approx(
                expected.scores.part("magref.bg_sim").value
            )
            assert line["same_protocol"]
    grey = [line for line in boards["official"] if line["source"]]
    systems = [row for row in published_rows("magref.multi") if not row.ablation]
    assert {line["name"] for line in grey} == {row.name for row in systems}
    assert not any(line["same_protocol"] for line in grey)
    assert not any(line["source"] for line in boards["strict"]), "no publication has strict numbers"


def test_tables_for_other_programs(made: Path) -> None:
    with (made / "leaderboard.csv").open() as file:
        lines = list(csv.DictReader(file))
    total = next(x for x in lines if (x["mode"], x["name"], x["metric"]) == ("strict", "ours", "total"))
    assert float(total["low"]) < float(total["value"]) < float(total["high"])
    with (made / "scores.csv").open() as file:
        scores = list(csv.DictReader(file))
    assert len(scores) == 2 * 6 * len(METRICS)
    missing = [x for x in scores if x["run"] == "the & others" and x["case"] == "case_04"]
    assert {x["status"] for x in missing} == {"missed"}
    assert {x["official"] for x in missing} == {""}
    markdown = (made / "leaderboard.md").read_text()
    assert "MAGREF (published, not the same protocol: MAGREF, Table 2" in markdown
    assert r"the \& others" in (made / "leaderboard.tex").read_text()


def test_a_missing_video_counts_in_every_table_as_in_the_mean(runs: tuple[str, str]) -> None:
    read = read_runs(runs[1:])
    # As `anyref evaluate run` writes them: whether 0 is the worst, the suite knows.
    read = [
        replace(run, rows=tuple(r if r.video_sha256 else replace(r, strict=None) for r in run.rows))
        for run in read
    ]
    (run,) = within(read, find_suite("puppets"))
    lost = {row.metric: row.strict for row in run.rows if not row.video_sha256}
    assert lost["magref.id_sim"] == 0.0 and lost["anyref.canvas_leak"] is None
    rows = [(run.name, row) for row in run.rows if row.metric == "magref.id_sim"]
    assert not worst(rows, higher_is_better=True)[0][1].video_sha256
    known = [row.strict for _, row in rows if row.strict is not None]
    mean = aggregate(read[0].rows, find_suite("puppets"), "strict").part("magref.id_sim").value
    assert mean == pytest.approx(sum(known) / len(known))


def test_renormalising_is_asked_for(runs: tuple[str, str], tmp_path: Path) -> None:
    report(ReportConfig(runs, tmp_path, suite="magref.multi", published="none", draws=20, renormalise=True))
    written = json.loads((tmp_path / "report.json").read_text())
    (line, *_) = written["leaderboards"][0]["lines"]
    parts = {m["metric"]: m["weight"] for m in written["metrics"]}
    known = {m: line["scores"][m]["value"] for m in parts if line["scores"][m]["value"] is not None}
    assert line["partial"] and 0 < len(known) < len(parts)
    assert line["scores"]["total"]["value"] == pytest.approx(sum(known.values()) / len(known))
    assert "Renormalised" in (tmp_path / "report.html").read_text()


def test_table_texts() -> None:
    assert markdown_table(["a", "b"], [["x|y", "1"]]) == "| a | b |\n| --- | ---: |\n| x\\|y | 1 |"
    table = latex_table(["", "50 %"], [["a_b", "1"]], "A & B")
    assert r"\caption{A \& B}" in table
    assert r"a\_b & 1 \\" in table
    assert r"50 \%" in table


def test_the_page_needs_nothing_else_and_escapes_what_users_write(made: Path) -> None:
    page = (made / "report.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", page)
    assert not re.search(r"url\((?!data:)|@import|https?://(?!github)", page)
    assert "default-src 'none'" in page
    assert page.isascii()


def test_caveats_name_what_makes_runs_incomparable(runs: tuple[str, str], tmp_path: Path) -> None:
    found = read_runs(runs)
    text = " ".join(caveats(found, find_suite("puppets")))
    assert "the & others has no video of 1 case (case_04)" in text
    assert "puppets forbid commercial use" in text
    assert "cannot be compared" not in text
    assert "different" not in text
    other = found[1]
    videos = (other.folder / "videos.jsonl").read_text()
    about = (other.folder / "run.json").read_text()
    try:
        changed = videos.replace('"width": 96', '"width": 832').replace('"fps": 8.0', '"fps": 1.5')
        (other.folder / "videos.jsonl").write_text(changed)
        (other.folder / "run.json").write_text(about.replace('"abc123"', '"def456"', 1))
        text = " ".join(caveats(read_runs(runs), find_suite("puppets")))
        assert "different sizes" in text
        assert "different frame rates" in text
        assert "compressed differently" in text
        assert "ID-Sim (magref.id_sim) was measured with different versions" in text
        assert "videos last 6.0 s" in text
    finally:
        (other.folder / "videos.jsonl").write_text(videos)
        (other.folder / "run.json").write_text(about)


def test_strips_show_frames_with_boxes_where_they_belong(tmp_path: Path) -> None:
    from anyref.media import write_video

    write_video(moving_square(2), tmp_path / "a.mp4", fps=8)
    marks = {"magref.subj_sim": [mark(2, frame, True) for frame in (0, 4, 8)]}
    strip = filmstrip(tmp_path / "a.mp4", 9, marks, count=3)
    assert strip.frame_indices == (0, 4, 8)
    assert (strip.width, strip.height, strip.small) == (3 * 96 + 4, 64, True)
    overlay = strip.overlays["magref.subj_sim"]
    lefts = [float(x) for x in re.findall(r'<rect class="" x="([\d.]+)"', overlay)]
    assert lefts == [98 * place + square_left(2, frame) for place, frame in enumerate((0, 4, 8))]
    assert overlay.count("<image") == 3
    assert "dog &lt;i&gt;" in overlay


def test_a_mask_is_drawn_on_its_subject() -> None:
    from anyref.evaluation.gallery import _tinted

    tinted = _tinted(mark(1, 3, True), (64, 96), (1, 2, 3)).convert("RGBA")
    alpha = np.asarray(tinted)[..., 3]
    left = square_left(1, 3)
    assert alpha[20:44, left : left + 24].all()
    assert alpha.astype(bool).sum() == 24 * 24
    assert isinstance(tinted, Image.Image)


def test_frames_of_a_strip_prefer_those_that_metrics_looked_at() -> None:
    assert spread(81, 6) == (0, 16, 32, 48, 64, 80)
    assert spread(1, 6) == (0,)
    assert looked_at(81, 6, {}) == spread(81, 6)
    seen = {"a": [mark(0, 18, False), mark(0, 20, False)], "b": [mark(0, 20, False)]}
    assert looked_at(81, 6, seen) == (0, 20, 32, 48, 64, 80)


def test_the_gallery_takes_the_worst_cases_first(runs: tuple[str, str]) -> None:
    found = read_runs(runs)
    assert len(gallery_cases(found, find_suite("puppets"), 10)) == 6
    assert gallery_cases(found, find_suite("puppets"), 0) == []
    assert "case_04" in gallery_cases(found, find_suite("puppets"), 2), "it has no video"
    rows = [(run.name, row) for run in found for row in run.rows if row.metric == "anyref.copy_paste"]
    ranked = [row for _, row in worst(rows, higher_is_better=False)]
    assert ranked[0].status == "missed", "nothing is worse than no video, whatever its number"
    numbers = [row.strict or 0.0 for row in ranked[1:]]
    assert numbers == sorted(numbers, reverse=True)


@needs_browser
def test_the_page_in_a_browser(made: Path, tmp_path: Path) -> None:
    page = made / "report.html"
    plain = dump(page, tmp_path / "profile")
    assert keys_shown(plain) == [f"case_{number:02d}" for number in range(6)]
    assert 'data-mode="strict"' in plain
    assert "6 of 6 cases" in plain
    text = text_of(plain)
    assert ODD in text
    assert "RuntimeError: <b>broken</b>" in text
    assert "There is no video of this case." in text

    view = "#view:mode=official&sort=magref.subj_sim&order=best&category=multi&marks=magref.subj_sim"
    sorted_page = dump(page, tmp_path / "profile", view)
    assert 'data-mode="official"' in sorted_page
    with (made / "scores.csv").open() as file:
        scores = {
            x["case"]: float(x["official"])
            for x in csv.DictReader(file)
            if (x["run"], x["metric"], x["category"]) == ("ours", "magref.subj_sim", "multi")
            and x["official"]
        }
    assert keys_shown(sorted_page)[: len(scores)] == sorted(scores, key=lambda case: -scores[case])
    assert keys_shown(sorted_page)[-1] == "case_02", "a case without score comes last"
    assert "4 of 6 cases" in sorted_page
    assert "subj_sim" in re.findall(r"<style>(\.strip g\[data-marks.*?)</style>", sorted_page)[0]

    missed = dump(page, tmp_path / "profile", "#view:only=missed&sort=magref.id_sim&of=1")
    assert keys_shown(missed) == ["case_04"]


def test_one_run_without_videos_cases_or_published_rows(runs: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "scores").mkdir()
    (tmp_path / "scores" / "rows.jsonl").write_bytes((read_runs(runs)[0].folder / "rows.jsonl").read_bytes())
    with pytest.raises(ValueError, match="give --suite"):
        report(ReportConfig((str(tmp_path / "scores"),), tmp_path / "out"))
    report(
        ReportConfig(
            (str(tmp_path / "scores"),), tmp_path / "out", suite="puppets.multi", published="none", draws=20
        )
    )
    page = (tmp_path / "out/report.html").read_text()
    assert "Comparison" not in page
    assert 'class="grey"' not in page
    assert "There is no video of this case" in page
    assert "case_01" in page
    assert "case_00" not in page, "of another category"


def test_compare_writes_what_it_says(
    runs: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for suffix in ("json", "csv", "md", "tex"):
        compare(CompareConfig(runs, draws=100, output=tmp_path / f"compared.{suffix}"))
    assert "ours minus the & others, strict, on 6 shared cases" in capsys.readouterr().out
    differences = json.loads((tmp_path / "compared.json").read_text())["comparisons"][0]["comparison"][
        "differences"
    ]
    total = next(d for d in differences if d["metric"] == "total")
    assert total["value"] > 0.1
    with (tmp_path / "compared.csv").open() as file:
        lines = {line["metric"]: line for line in csv.DictReader(file)}
    assert float(lines["total"]["difference"]) == pytest.approx(total["value"])
    drift = next(
        x for x in (tmp_path / "compared.md").read_text().splitlines() if x.startswith("| Copy-paste")
    )
    assert "lower is better" in drift
    assert "better" not in drift.replace("lower is better", ""), "more copying is not better"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((), "no run is given"),
        (("nowhere",), "there are no scores in nowhere"),
        (("a=nowhere",), "neither a folder nor NAME=FOLDER"),
    ],
)
def test_runs_that_cannot_be_read(given: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_runs(given)


def test_what_a_user_can_get_wrong(runs: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two runs are named 'scores'"):
        read_runs([run.partition("=")[2] for run in runs])
    with pytest.raises(ValueError, match="names 'x', and the runs are ours"):
        read_runs(runs[:1], [f"x={tmp_path}"])
    with pytest.raises(ValueError, match="needs two runs"):
        compare(CompareConfig(runs[:1]))
    with pytest.raises(ValueError, match="does not end in"):
        compare(CompareConfig(runs, output=tmp_path / "a.docx"))
    with pytest.raises(ValueError, match="unknown"):
        report(ReportConfig(runs, tmp_path, suite="nothing"))
    with pytest.raises(ValueError, match="unknown"):
        report(ReportConfig(runs, tmp_path, published="nothing"))
    with pytest.raises(ValueError, match="give such numbers"):
        report(ReportConfig(runs, tmp_path, frames=0))
    with pytest.raises(ValueError, match="no scores of the suite opens2v"):
        report(ReportConfig(runs, tmp_path, suite="opens2v-v1.0-human"))
    assert suite_of(read_runs(runs), None).name == "puppets"


def test_a_partial_total_is_called_so_and_what_was_not_measured_is_said_once(
    runs: tuple[str, str], tmp_path: Path
) -> None:
    source = read_runs(runs)[0].folder
    (tmp_path / "less").mkdir()
    kept = [
        line
        for line in (source / "rows.jsonl").read_text().splitlines()
        if "id_sim" not in line and "gme_score" not in line
    ]
    (tmp_path / "less/rows.jsonl").write_text("\n".join(kept) + "\n")
    about = json.loads((source / "run.json").read_text())
    about["unavailable"] = {"magref.id_sim": "no <model>", "opens2v.gme_score": "no <model>"}
    (tmp_path / "less/run.json").write_text(json.dumps(about))
    report(ReportConfig((str(tmp_path / "less"),), tmp_path / "out", draws=20))
    page = text_of((tmp_path / "out/report.html").read_text())
    assert "less was not measured by magref.id_sim, opens2v.gme_score: no <model>." in page
    assert "less (partial)" in page
    assert "a metric without score counts 0 in it" in page
    assert "| less (partial) |" in (tmp_path / "out/leaderboard.md").read_text()
    written = json.loads((tmp_path / "out/report.json").read_text())
    line = written["leaderboards"][0]["lines"][0]
    assert line["partial"]
    assert line["scores"]["magref.id_sim"]["value"] is None
    lines = written["categories"]["official"]
    assert lines and all(line["partial"] for line in lines)
    for line in lines:
        assert re.search(rf"{line['category']}\s+{line['num_cases']}\s+{line['total']:.3f}\s+partial", page)
