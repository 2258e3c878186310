# SPDX-License-Identifier: Apache-2.0
"""What a user writes."""
from __future__ import annotations

import asyncio
from typing import AsyncIterator, Iterator

import brim
import brim.torch


def work() -> str:
    with brim.lease("llm", resident="5.2GiB", burst=10, priority="interactive") as lease:
        lease.ready()
        brim.torch.attach(lease)

        @lease.on_trim
        def trim(wanted_bytes: int) -> int:
            return 0

        @lease.burst("1GiB", max_wait=1.5)
        def answer(text: str) -> str:
            return text

        @lease.burst()
        def stream() -> Iterator[str]:
            yield "x"

        @lease.burst()
        async def answer_async(text: str) -> str:
            return text

        @lease.burst()
        async def stream_async() -> AsyncIterator[int]:
            yield 1

        with lease.burst() as burst:
            print(burst.lease.gpu, lease.id, next(stream()))
        return brim.torch.retry(answer, "x")


async def main() -> None:
    async with brim.lease("a", resident="1GiB") as lease, lease.burst(), brim.session():
        async with brim.stage("s", resident="1GiB") as s:
            model = s.keep([1])
            print(model, s.left_bytes)


@brim.on_flush
def flush() -> None:
    pass


def worker() -> None:
    for segment in brim.segments():
        with segment:
            segment.burst("1GB")
            print(segment.input, segment.out, segment.index)
    try:
        print(brim.ps()["gpus"], brim.why("r1"), list(brim.events()))
    except brim.Refused as refused:
        print(refused.asked_bytes, refused.id)


asyncio.run(main())
