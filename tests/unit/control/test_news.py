"""Which changes of a deployment's phase are told."""

import itertools

import pytest

from lakeport.control.rollout import Observed, Phase, news

TOLD = {
    (Phase.READY, Phase.RECOVERING): "unavailable",
    (Phase.RECOVERING, Phase.READY): "recovered",
}


@pytest.mark.parametrize(("before", "now"), list(itertools.product([None, *Phase], Phase)))
def test_what_stops_answering_and_what_does_again_is_told(before: Phase | None, now: Phase) -> None:
    earlier = {} if before is None else {"d": Observed(before)}

    told = news(earlier, {"d": Observed(now), "other": Observed(Phase.READY)})

    expected = TOLD.get((before, now)) if before else None
    assert [(id, kind) for id, kind, _ in told] == ([("d", expected)] if expected else [])
