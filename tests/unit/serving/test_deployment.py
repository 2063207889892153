"""The front's queue and leases, in virtual time, over links that keep the contract."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from lakeport.errors import DeadlineExceeded, TooManyRequests, Unavailable
from lakeport.runtimes.base import Answer, Call, ReplicaLost, Stream
from lakeport.serving.deployment import Deployment, QueueLimits
from lakeport.wire.chat import Operation
from tests.unit.control.virtual_time import run


class Link:
    """Holds what it is sent until it is told to answer."""

    def __init__(self, credit: int) -> None:
        self.credit = credit
        self.held: dict[asyncio.Future[Answer | Stream], Call] = {}
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.closed = False

    @property
    def outstanding(self) -> int:
        return len(self.held)

    def send(self, call: Call) -> "asyncio.Future[Answer | Stream]":
        answer: asyncio.Future[Answer | Stream] = asyncio.get_running_loop().create_future()
        self.held[answer] = call
        answer.add_done_callback(lambda done: self.held.pop(done, None))
        return answer

    def answer_one(self) -> Call:
        answer, call = next(iter(self.held.items()))
        del self.held[answer]
        answer.set_result(Answer(200, call.body))
        return call

    def lose(self) -> None:
        self.lost.set_result(None)
        for answer in list(self.held):
            answer.set_exception(ReplicaLost("died"))

    def close(self) -> None:
        self.closed = True
        if not self.lost.done():
            self.lose()


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
                asyncio.get_running_loop().time,
            )
            await told(deployment, connector, hung)
            deployment.close()

        def test() -> None:
            run(whole())

        test.__name__ = told.__name__
        test.__doc__ = told.__doc__
        return test

    return wrap


def ask(deployment: Deployment, body: bytes = b"x", within: float = 60) -> "asyncio.Task[Answer]":
    async def call() -> Answer:
        deadline = asyncio.get_running_loop().time() + within
        answer, _ = await deployment.call(Call(body, "application/json", None, deadline))
        assert isinstance(answer, Answer)
        return answer

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
    loop = asyncio.get_running_loop()
    call = Call(b"x", None, None, loop.time() + 60, operation=Operation.CHAT)
    asking = loop.create_task(deployment.call(call))

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

    with pytest.raises(ReplicaLost):
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
    with pytest.raises(ReplicaLost):
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


@story()
async def test_a_waiting_call_whose_replica_dies_before_it_is_used_goes_to_another(
    deployment: Deployment, connector: Connector, hung: list[str]
) -> None:
    deployment.set_replicas({"r1": "a", "r2": "b"})
    await asyncio.sleep(1)
    held = [ask(deployment), ask(deployment)]
    await asyncio.sleep(0.1)
    waiting = ask(deployment)
    await asyncio.sleep(0.1)

    # In one turn of the loop `a` is given to the call that waits, and dies, and `b` is free.
    connector.links["a"].answer_one()
    asyncio.get_running_loop().call_soon(connector.links["a"].lose)
    connector.links["b"].answer_one()
    await asyncio.gather(*held)
    await asyncio.sleep(0.1)

    assert connector.links["b"].outstanding == 1
    connector.links["b"].answer_one()
    assert (await waiting).body == b"x"


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
async def test_draining_waits_for_the_last_lease(
    deployment: Deployment, connector: Connector, hung: list[str]
) -> None:
    deployment.lease()
    deployment.lease()
    draining = asyncio.get_running_loop().create_task(deployment.drained())
    deployment.release()
    await asyncio.sleep(1)
    assert not draining.done()

    deployment.release()
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
