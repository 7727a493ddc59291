"""Where nobody watches a terminal: one line a step, and in a long one a line every half minute with a guess of what is left."""

import io

from rich.console import Console

from anyref.evaluation.progress import Lines, Steps


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_long_step_says_how_far_it_is_every_half_minute() -> None:
    clock = Clock()
    lines = Lines("m", 100, clock)
    clock.now = 25.0  # the models are loaded, and the first video is done
    said = {1: lines.after_one_more()}
    for video in range(2, 101):
        clock.now += 2
        said[video] = lines.after_one_more()
    spoken = {video: line for video, line in said.items() if line}
    assert list(spoken) == [4, 19, 34, 49, 64, 79, 94, 100]
    assert spoken[4] == "m: 4 of 100 videos, 31 s, about 3 min left"
    assert spoken[94] == "m: 94 of 100 videos, 4 min, about 12 s left"
    assert spoken[100] == "m: 100 of 100 videos, 4 min"


def test_a_slow_first_video_is_no_measure_of_the_others() -> None:
    clock = Clock()
    lines = Lines("m", 3, clock)
    clock.now = 40.0
    assert lines.after_one_more() == "m: 1 of 3 videos, 40 s"


def test_lines_stand_where_bars_cannot() -> None:
    for terminal in (False, True):
        file = io.StringIO()
        console = Console(file=file, force_terminal=terminal, width=80)
        with Steps(console) as steps:
            steps.step("nothing to do", 0)
            done = steps.step("quick", 2)
            done()
            done()
        assert ("quick: 2 of 2 videos, 0 s\n" in file.getvalue()) != terminal
        assert ("nothing" in file.getvalue()) == terminal
