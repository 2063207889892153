"""What is counted: tokens too, and nothing for ever."""

from prometheus_client.parser import text_string_to_metric_families

from lakeport.telemetry.metrics import Metrics


def test_tokens_are_counted_by_entity_and_kind() -> None:
    metrics = Metrics(clock=lambda: 5.0)
    talked = metrics.entity("chat", "small")
    talked.prompt_tokens += 7
    talked.completion_tokens += 3
    metrics.entity("embed", "mini").prompt_tokens += 2
    metrics.entity("iris", "iris-1")

    families = text_string_to_metric_families(metrics.exposition([]).decode())
    (tokens,) = [family for family in families if family.name == "lakeport_tokens"]
    assert {
        (*(sample.labels[name] for name in ("endpoint_name", "served_entity_name", "kind")),): (
            sample.value
        )
        for sample in tokens.samples
    } == {
        ("chat", "small", "prompt"): 7,
        ("chat", "small", "completion"): 3,
        ("embed", "mini", "prompt"): 2,
    }
    assert tokens.type == "counter"


def test_endpoints_without_tokens_show_none() -> None:
    metrics = Metrics()
    metrics.entity("iris", "iris-1").observe(200, 0.1, 0.05)

    assert b"tokens" not in metrics.exposition([])


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
