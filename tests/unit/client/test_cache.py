import threading

from lakeport.client.cache import Cache


def cache_at(times: list[float], ttl: float = 10, limit: int = 3) -> Cache:
    return Cache(ttl, limit=limit, clock=lambda: times[0])


def test_values_are_kept_for_their_time() -> None:
    now = [0.0]
    cache = cache_at(now)
    cache.put("v", "endpoint", "a")

    now[0] = 10
    kept = cache.get("endpoint", "a")
    now[0] = 10.1

    assert kept is not None
    assert (kept.value, kept.age) == ("v", 10)
    assert cache.get("endpoint", "a") is None


def test_nothing_is_a_value_too() -> None:
    cache = cache_at([0.0])
    cache.put(None, "signature", "a", None)

    kept = cache.get("signature", "a", None)

    assert kept is not None
    assert kept.value is None


def test_the_oldest_go_when_there_are_too_many() -> None:
    cache = cache_at([0.0])
    for name in "abcd":
        cache.put(name, "endpoint", name)

    assert [cache.get("endpoint", name) is not None for name in "abcd"] == [False, True, True, True]


def test_all_about_one_endpoint_is_forgotten() -> None:
    cache = cache_at([0.0])
    cache.put(1, "endpoint", "a")
    cache.put(2, "signature", "a", "e")
    cache.put(3, "endpoint", "b")

    cache.drop("a")

    assert cache.get("endpoint", "a") is None
    assert cache.get("signature", "a", "e") is None
    assert cache.get("endpoint", "b") is not None


def test_many_threads() -> None:
    cache = Cache(60, limit=50)
    errors = []

    def use(number: int) -> None:
        try:
            for n in range(500):
                cache.put(n, "endpoint", f"{number}-{n % 70}")
                cache.get("endpoint", f"{(number + 1) % 8}-{n % 70}")
                cache.drop(f"{number}-{n % 7}")
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not errors
