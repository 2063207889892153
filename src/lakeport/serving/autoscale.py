"""How many replicas a served entity should have: a pure rule, driven by readings of its load.

Up at once, down by the peak of the last quiet minutes, to zero after a longer idle time. Time is
given, never read, and the state is a value, so that days pass in a test within a second.
`docs/scaling.md` says the same for people.
"""

import math
from dataclasses import dataclass, replace

#: A load that fills the replicas to less than this is one that fewer would take with some room
#: left: what is between this and full neither adds nor removes one.
ROOM = 0.85
#: Replicas that use less than this part of the cores wait for something else.
WAITS = 0.5
#: Replicas that use more than this part of a core each compute all the time, but for what a busy
#: machine takes from them.
COMPUTES = 0.5
#: Seconds until the use of the cores shows the replicas that were added last.
SETTLED = 3.0
#: The peak is kept in so many parts of the quiet time.
PARTS = 10
#: A quiet time that turns out too short is doubled, up to so many times itself.
LONGEST = 12.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """What was asked for, in replicas."""

    #: At least 1: the least while any runs.
    low: int
    high: int
    #: Whether none may run while nobody asks.
    to_zero: bool


@dataclass(frozen=True, slots=True)
class Policy:
    """How to scale; times in seconds."""

    #: Requests that one replica takes at a time.
    takes: int
    #: Replicas above the minimum beyond which more gain nothing if they compute: the cores.
    cores: int
    #: Whether replicas that wait instead may go beyond `cores`, up to the maximum.
    beyond: bool = True
    quiet: float = 300.0
    zero_after: float = 1800.0


@dataclass(frozen=True, slots=True)
class Reading:
    """What a deployment is doing."""

    #: Requests under way on average since the last reading; 0.0 where none was taken before.
    mean: float
    #: Requests under way now, those that wait among them.
    present: int
    #: Requests that wait because no replica takes more.
    waiting: int
    #: Seconds without any request.
    idle: float
    #: Replicas that answer.
    live: int
    #: Cores that they use; None: not known.
    cpu: float | None = None
    #: Whether they merge what they hold into one predict, and so take as much as they can compute.
    merging: bool = False


@dataclass(frozen=True, slots=True)
class State:
    """What the rule remembers. Begin with `begin`."""

    #: Replicas that should run.
    wanted: int
    #: Since when replicas have run without a stay at zero.
    since: float
    #: When `wanted` changed last.
    changed: float
    #: Seconds that have to be quiet before replicas are removed.
    quiet: float
    #: (start, peak of requests under way) of the parts of the quiet time, oldest first.
    peaks: tuple[tuple[float, float], ...] = ()
    #: When replicas were removed last; None: never, or it has proved right.
    removed: float | None = None


def begin(wanted: int, policy: Policy, now: float) -> State:
    """The state of a deployment with so many replicas."""
    return State(wanted=wanted, since=now, changed=now, quiet=policy.quiet)


def decide(
    state: State, reading: Reading, bounds: Bounds, policy: Policy, now: float
) -> tuple[State, int]:
    """The next state, and how many replicas should run from now on."""
    if state.wanted == 0:
        if reading.waiting or reading.present or not bounds.to_zero:
            return begin(bounds.low, policy, now), bounds.low
        return state, 0
    state = _remembered(state, _load(reading), policy, now)
    if _may_sleep(state, reading, bounds, policy, now):
        return begin(0, policy, now), 0
    wanted = _up(state, reading, bounds, policy, now)
    if wanted <= state.wanted:
        wanted = min(_down(state, reading, bounds, policy, now), bounds.high)
    return _moved(state, wanted, policy, now), wanted


def _load(reading: Reading) -> float:
    """Requests at a time that replicas are needed for."""
    if not reading.live:  # they wait for the first one, however many more there are
        return 0.0
    # A crowd of a moment, which is held or gone, is no need; one that waits is.
    mean = reading.mean if reading.present else 0.0
    return max(mean, float(reading.present) if reading.waiting else 0.0)


def _remembered(state: State, load: float, policy: Policy, now: float) -> State:
    """With a load noted among the peaks, and those that are too old forgotten."""
    peaks = state.peaks
    if peaks and now - peaks[-1][0] < state.quiet / PARTS:
        if load > peaks[-1][1]:
            peaks = (*peaks[:-1], (peaks[-1][0], load))
    else:
        oldest = now - state.quiet - state.quiet / PARTS
        peaks = (*(part for part in peaks if part[0] > oldest), (now, load))
    removed, quiet = state.removed, state.quiet
    if removed is not None and now - removed >= quiet:  # fewer were enough
        removed, quiet = None, policy.quiet
    return replace(state, peaks=peaks, removed=removed, quiet=quiet)


def _may_sleep(state: State, reading: Reading, bounds: Bounds, policy: Policy, now: float) -> bool:
    """Never where none answers: it might not come back."""
    return (
        bounds.to_zero
        and reading.live > 0
        and reading.present == 0
        and min(reading.idle, now - state.since) >= policy.zero_after
    )


def _up(state: State, reading: Reading, bounds: Bounds, policy: Policy, now: float) -> int:
    """As many as the load needs now, within the bounds; at least the minimum."""
    needed = math.ceil(_load(reading) / policy.takes)
    most = max(bounds.low, min(bounds.high, policy.cores))
    used = reading.cpu
    if reading.live < state.wanted or now - state.changed < SETTLED:
        used = None  # of fewer replicas than there will be
    if reading.merging:
        busy = used is not None and used >= COMPUTES * state.wanted
        most = min(most, state.wanted * 2 if busy else state.wanted)
    elif policy.beyond and used is not None and used < WAITS * policy.cores:
        most = bounds.high
    return max(bounds.low, min(needed, most))


def _down(state: State, reading: Reading, bounds: Bounds, policy: Policy, now: float) -> int:
    """As many as the peak of the quiet time needs, with room; never more than there are."""
    if reading.waiting or now - state.changed < state.quiet:
        return max(state.wanted, bounds.low)
    peak = max(load for _, load in state.peaks)
    needed = math.ceil(peak / (policy.takes * ROOM))
    return max(bounds.low, min(needed, state.wanted))


def _moved(state: State, wanted: int, policy: Policy, now: float) -> State:
    if wanted == state.wanted:
        return state
    if wanted < state.wanted:
        return replace(state, wanted=wanted, changed=now, removed=now)
    quiet = state.quiet
    if state.removed is not None:  # fewer were not enough: a load that comes and goes
        quiet = min(quiet * 2, policy.quiet * LONGEST)
    return replace(state, wanted=wanted, changed=now, quiet=quiet, removed=None)
