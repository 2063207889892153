"""How long a call would wait in a queue."""

from lakeport.serving.pace import WINDOW, Pace


def test_nothing_is_said_before_there_is_something_to_say() -> None:
    pace = Pace()
    pace.begin(100.0)
    assert pace.wait(1000, 100.0) is None
    for _ in range(1000):
        pace.answered(100.1)
    assert pace.wait(1000, 100.1) is None  # a burst is no pace
    assert pace.wait(1000, 101.0) is not None


def test_the_wait_is_that_of_all_who_are_ahead() -> None:
    pace = Pace()
    pace.begin(0.0)
    for answer in range(1, 101):
        pace.answered(answer * 0.01)
    wait = pace.wait(49, 1.0)
    assert wait is not None
    assert abs(wait - 0.5) < 1e-9


def test_answers_in_batches_are_counted_one_by_one() -> None:
    pace = Pace()
    pace.begin(0.0)
    for batch in range(1, 11):
        for _ in range(10):
            pace.answered(batch * 0.1)
    assert abs((pace.wait(99, 1.0) or 0) - 1.0) < 1e-9


def test_a_model_that_grows_slower_is_noticed_within_two_windows() -> None:
    pace = Pace()
    pace.begin(0.0)
    now = 0.0
    while now < WINDOW:
        now += 0.001
        pace.answered(now)
    while now < 3 * WINDOW:
        now += 0.1
        pace.answered(now)
    wait = pace.wait(9, now)
    assert wait is not None
    assert abs(wait - 1.0) < 0.01


def test_a_new_queue_knows_nothing_of_the_last_one() -> None:
    pace = Pace()
    pace.begin(0.0)
    for answer in range(1, 101):
        pace.answered(answer * 1.0)
    pace.begin(1000.0)
    assert pace.wait(10, 1000.0) is None
