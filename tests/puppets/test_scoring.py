"""The papers' metrics of test clips by the embedded judges: known videos move them the way they must."""

import numpy as np
import pytest

from anyref.puppets.held_out import reference_of, single_clips, swapped
from anyref.puppets.models import WEIGHTS
from anyref.puppets.scoring import SCORES, score
from anyref.references import composite_on
from anyref.worlds import PuppetWorld

pytestmark = pytest.mark.skipif(
    not (WEIGHTS / "shared" / "phrase_segmenter").exists(), reason="the embedded judges are not trained yet"
)


def test_the_right_subject_scores_above_another_and_a_pasted_background_is_seen() -> None:
    """Real clips; the same with another's reference; and videos that are the reference picture itself."""
    samples = single_clips(PuppetWorld("test", num_frames=5), 6)
    references = [reference_of(sample.subjects[0]) for sample in samples]
    clips = [sample.frames_FYX3 for sample in samples]
    pasted = [np.repeat(composite_on(one)[None], 5, axis=0) for one in references]
    own, other, copies = (
        {name: float(np.mean(values)) for name, values in score(samples, shown, videos).items()}
        for shown, videos in ((references, clips), (swapped(references), clips), (references, pasted))
    )
    assert set(own) == set(SCORES)
    assert own["S2V Consistency"] > other["S2V Consistency"] + 0.05
    assert copies["S2V Decoupling"] < own["S2V Decoupling"] - 0.1
