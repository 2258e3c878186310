# SPDX-License-Identifier: Apache-2.0
"""brimd: who is granted what, in which order, and how it is asked back."""
import signal
import struct
import subprocess
import time

import raw_client as raw

GIB = 1 << 30


def test_what_fits_is_granted_and_what_does_not_is_refused_with_the_holder_named(daemon):
    first, second = daemon.client(), daemon.client()
    granted = first.acquire(name="first", resident=int(8.9 * GIB))
    assert granted["type"] == raw.GRANTED and granted["gpus"].startswith("GPU-")
    refused = second.acquire(name="second", resident=int(8.9 * GIB))
    assert refused["type"] == raw.REFUSED and refused["code"] == raw.NO_ROOM
    assert "first" in refused["text"] and "reserve 800 MiB" in refused["text"]
    why = daemon.machine.brim("why", f"r{refused['refusal']}")
    assert "first" in why.stdout


def test_what_can_never_fit_is_refused_at_once_whatever_the_wait(daemon):
    refused = daemon.client().acquire(resident=13 * GIB, wait_ms=raw.FOR_EVER)
    assert refused["type"] == raw.REFUSED and refused["code"] == raw.NEVER_FITS


def test_a_waiter_gets_its_turn_in_order_when_the_holder_is_killed(daemon):
    holder = daemon.machine.spawn(daemon.machine.build / "tests/e2e/lease_client", "holder",
                                  9 * GIB, 0, 0, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout.readline().startswith("granted")
    first, second = daemon.client(), daemon.client()
    assert first.acquire(name="w1", resident=8 * GIB, wait_ms=60000)["type"] == raw.QUEUED
    queued = second.acquire(name="w2", resident=8 * GIB, wait_ms=60000)
    assert queued["type"] == raw.QUEUED and queued["position"] == 1
    killed_at = time.monotonic()
    holder.kill()
    assert first.wait(raw.GRANTED)["charge"] == 8 * GIB
    assert time.monotonic() - killed_at < 10  # by the kill, not by a deadline of 60 s
    first.close()
    second.wait(raw.GRANTED)


def test_bursts_that_do_not_fit_together_are_taken_one_after_the_other(daemon):
    holders = [daemon.client(), daemon.client()]
    for number, holder in enumerate(holders):
        assert holder.acquire(name=f"h{number}", resident=4 * GIB,
                              burst=int(2.1 * GIB))["type"] == raw.GRANTED
        assert holder.ask(raw.READY)["type"] == raw.DONE
    assert holders[0].burst()["type"] == raw.BURST_GRANTED
    assert holders[1].burst(wait_ms=raw.FOR_EVER)["type"] == raw.QUEUED
    assert holders[0].ask(raw.BURST_END)["type"] == raw.DONE
    assert holders[1].wait(raw.BURST_GRANTED)["bytes"] == int(2.1 * GIB)
    third = daemon.client().acquire(name="third", resident=5200000000, burst=2100000000)
    assert third["type"] == raw.REFUSED and "burst" in third["text"]


def test_a_waiting_burst_can_be_cancelled(daemon):
    holders = [daemon.client(), daemon.client()]
    for holder in holders:
        holder.acquire(resident=4 * GIB, burst=int(2.1 * GIB))
        holder.ask(raw.READY)
    holders[0].burst()
    seq = holders[1].send(raw.BURST_BEGIN, struct.pack("<QQ", 0, raw.FOR_EVER))
    holders[1].wait(raw.QUEUED, seq)
    end = holders[1].send(raw.BURST_END)
    assert holders[1].wait(raw.REFUSED)["seq"] == seq
    assert holders[1].receive() == {"type": raw.DONE, "seq": end}


def test_stop_ends_a_program_that_does_not_listen(daemon):
    program = daemon.machine.spawn("sleep", "1000")
    client = daemon.client()
    client.acquire(name="deaf", resident=GIB, flags=raw.HELD_BY_PROCESS, pid=program.pid)
    assert daemon.machine.brim("stop", "deaf").returncode == 0
    assert program.wait(20) == -signal.SIGTERM


def test_stop_asks_a_program_that_listens(daemon):
    client = daemon.client()
    client.acquire(name="listens", resident=GIB)
    assert daemon.machine.brim("stop", "listens").returncode == 0
    assert "brim stop" in client.wait(raw.STOP)["text"]
