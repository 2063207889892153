"""What is counted stays bounded, whatever entities come and go."""

from lakeport.telemetry.metrics import Metrics


def test_entities_that_left_the_config_are_counted_no_longer() -> None:
    metrics = Metrics()
    for entity in ("iris-1", "iris-2"):
        metrics.entity("iris", entity).observe(200, 0.01, 0.005)
    metrics.entity("other", "iris-1").observe(200, 0.01, 0.005)

    metrics.keep("iris", {"iris-2"})

    assert [(m.endpoint, m.entity) for m in metrics.of()] == [
        ("iris", "iris-2"),
        ("other", "iris-1"),
    ]
