"""How plain requests are grouped."""

import pytest

from lakeport.worker.batch import MAX_REQUESTS, MAX_ROWS, groups


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], []),
        ([1], [range(1)]),
        ([1, 1, 1], [range(3)]),
        ([MAX_ROWS, 1], [range(1), range(1, 2)]),
        ([1, MAX_ROWS], [range(1), range(1, 2)]),
        ([10 * MAX_ROWS], [range(1)]),
        ([1] * (MAX_REQUESTS + 1), [range(MAX_REQUESTS), range(MAX_REQUESTS, MAX_REQUESTS + 1)]),
    ],
)
def test_groups_are_bounded_in_requests_and_rows(sizes: list[int], expected: list[range]) -> None:
    assert groups(sizes) == expected
