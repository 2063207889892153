"""What is counted: tokens too, and nothing for ever."""

from collections.abc import Sequence

from prometheus_client.parser import text_string_to_metric_families

from lakeport.telemetry.exposition import EntityLoad, ReplicaLoad, of_endpoint, of_server
from lakeport.telemetry.metrics import Metrics


def text_of(metrics: Metrics, loads: Sequence[EntityLoad] = ()) -> str:
    return of_server(loads, metrics.of(), loop_lag=0.25).decode()


def samples_of(text: str, name: str) -> dict[tuple[str, ...], float]:
    """The values of a metric by its labels' values: the entity's, then the others by name."""
    first = ("endpoint_name", "served_entity_name")
    return {
        tuple(
            sample.labels[label]
            for label in sorted(sample.labels, key=lambda label: (label not in first, label))
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


def test_tokens_are_counted_by_entity_and_kind() -> None:
    metrics = Metrics(clock=lambda: 5.0)
    talked = metrics.entity("chat", "small")
    talked.prompt_tokens += 7
    talked.completion_tokens += 3
    metrics.entity("embed", "mini").prompt_tokens += 2
    metrics.entity("iris", "iris-1")

    families = text_string_to_metric_families(text_of(metrics))
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

    assert "tokens" not in text_of(metrics)


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


LOAD = EntityLoad(
    "iris",
    "iris-1",
    provisioned_concurrency=8,
    queue=3,
    in_flight=2,
    replicas=(ReplicaLoad("r1", 11, 50.0, 100, 400), ReplicaLoad("r2", None, None, None, None)),
)


def test_an_endpoint_shows_databricks_names_with_their_times() -> None:
    metrics = Metrics(clock=lambda: 5.0)
    entity = metrics.entity("iris", "iris-1")
    entity.observe(200, 0.004, 0.003)
    entity.observe(404, 0.001, 0.0)

    text = of_endpoint([LOAD], metrics.of(), 5.0).decode()

    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(line.endswith(" 5000") for line in lines)
    labels = '{endpoint_name="iris",served_entity_name="iris-1"}'
    for line in (
        f"request_count_total{labels} 2.0 5000",
        f"request_4xx_count_total{labels} 1.0 5000",
        f"request_5xx_count_total{labels} 0.0 5000",
        f"cpu_usage_percentage{labels} 50.0 5000",
        f"mem_usage_percentage{labels} 25.0 5000",
        f"gpu_usage_percentage{labels} 0.0 5000",
        f"gpu_mem_usage_percentage{labels} 0.0 5000",
        f"gpu_memory_usage_percentage{labels} 0.0 5000",
        f"provisioned_concurrent_requests_total{labels} 8.0 5000",
        f"request_latency_ms_sum{labels} 5.0 5000",
        f"model_queue_time_ms_sum{labels} 2.0 5000",
        f"model_prediction_latency_ms_sum{labels} 3.0 5000",
        f"request_latency_ms_count{labels} 2.0 5000",
    ):
        assert line in lines
    assert "lakeport_" not in text


def test_the_server_shows_batches_cold_starts_and_replicas() -> None:
    metrics = Metrics(clock=lambda: 5.0)
    entity = metrics.entity("iris", "iris-1")
    for batch in (1, 4, 4, 4, 4):
        entity.observe(200, 0.004, 0.003, batch)
    entity.observe(429, 0.001, 0.0)
    metrics.cold_start("iris", "iris-1", 0.3)

    text = text_of(metrics, [LOAD])

    key = ("iris", "iris-1")
    assert samples_of(text, "lakeport_requests_total") == {(*key, "200"): 5, (*key, "429"): 1}
    assert samples_of(text, "lakeport_batch_size_sum") == {key: 17}
    assert samples_of(text, "lakeport_batch_size_count") == {key: 5}
    assert samples_of(text, "lakeport_batch_size_bucket")[(*key, "2")] == 1
    assert samples_of(text, "lakeport_cold_starts_total") == {key: 1}
    assert samples_of(text, "lakeport_cold_start_seconds_sum") == {key: 0.3}
    assert samples_of(text, "lakeport_cold_start_seconds_bucket")[(*key, "0.25")] == 0
    assert samples_of(text, "lakeport_cold_start_seconds_bucket")[(*key, "0.5")] == 1
    assert samples_of(text, "lakeport_replicas") == {key: 2}
    assert samples_of(text, "lakeport_queue_length") == {key: 3}
    assert samples_of(text, "lakeport_requests_in_flight") == {key: 2}
    assert samples_of(text, "lakeport_replica_memory_bytes") == {(*key, "r1"): 100}
    assert samples_of(text, "lakeport_replica_cpu_percent") == {(*key, "r1"): 50}
    assert samples_of(text, "lakeport_event_loop_lag_seconds") == {(): 0.25}
    assert samples_of(text, "process_resident_memory_bytes")[()] > 10_000_000
    assert samples_of(text, "process_cpu_seconds_total")[()] > 0
    assert "request_latency_ms_bucket" in text
