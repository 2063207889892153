"""Faults as rules: which call meets which, and how often."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakeport.serving.faults import FIELDS, WORDS, Fault, Faults, error, problem
from lakeport.wire.workbench import FaultInput, FaultKind, FaultOn

INVOCATIONS, GET = FaultOn.INVOCATIONS, FaultOn.GET


def fault(kind: str = "slow", **fields: Any) -> Fault:
    return Fault(**{"endpoint": "iris", "kind": FaultKind(kind), **fields})


def test_only_the_next_calls_meet_it() -> None:
    faults = Faults()
    added = faults.add(fault(times=2))

    met = [faults.meet("iris", INVOCATIONS) for _ in range(4)]

    assert met == [added, added, None, None]
    assert (added.left, added.hits) == (0, 2)


def test_a_fault_without_times_has_no_end() -> None:
    faults = Faults()
    added = faults.add(fault())

    assert all(faults.meet("iris", INVOCATIONS) is added for _ in range(100))
    assert (added.left, added.hits) == (None, 100)


def test_each_call_meets_one_fault_in_the_order_in_which_they_were_added() -> None:
    faults = Faults()
    first = faults.add(fault(times=1))
    second = faults.add(fault("bad_json"))

    assert [faults.meet("iris", INVOCATIONS) for _ in range(3)] == [first, second, second]


def test_calls_of_another_endpoint_or_of_another_kind_do_not_meet_it() -> None:
    faults = Faults()
    read = faults.add(fault(on=GET, times=1))
    faults.add(fault("state", ready="NOT_READY"))

    assert faults.meet("wine", GET) is None
    assert faults.meet("iris", INVOCATIONS) is None
    assert read.left == 1
    assert faults.meet("iris", GET) is read


@given(st.floats(0, 1), st.integers(0, 50), st.integers(1, 20))
def test_chance_is_the_same_each_time_and_never_beyond_times(
    probability: float, calls: int, times: int
) -> None:
    def hits() -> list[bool]:
        faults = Faults()
        faults.add(fault(probability=probability, times=times))
        return [faults.meet("iris", INVOCATIONS) is not None for _ in range(calls)]

    met = hits()

    assert met == hits()
    assert sum(met) <= times
    if probability in (0, 1):
        assert sum(met) == min(times, calls) * int(probability)


def test_a_probability_is_about_kept() -> None:
    faults = Faults()
    added = faults.add(fault(probability=0.25))

    for _ in range(2000):
        faults.meet("iris", INVOCATIONS)

    assert 400 < added.hits < 600


def test_a_state_counts_how_often_it_is_shown_and_holds_for_invocations_meanwhile() -> None:
    faults = Faults()
    state = faults.add(fault("state", ready="NOT_READY", times=2))

    assert faults.state("iris", shown=False) is state.fault
    assert [faults.state("iris", shown=True) for _ in range(3)] == [state.fault, state.fault, None]
    assert faults.state("iris", shown=False) is None


def test_they_are_listed_when_used_up_and_gone_when_removed_or_cleared() -> None:
    faults = Faults()
    spent, other = faults.add(fault(times=1)), faults.add(fault(endpoint="wine"))
    kept = faults.add(fault("bad_json"))
    faults.meet("iris", INVOCATIONS)

    assert faults.listed() == [spent, kept, other]
    faults.remove(spent.id)
    assert faults.listed() == [kept, other]
    faults.clear("iris")
    assert faults.listed() == [other]
    assert len(faults) == 1
    assert len({spent.id, other.id, kept.id}) == 3


@pytest.mark.parametrize("status", sorted(WORDS))
def test_a_status_has_databricks_words_unless_others_are_given(status: int) -> None:
    plain = fault("status", status=status)

    usual, own = error(plain), error(replace(plain, error_code="MINE", message="No {endpoint}."))

    assert (usual.status, usual.error_code) == (status, WORDS[status][0])
    assert "{" not in usual.message
    assert (own.status, own.error_code, own.message) == (status, "MINE", "No {endpoint}.")
    assert own.body("r1")["error_code"] == "MINE"


def test_an_endpoint_that_is_gone_is_told_of_in_the_words_of_a_read() -> None:
    gone = error(fault("status", status=404, on=GET))

    assert gone.error_code == "RESOURCE_DOES_NOT_EXIST"
    assert "'iris'" in gone.message


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"kind": "status"}, "status"),
        ({"kind": "status", "status": 418}, "status"),
        ({"kind": "status", "status": 400, "retry_after": 1}, "retry_after"),
        ({"kind": "status", "status": 400, "seconds": 1.0}, "seconds"),
        ({"kind": "slow"}, "seconds"),
        ({"kind": "slow", "seconds": 1.0, "status": 500}, "status"),
        ({"kind": "cut", "after": 1, "on": GET}, "after"),
        ({"kind": "cut", "message": "x"}, "message"),
        ({"kind": "wake", "on": GET}, "on"),
        ({"kind": "state"}, "ready"),
        ({"kind": "state", "ready": "READY", "on": GET}, "on"),
        ({"kind": "bad_json", "error_code": "X"}, "error_code"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(fields: dict[str, Any], named: str) -> None:
    found = problem(fault(**fields))

    assert found is not None
    assert found.startswith(f"{named}: ")


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "status", "status": 429, "retry_after": 3, "error_code": "X", "message": "y"},
        {"kind": "status", "status": 503, "on": GET},
        {"kind": "slow", "seconds": 0.1, "on": GET},
        {"kind": "timeout"},
        {"kind": "cut", "after": 0},
        {"kind": "cut", "on": GET},
        {"kind": "wake"},
        {"kind": "state", "config_update": "UPDATE_FAILED"},
        {"kind": "bad_json", "times": 1, "probability": 0.5},
    ],
)
def test_what_fits_is_taken(fields: dict[str, Any]) -> None:
    assert problem(fault(**fields)) is None


def test_the_wire_and_the_rules_know_the_same_fields() -> None:
    rules = {name for names in FIELDS.values() for name in names}

    assert set(FaultInput.model_fields) == rules | {"endpoint", "kind", "times", "probability"}
    assert set(FIELDS) == set(FaultKind)
