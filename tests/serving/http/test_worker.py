"""The queue: what waits goes together, what is too late or too much is refused, and a failure is that of its own batch."""

import asyncio
import threading
import time

import http_service
import pytest

http_service.required()

from llmesr_jax.serving.http.worker import MOST_AT_ONCE, Overloaded, Worker


@pytest.fixture
def gate():
    return threading.Event()


@pytest.fixture
def worker(request):
    found = Worker("test", most_waiting=200, deadline=getattr(request, "param", 30))
    yield found
    found.close()


def test_what_arrives_while_a_batch_runs_is_the_next_batch(worker, gate):
    batches = []

    def run(payloads):
        batches.append(list(payloads))
        gate.wait(10)
        return [2 * payload for payload in payloads]

    async def all_of_them():
        first = asyncio.create_task(worker.ask("a", run, 0))
        while not batches:
            await asyncio.sleep(0.001)
        more = [asyncio.create_task(worker.ask("ab"[n % 2], run, n)) for n in range(1, 100)]
        await asyncio.sleep(0.01)
        assert worker.waiting == 99
        gate.set()
        return await asyncio.gather(first, *more)

    assert asyncio.run(all_of_them()) == [2 * n for n in range(100)]
    assert batches[0] == [0]
    assert sorted(batches[1] + batches[2]) == list(range(1, MOST_AT_ONCE + 1))
    assert {n % 2 for n in batches[1]} == {1} and {n % 2 for n in batches[2]} == {0}
    assert sum(map(len, batches)) == 100 and len(batches) == 5


@pytest.mark.parametrize("worker", [0.3], indirect=True)
def test_a_request_that_asks_twice_has_one_deadline(worker):
    def slow(payloads):
        time.sleep(0.2)
        return payloads

    async def twice(until):
        await worker.ask(None, slow, 1, until)
        return await worker.ask(None, slow, 2, until)

    async def of_one_request():
        return await twice(worker.end())

    assert asyncio.run(twice(None)) == 2
    with pytest.raises(Overloaded, match="no answer within 0.3 seconds"):
        asyncio.run(of_one_request())


@pytest.mark.parametrize("worker", [0.05], indirect=True)
def test_too_late(worker, gate):
    ran = []

    def run(payloads):
        ran.extend(payloads)
        gate.wait(10)
        return payloads

    async def late():
        tasks = [asyncio.create_task(worker.ask("a", run, n)) for n in range(2)]
        while not ran:
            await asyncio.sleep(0.001)
        tasks.append(asyncio.create_task(worker.ask("a", run, 9)))
        found = await asyncio.gather(*tasks, return_exceptions=True)
        gate.set()
        return found

    found = asyncio.run(late())
    assert {str(error) for error in found} == {"no answer within 0.05 seconds"}
    assert {type(error) for error in found} == {Overloaded}
    worker.close()
    assert 9 not in ran  # it was not begun once it was too late


def test_too_much(worker, gate):
    async def crowd():
        tasks = [asyncio.create_task(worker.ask("a", lambda p: gate.wait(10) and p, n)) for n in range(300)]
        await asyncio.sleep(0.01)
        gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    found = asyncio.run(crowd())
    refused = [one for one in found if isinstance(one, Overloaded)]
    assert 300 - 200 - MOST_AT_ONCE <= len(refused) <= 100 and str(refused[0]) == "200 requests are waiting"


def test_a_failure_is_that_of_its_batch(worker):
    def broken(payloads):
        raise ZeroDivisionError

    async def both():
        asked = worker.ask("a", broken, 1), worker.ask("b", lambda p: p, 2), worker.ask(None, lambda p: [KeyError()], 3)
        return await asyncio.gather(*asked, return_exceptions=True)

    first, second, third = asyncio.run(both())
    assert isinstance(first, ZeroDivisionError) and second == 2 and isinstance(third, KeyError)
    assert asyncio.run(worker.ask("a", lambda p: p, 4)) == 4
