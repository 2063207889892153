import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakeport.client.errors import (
    BadAnswer,
    BadRequest,
    ConnectionFailed,
    LakeportError,
    NotReady,
    RateLimited,
    ServerError,
    TimedOut,
)
from lakeport.client.retry import Retry

shares = st.floats(0, 1)


@given(failures=st.integers(1, 5000), draw=shares, base=st.floats(0, 1e3), cap=st.floats(0, 1e3))
def test_a_wait_is_at_most_the_cap_and_the_doubled_base(
    failures: int, draw: float, base: float, cap: float
) -> None:
    wait = Retry(base=base, cap=cap).wait(failures, None, draw)

    assert 0 <= wait <= cap
    assert wait <= base * 2 ** min(failures - 1, 60)


@given(failures=st.integers(1, 60))
def test_full_jitter_reaches_from_nothing_to_the_whole_step(failures: int) -> None:
    rule = Retry(base=0.25, cap=30)

    assert rule.wait(failures, None, 0.0) == 0
    assert rule.wait(failures, None, 1.0) == min(30, 0.25 * 2 ** (failures - 1))


@given(failures=st.integers(1, 60), draw=shares, after=st.floats(0, 1e5))
def test_a_longer_retry_after_is_honoured(failures: int, draw: float, after: float) -> None:
    rule = Retry()

    assert rule.wait(failures, after, draw) == max(after, rule.wait(failures, None, draw))


NOT_RUN: list[LakeportError] = [
    RateLimited("", status=429),
    NotReady("", status=503),
    ConnectionFailed("", sent=False),
    TimedOut("", sent=False),
]
MAYBE_RUN: list[LakeportError] = [
    ServerError("", status=500),
    ServerError("", status=502),
    TimedOut("", status=504),
    ConnectionFailed("", sent=True),
    TimedOut("", sent=True),
]
NEVER: list[LakeportError] = [
    BadRequest("", status=400),
    NotReady("", status=400, error_code="INVALID_STATE"),
    ServerError("", status=501),
    BadAnswer("", status=200),
]


@pytest.mark.parametrize("error", NOT_RUN, ids=repr)
def test_what_was_not_run_is_sent_again(error: LakeportError) -> None:
    assert Retry().allows(error)


@pytest.mark.parametrize("error", MAYBE_RUN, ids=repr)
def test_what_may_have_run_is_sent_again_only_when_asked_for(error: LakeportError) -> None:
    assert not Retry().allows(error)
    assert Retry(unsafe=True).allows(error)
    assert Retry().allows(error, safe=True)


@pytest.mark.parametrize("error", NEVER, ids=repr)
def test_what_cannot_get_better_is_never_sent_again(error: LakeportError) -> None:
    assert not Retry(unsafe=True).allows(error, safe=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [("attempts", 0), ("base", -1.0), ("cap", -1.0), ("deadline", float("nan"))],
)
def test_impossible_numbers_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        Retry(**{name: value})  # type: ignore[arg-type]
