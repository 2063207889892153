"""What is done every second is done together."""

import pytest

from lakeport.telemetry.ticks import EARLY, pause


@pytest.mark.parametrize("interval", [0.05, 0.5, 1.0, 10.0])
@pytest.mark.parametrize("after", [0.0, 0.001, 0.02])
def test_who_waits_so_long_wakes_at_a_whole_multiple(interval: float, after: float) -> None:
    now = 1_800_000_000.0 + after

    woken = now + pause(interval, now)

    assert woken == pytest.approx(1_800_000_000.0 + interval, abs=1e-6)


def test_who_wakes_a_little_early_does_not_wake_again_at_once() -> None:
    now = 1_800_000_000.0 - EARLY / 2

    assert pause(1.0, now) == pytest.approx(1.0 + EARLY / 2, abs=1e-6)


def test_no_interval_is_no_pause() -> None:
    assert pause(0.0) == 0.0
