# SPDX-License-Identifier: Apache-2.0
"""The asyncio forms: no thread, the loop's own descriptor watching."""
import asyncio
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
