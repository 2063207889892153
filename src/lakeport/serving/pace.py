"""How long a call would wait in a queue: arithmetic on plain numbers."""

#: Seconds over which answers are counted; what the last such window showed holds in the next.
WINDOW = 5.0
#: Fewer seconds, or fewer answers, say nothing yet.
_LEAST_SECONDS = 0.5
_LEAST_ANSWERS = 16


class Pace:
    """Seconds from one answer to the next, measured while there is a queue: replicas are as busy
    as they can be then, however many there are and whatever they merge."""

    __slots__ = ("_answers", "_known", "_since")

    def __init__(self) -> None:
        self._since = 0.0
        self._answers = 0
        #: Of the last window that said something.
        self._known: float | None = None

    def begin(self, now: float) -> None:
        """A queue begins to form: what was known of an earlier one is forgotten."""
        self._since = now
        self._answers = 0
        self._known = None

    def answered(self, now: float) -> None:
        """An answer came while there was a queue."""
        self._answers += 1
        if now - self._since >= WINDOW and self._answers >= _LEAST_ANSWERS:
            self._known = (now - self._since) / self._answers
            self._since, self._answers = now, 0

    def wait(self, waiting: int, now: float) -> float | None:
        """Seconds that a call behind `waiting` others would wait; None: there is no telling."""
        pace = self._known
        passed = now - self._since
        if pace is None and passed >= _LEAST_SECONDS and self._answers >= _LEAST_ANSWERS:
            pace = passed / self._answers
        return None if pace is None else (waiting + 1) * pace
