"""What was learned of endpoints, kept for a while."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Kept:
    """A value that was kept, None included."""

    value: Any
    #: Seconds.
    age: float


class Cache:
    """Values of endpoints by (what, name, …), for `ttl` seconds; the oldest of more than `limit`
    go. For many threads."""

    def __init__(
        self, ttl: float, *, limit: int = 1000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ttl = ttl
        self._limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._values: OrderedDict[tuple[Hashable, ...], tuple[float, Any]] = OrderedDict()

    def get(self, *key: Hashable) -> Kept | None:
        """None: nothing is kept, or it is too old."""
        with self._lock:
            found = self._values.get(key)
            if found is None:
                return None
            age = self._clock() - found[0]
            if age > self._ttl:
                del self._values[key]
                return None
            return Kept(found[1], age)

    def put(self, value: Any, *key: Hashable) -> None:
        with self._lock:
            self._values[key] = (self._clock(), value)
            self._values.move_to_end(key)
            if len(self._values) > self._limit:
                self._values.popitem(last=False)

    def drop(self, name: str) -> None:
        """Forget all about the endpoint `name`."""
        with self._lock:
            for key in [key for key in self._values if key[1] == name]:
                del self._values[key]
