# SPDX-License-Identifier: Apache-2.0
"""The asyncio forms: no thread, the loop's own descriptor watching."""
import asyncio
import functools
import threading

import pytest

import brim
from brim import _client


def names():
    return [thread.name for thread in threading.enumerate()]


def test_async_with(machine, no_leftovers):
    async def main():
        async with brim.lease("a", resident="1GiB", burst="1GiB") as lease:
            assert "brim a" not in names()
            lease.ready()
            async with lease.burst():
                assert lease.state == "busy" and lease.in_burst
            assert lease.state == "idle"

            @lease.burst()
            async def answer(text):
                """Answers."""
                await asyncio.sleep(0)
                return text, lease.state

            assert await answer("yes") == ("yes", "busy") and answer.__doc__ == "Answers."
            with pytest.raises(brim.StateError, match="async with"), lease.burst():
                pass
            assert lease.state == "idle"
        assert lease.state == "released"

    asyncio.run(main())


def test_a_wait_leaves_the_loop_free_and_can_be_cancelled(machine):
    async def main():
        async with brim.lease("a", resident="4GiB", burst="4GiB") as first, \
                brim.lease("b", resident="2GiB", burst="4GiB") as second:
            first.ready(), second.ready()
            async with first.burst():
                waiting = asyncio.ensure_future(second.burst().__aenter__())
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(asyncio.shield(waiting), 0.05)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
                with pytest.raises(brim.Refused):
                    await second.burst(max_wait=0.01).__aenter__()
                later = asyncio.ensure_future(second.burst().__aenter__())
                await asyncio.sleep(0)
            await later
            assert second.state == "busy"

    asyncio.run(main())


def test_refusals_and_releases_reach_who_awaits(machine):
    async def main():
        with pytest.raises(brim.NeverFits):
            await brim.lease("huge", resident="40GiB").acquire_async()
        async with brim.lease("a", resident="8GiB"):
            with pytest.raises(brim.Refused, match='no room for "b"'):
                async with brim.lease("b", resident="8GiB", max_wait=0):
                    pass
            waiting = brim.lease("c", resident="8GiB")
            task = asyncio.ensure_future(waiting.acquire_async())
            await asyncio.sleep(0)
            waiting.release()
            with pytest.raises(brim.Cancelled):
                await task

    asyncio.run(main())


def test_trims_and_stops_run_in_the_loop(machine):
    async def main():
        loop, seen = asyncio.get_running_loop(), asyncio.Event()
        async with brim.lease("a", resident="1GiB") as lease:
            lease.ready()

            @lease.on_trim
            def trim(wanted_bytes):
                assert asyncio.get_running_loop() is loop
                seen.set()

            await loop.run_in_executor(
                None, lambda: _client.request("/v1/trim", "POST", {"name": "a"}))
            await asyncio.wait_for(seen.wait(), 60)

    asyncio.run(main())


def test_two_tasks_cannot_burst_at_once(machine):
    async def main():
        async with brim.lease("a", resident="1GiB", burst="1GiB") as lease:
            lease.ready()
            async with lease.burst():
                with pytest.raises(brim.StateError, match="bursts do not nest"):
                    async with lease.burst():
                        pass

    asyncio.run(main())


def test_a_burst_covers_all_kinds_of_asynchronous_work(machine):
    async def main():
        async with brim.lease("a", resident="1GiB", burst="1GiB") as lease:
            lease.ready()
            closed = []

            @lease.burst()
            async def stream():
                try:
                    yield lease.state
                    yield "never"
                finally:
                    closed.append(lease.state)

            items = stream()
            assert lease.state == "idle"
            assert await items.__anext__() == "busy" and lease.state == "busy"
            await items.aclose()
            assert closed == ["busy"] and lease.state == "idle"

            async def answer(text):
                await asyncio.sleep(0)
                return text + lease.state

            class Model:
                async def __call__(self, text):
                    return await answer(text)

            assert await lease.burst()(functools.partial(answer, "so "))() == "so busy"
            assert await lease.burst()(Model())("so ") == "so busy"

    asyncio.run(main())


def test_a_release_by_another_thread_reaches_who_awaits(machine):
    async def main():
        async with brim.lease("a", resident="8GiB"):
            waiting = brim.lease("b", resident="8GiB")
            task = asyncio.ensure_future(waiting.acquire_async())
            await asyncio.sleep(0)
            await asyncio.get_running_loop().run_in_executor(None, waiting.release)
            with pytest.raises(brim.Cancelled):
                await asyncio.wait_for(task, 60)

    asyncio.run(main(), debug=True)


def test_a_cancelled_task_gives_back_what_its_blocks_hold(machine):
    """At every point where a task can be cancelled."""
    async def work(steps):
        async with brim.lease("a", resident="1GiB", burst="1GiB") as lease:
            steps.append("lease")
            async with lease.burst():
                steps.append("burst")
                await asyncio.sleep(3600)

    async def main():
        for turns in range(200):
            steps = []
            task = asyncio.ensure_future(work(steps))
            for _ in range(turns):
                await asyncio.sleep(0)
            while turns == 199 and len(steps) < 2:
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert steps == ["lease", "burst"]
        assert not brim._lease._held and not brim._calls._living

    asyncio.run(main())
    with brim.lease("last", resident="10GiB", max_wait=60):  # all of it is free again
        pass


def test_a_loop_that_ends_under_a_lease_harms_nobody(machine, no_leftovers):
    async def main():
        lease = brim.lease("a", resident="1GiB", burst="1GiB")
        await lease.acquire_async()
        await lease.burst().__aenter__()
        return lease

    lease = asyncio.run(main())
    with pytest.raises(brim.StateError, match="do not nest"), lease.burst():
        pass
    lease.idle()
    with pytest.raises(brim.StateError, match="async with"):
        lease._wait(lambda: False)
    lease.release()
    with lease, lease.burst():
        assert lease.state == "busy"
