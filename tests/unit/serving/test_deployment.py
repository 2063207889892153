"""The front's queue and leases, in virtual time, over links that keep the contract."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from lakeport.errors import (
    ApiError,
    DeadlineExceeded,
    Internal,
    TooManyRequests,
    Unavailable,
)
from lakeport.runtimes.base import Answer, Call, ReplicaLost, Stream, Taken
from lakeport.serving.deployment import Deployment, QueueLimits
from lakeport.serving.flight import Flight
from lakeport.wire.chat import Operation
from tests.unit.control.virtual_time import run


class Link:
    """Holds what it is sent until it is told to answer."""

    def __init__(self, credit: int) -> None:
        self.credit = credit
        #: What is cancelled is computed to its end.
        self.goes_on = False
        self.held: dict[Sent, Call] = {}
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.closed = False

    @property
    def outstanding(self) -> int:
        return len(self.held)

    def send(self, call: Call, taken: Taken) -> "Sent":
        sent = Sent(self, taken)
        self.held[sent] = call
        return sent

    def answer_one(self) -> Call:
        sent, call = next(iter(self.held.items()))
        del self.held[sent]
        sent.taken(Answer(200, call.body))
        return call

    def lose(self) -> None:
        self.lost.set_result(None)
        held, self.held = self.held, {}
        for sent in held:
            sent.taken(ReplicaLost("died"))

    def close(self) -> None:
        self.closed = True
        if not self.lost.done():
            self.lose()


class Sent:
    def __init__(self, link: Link, taken: Taken) -> None:
        self.taken = taken
        self._link = link

    def cancel(self) -> bool:
        if self._link.goes_on:
            return self in self._link.held
        self._link.held.pop(self, None)
        return False


class Connector:
    def __init__(self, credit: int = 1) -> None:
        self.links: dict[str, Link] = {}
        self._credit = credit

    async def connect(self, address: str) -> Link:
        await asyncio.sleep(0.01)
        link = self.links[address] = Link(self._credit)
        return link


LIMITS = QueueLimits(requests=3, bytes=100, ready_wait=10, timeout=60)


def story(
    credit: int = 1,
) -> Callable[[Callable[[Deployment, Connector, list[str]], Awaitable[None]]], Callable[[], None]]:
    """A test that gets a deployment, its connector, and the list of replicas found hung."""

    def wrap(
        told: Callable[[Deployment, Connector, list[str]], Awaitable[None]],
    ) -> Callable[[], None]:
        async def whole() -> None:
            connector, hung = Connector(credit), list[str]()
            deployment = Deployment(
                "d",
                connector,
                LIMITS,
                lambda _, replica: hung.append(replica),
                clock=asyncio.get_running_loop().time,
            )
            await told(deployment, connector, hung)
            deployment.close()

        def test() -> None:
            run(whole())

        test.__name__ = told.__name__
        test.__doc__ = told.__doc__
        return test

    return wrap


class Asked(Flight):
    """A flight that one can wait for."""

    __slots__ = ("outcome",)

    def __init__(self, deployment: Deployment, call: Call) -> None:
        super().__init__(deployment, call)
        self.outcome: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def landed(self, result: Answer | Stream) -> None:
        assert isinstance(result, Answer)
        self.outcome.set_result(result)

    def failed(self, error: ApiError) -> None:
        self.outcome.set_exception(error)


def ask(
    deployment: Deployment,
    body: bytes = b"x",
    within: float = 60,
    operation: Operation | None = None,
) -> "asyncio.Task[Answer]":
    async def call() -> Answer:
        deadline = asyncio.get_running_loop().time() + within
        flight = Asked(
            deployment, Call(body, "application/json", None, deadline, operation=operation)
        )
        deployment.begin(flight)
        try:
            return await flight.outcome
        except asyncio.CancelledError:
            deployment.cancel(flight)
            raise

    task = asyncio.get_running_loop().create_task(call())
    # A test that does not look at its answer leaves no complaint to a later test's log.
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task


@story()
async def test_calls_beyond_the_credit_wait_in_order(
    deployment: Deployment, connector: Connector, hung: list[str]
) -> None:
    deployment.set_replicas({"r1": "a"})
    await asyncio.sleep(1)
    tasks = [ask(deployment, str(i).encode()) for i in range(3)]
    await asyncio.sleep(0.1)
    assert deployment.waiting == 2

    order = []
    for _ in range(3):
        order.append(connector.links["a"].answer_one().body)
        await asyncio.sleep(0.1)

    assert order == [b"0", b"1", b"2"]
    assert [(await task).body for task in tasks] == order


@story(credit=2)
async def test_the_replica_with_the_fewest_requests_gets_the_next(
    deployment: Deployment, connector: Connector, hung: list[str]
) -> None:
    deployment.set_replicas({"r1": "a", "r2": "b"})
    await asyncio.sleep(1)
    for _ in range(4):
        _ = ask(deployment)
    await asyncio.sleep(0.1)

    assert [connector.links[address].outstanding for address in "ab"] == [2, 2]


@story()
async def test_a_full_queue_refuses_at_once_with_a_retry_after(
    deployment: Deployment, connector: Connector, hung: list[str]
) -> None:
    deployment.set_replicas({"r1": "a"})
    await asyncio.sleep(1)
    for _ in range(4):
        _ = ask(deployment)
    await asyncio.sleep(0.1)

    with pytest.raises(TooManyRequests) as refusal:
        await ask(deployment)
    assert refusal.value.retry_after == 1


@story()
async def test_the_queue_is_bounded_in_bytes_too(
    deployment: Deployment, connector: Connector, hung: list[str]
) -> None:
    deployment.set_replicas({"r1": "a"})
    await asyncio.sleep(1)
    _ = ask(deployment)
    _ = ask(deployment, b"y" * 90)
    await asyncio.sleep(0.1)

    with pytest.raises(TooManyRequests):
        await ask(deployment, b"z" * 11)


@story()
async def test_a_call_waits_for_the_first_replica_and_then_gives_up(
    deployment: Deployment, connector: Connector, hung: list[str]
) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(Unavailable) as refusal:
        await ask(deployment)
    assert 10 <= loop.time() - began < 11
    assert refusal.value.retry_after == 1

    waiting = ask(deployment)
    await asyncio.sleep(5)
    deployment.set_replicas({"r1": "a"})
    await asyncio.sleep(1)
    connector.links["a"].answer_one()
    assert (await waiting).status == 200


@story()
async def test_a_deadline_ends_the_call_and_tells_of_the_hung_replica(
    deployment: Deployment, connector: Connector, hung: list[str]
) -> None:
    deployment.set_replicas({"r1": "a"})
    await asyncio.sleep(1)

    with pytest.raises(DeadlineExceeded):
        await ask(deployment)

    assert hung == ["r1"]


@story()
async def test_a_link_on_the_openai_wire_may_see_to_the_deadline_itself(
    deployment: Deployment, connector: Connector, hung: list[str]
) -> None:
    deployment.set_replicas({"r1": "a"})
    await asyncio.sleep(1)
    asking = ask(deployment, operation=Operation.CHAT)

    await asyncio.sleep(61)
    assert not asking.done()
    await asyncio.sleep(2)

    assert isinstance(asking.exception(), DeadlineExceeded)
    assert hung == ["r1"]


@story()
async def test_a_call_whose_deadline_passes_in_the_queue_blames_nobody_but_the_one_that_computes(
    deployment: Deployment, connector: Connector, hung: list[str]
) -> None:
    deployment.set_replicas({"r1": "a"})
    await asyncio.sleep(1)
    _ = ask(deployment, within=1000)
    await asyncio.sleep(0.1)

    with pytest.raises(DeadlineExceeded):
        await ask(deployment)

    assert hung == []


@story()
async def test_a_replica_that_dies_fails_what_it_held_and_nothing_else(
    deployment: Deployment, connector: Connector, hung: list[str]
) -> None:
    deployment.set_replicas({"r1": "a"})
    await asyncio.sleep(1)
    held, queued = ask(deployment), ask(deployment)
    await asyncio.sleep(0.1)

    connector.links["a"].lose()
    deployment.set_replicas({"r2": "b"})
    await asyncio.sleep(1)
    connector.links["b"].answer_one()

    with pytest.raises(Internal, match="ended before it answered"):
        await held
    assert (await queued).status == 200


@story()
async def test_a_replica_whose_connection_broke_is_reached_again(
    deployment: Deployment, connector: Connector, hung: list[str]
) -> None:
    deployment.set_replicas({"r1": "a"})
    await asyncio.sleep(1)
    broken = connector.links["a"]
    held, queued = ask(deployment), ask(deployment)
    await asyncio.sleep(0.1)

    broken.lose()
    await asyncio.sleep(1)

    assert connector.links["a"] is not broken
    connector.links["a"].answer_one()
    with pytest.raises(Internal, match="ended before it answered"):
        await held
    assert (await queued).status == 200


@story()
async def test_a_replica_that_is_not_listed_any_more_is_not_reached_again(
    deployment: Deployment, connector: Connector, hung: list[str]
) -> None:
    deployment.set_replicas({"r1": "a"})
    await asyncio.sleep(1)
    broken = connector.links["a"]

    broken.lose()
    deployment.set_replicas({})
    await asyncio.sleep(1)

    assert connector.links["a"] is broken


@story()
async def test_a_call_that_comes_just_as_a_replica_dies_goes_to_another(
    deployment: Deployment, connector: Connector, hung: list[str]
) -> None:
    deployment.set_replicas({"r1": "a", "r2": "b"})
    await asyncio.sleep(1)
    task = ask(deployment)  # it runs before the deployment hears of the death
    connector.links["a"].lose()
    await asyncio.sleep(0.1)

    assert connector.links["b"].outstanding == 1
    connector.links["b"].answer_one()
    assert (await task).body == b"x"


@story(credit=2)
async def test_a_replica_that_leaves_ends_what_it_holds_first(
    deployment: Deployment, connector: Connector, hung: list[str]
) -> None:
    deployment.set_replicas({"r1": "a"})
    await asyncio.sleep(1)
    held = ask(deployment)
    await asyncio.sleep(0.1)

    deployment.set_replicas({"r2": "b"})
    await asyncio.sleep(1)
    assert not connector.links["a"].closed
    connector.links["a"].answer_one()
    assert (await held).status == 200
    await asyncio.sleep(0.1)
    assert connector.links["a"].closed


@story()
async def test_a_deployment_that_is_closed_reaches_for_nothing_more(
    deployment: Deployment, connector: Connector, hung: list[str]
) -> None:
    deployment.set_replicas({"r1": "a"})
    await asyncio.sleep(1)
    last = connector.links["a"]
    held, queued = ask(deployment), ask(deployment)
    await asyncio.sleep(0.1)

    deployment.close()
    await asyncio.sleep(1)

    assert isinstance(held.exception(), Internal)
    assert isinstance(queued.exception(), Unavailable)
    assert connector.links["a"] is last


@story()
async def test_draining_waits_for_the_last_lease(
    deployment: Deployment, connector: Connector, hung: list[str]
) -> None:
    loop = asyncio.get_running_loop()
    deployment.lease(loop.time())
    deployment.lease(loop.time())
    draining = asyncio.get_running_loop().create_task(deployment.drained())
    deployment.release(loop.time())
    await asyncio.sleep(1)
    assert not draining.done()

    deployment.release(loop.time())
    await asyncio.sleep(0.1)
    assert draining.done()


@story()
async def test_a_caller_that_gives_up_leaves_no_trace(
    deployment: Deployment, connector: Connector, hung: list[str]
) -> None:
    deployment.set_replicas({"r1": "a"})
    await asyncio.sleep(1)
    computing, queued = ask(deployment), ask(deployment)
    await asyncio.sleep(0.1)

    queued.cancel()
    computing.cancel()
    await asyncio.sleep(1)

    assert deployment.waiting == 0
    assert connector.links["a"].outstanding == 0
    fresh = ask(deployment)
    await asyncio.sleep(0.1)
    connector.links["a"].answer_one()
    assert (await fresh).status == 200


@story()
async def test_a_replica_that_goes_on_for_a_caller_who_left_is_as_busy_as_before(
    deployment: Deployment, connector: Connector, hung: list[str]
) -> None:
    deployment.set_replicas({"r1": "a", "r2": "b"})
    await asyncio.sleep(1)
    busy = connector.links["a"]
    busy.goes_on = True
    left = ask(deployment, b"left")
    await asyncio.sleep(0.1)
    assert busy.outstanding == 1

    left.cancel()
    await asyncio.sleep(0.1)
    others = [ask(deployment, b"1"), ask(deployment, b"2")]
    await asyncio.sleep(0.1)

    assert connector.links["b"].outstanding == 1
    assert deployment.waiting == 1
    assert busy.answer_one().body == b"left"
    assert deployment.waiting == 0
    assert busy.answer_one().body == b"2"
    connector.links["b"].answer_one()
    assert [(await other).status for other in others] == [200, 200]
    await asyncio.sleep(120)
    assert hung == []


@story()
async def test_a_replica_hangs_whether_its_callers_wait_or_not(
    deployment: Deployment, connector: Connector, hung: list[str]
) -> None:
    deployment.set_replicas({"r1": "a"})
    await asyncio.sleep(1)
    connector.links["a"].goes_on = True
    left = ask(deployment)
    await asyncio.sleep(0.1)

    left.cancel()
    await asyncio.sleep(59)
    assert hung == []
    await asyncio.sleep(2)

    assert hung == ["r1"]
    connector.links["a"].answer_one()
    await asyncio.sleep(120)
    assert hung == ["r1"]


@story()
async def test_calls_that_wait_for_a_replica_on_its_way_are_not_given_up(
    deployment: Deployment, connector: Connector, hung: list[str]
) -> None:
    deployment.set_replicas({}, coming=True)
    waiting = ask(deployment)
    await asyncio.sleep(30)
    assert deployment.waiting == 1

    deployment.set_replicas({"r1": "a"})
    await asyncio.sleep(1)
    connector.links["a"].answer_one()
    assert (await waiting).status == 200


@story()
async def test_calls_that_wait_hear_that_no_replica_is_to_be_had(
    deployment: Deployment, connector: Connector, hung: list[str]
) -> None:
    deployment.set_replicas({}, coming=True)
    waiting = [ask(deployment), ask(deployment)]
    await asyncio.sleep(1)

    deployment.refuse_waiting("The model could not be loaded.")

    for each in waiting:
        with pytest.raises(Unavailable, match="could not be loaded"):
            await each
    assert deployment.waiting == 0


@story(credit=2)
async def test_load_is_the_integral_of_what_is_asked_at_a_time(
    deployment: Deployment, connector: Connector, hung: list[str]
) -> None:
    loop = asyncio.get_running_loop()
    first = deployment.load
    assert (first.in_flight, first.waiting, first.busy) == (0, 0, 0.0)
    deployment.lease(loop.time())
    await asyncio.sleep(2)
    deployment.lease(loop.time())
    await asyncio.sleep(3)
    deployment.release(loop.time())
    deployment.release(loop.time())
    await asyncio.sleep(4)

    load = deployment.load
    assert load.busy == pytest.approx(2 + 2 * 3)
    assert load.idle == pytest.approx(4)


async def test_who_keeps_replicas_is_told_once_a_turn_that_calls_wait() -> None:
    told: list[str] = []
    deployment = Deployment("d", Connector(), LIMITS, lambda *seen: None, on_waiting=told.append)
    waiting = [ask(deployment), ask(deployment)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert told == ["d"]
    deployment.close()
    await asyncio.gather(*waiting, return_exceptions=True)


@story()
async def test_a_call_that_would_wait_beyond_its_deadline_is_refused_at_once(
    deployment: Deployment, connector: Connector, hung: list[str]
) -> None:
    deployment.set_replicas({"r1": "a"})
    await asyncio.sleep(1)
    tasks = [ask(deployment, within=1000) for _ in range(3)]
    await asyncio.sleep(0.1)
    for _ in range(20):  # one answer in four seconds, and always two that wait
        await asyncio.sleep(4)
        connector.links["a"].answer_one()
        tasks.append(ask(deployment, within=1000))
        await asyncio.sleep(0)

    with pytest.raises(TooManyRequests) as refusal:
        await ask(deployment, within=10)
    assert refusal.value.retry_after in (12, 13)  # three calls at four seconds each

    for _ in range(3):
        await asyncio.sleep(1)
        connector.links["a"].answer_one()
    assert all(answer.status == 200 for answer in await asyncio.gather(*tasks))
