# SPDX-License-Identifier: Apache-2.0
"""Leases and bursts of one process."""
import functools
import os
import signal
import sys
import threading

import pytest

import brim
from brim import _client

GIB = 1 << 30


def test_a_lease_is_what_ps_shows(machine, no_leftovers):
    with brim.lease("llm", resident="2GiB", burst="1GiB", load_peak="3GiB",
                    priority="interactive", gpu=0, max_wait=60) as lease:
        shown = machine.lease("llm")
        assert shown["id"] == lease.id and shown["priority"] == "interactive"
        assert shown["pid"] == os.getpid()
        assert (shown["resident_bytes"], shown["burst_bytes"], shown["load_peak_bytes"]) \
            == (2 * GIB, GIB, 3 * GIB)
        assert lease.state == shown["state"] == "loading" and lease.is_connected
        assert lease.gpu == machine.ps()["gpus"][0]["uuid"]
        lease.ready()
        with lease.burst("512MiB"):
            assert lease.in_burst and machine.lease("llm")["state"] == "busy"
            assert machine.lease("llm")["charge_bytes"] == 2 * GIB + (512 << 20)
        assert not lease.in_burst and machine.lease("llm")["state"] == "idle"
        assert brim.current() is lease
    assert lease.state == "released" and lease.id is None
    lease.release()
    lease.release()
    machine.events.wait(kind="released", name="llm")
    with pytest.raises(brim.StateError, match="holds no lease"):
        brim.current()


def test_the_first_burst_says_ready_and_an_exception_ends_both(machine):
    class Boom(Exception):
        pass

    with pytest.raises(Boom), brim.lease("a", resident="1GiB", burst="1GiB") as lease:
        with pytest.raises(Boom), lease.burst():
            raise Boom
        assert machine.lease("a")["state"] == "idle"
        raise Boom
    machine.events.wait(kind="released", name="a")


def test_a_refusal_carries_the_reason_as_data_and_as_text(machine):
    with brim.lease("first", resident="8GiB"):
        with pytest.raises(brim.Refused) as caught:
            brim.lease("second", resident="6GiB", max_wait=0).acquire()
    refused = caught.value
    assert refused.asked_bytes == 6 * GIB and 0 < refused.free_bytes < 6 * GIB
    assert refused.capacity_bytes == 12282 << 20 and refused.reserve_bytes == 800 << 20
    assert 'no room for "second"' in str(refused) and "held: first 8.00 GiB" in str(refused)
    assert refused.code == -4 and refused.id.startswith("r")
    assert brim.why(refused.id)["text"] == str(refused)

    with pytest.raises(brim.NeverFits, match="can never fit"):
        brim.lease("huge", resident="40GiB").acquire()
    import pickle
    assert vars(pickle.loads(pickle.dumps(refused))) == vars(refused)


@pytest.mark.parametrize("wrong, said", [
    ({"resident": "5"}, "5 what"), ({"resident": "1GiB", "priority": "high"}, "none of normal"),
    ({"resident": "1GiB", "max_wait": -1}, "max_wait=-1"),
    ({"resident": "1GiB", "max_wait": "10m"}, "max_wait='10m': seconds"),
    ({"resident": "1GiB", "max_wait": float("nan")}, "max_wait=nan"),
    ({"resident": "1GiB", "burst": "2.1"}, "2.1 what"), ({"resident": -1}, "from 0 to"),
    ({"resident": "1GiB", "name": "a\0b"}, "is not a name"),
])
def test_a_wrong_argument_is_told_before_anything_is_asked(wrong, said):
    with pytest.raises(ValueError, match=said):
        brim.lease(**wrong)


@pytest.mark.parametrize("size", [5.2, None, b"5GiB", True])
def test_a_size_that_is_neither_text_nor_a_whole_number_is_a_type_error(size):
    with pytest.raises(TypeError, match="a text like '5.2GiB' or a whole number"):
        brim.lease(resident=size)


def test_a_wait_of_infinite_seconds_waits_for_as_long_as_it_takes(machine):
    with brim.lease("a", resident="1GiB", burst="1GiB", max_wait=float("inf")) as lease, \
            lease.burst(max_wait=float("inf")):
        assert lease.state == "busy"


def test_what_the_library_finds_impossible_is_an_invalid_claim(machine):
    with pytest.raises(brim.Invalid, match="too long"):
        brim.lease("x" * 64, resident="1GiB").acquire()
    with pytest.raises(brim.Refused):
        brim.lease("a", resident="1GiB", gpu="17").acquire()


def test_bursts_do_not_nest_and_are_not_larger_than_the_claim(machine):
    with brim.lease("a", resident="1GiB", burst="1GiB") as lease:
        with lease.burst():
            with pytest.raises(brim.StateError, match="bursts do not nest"):
                lease.burst().__enter__()
            assert lease.state == "busy"
        with pytest.raises(brim.Invalid, match="more than the claim"):
            lease.burst("2GiB").__enter__()
        lease.resize(burst="2GiB")
        with lease.burst("2GiB"):
            assert machine.lease("a")["charge_bytes"] == 3 * GIB


def test_a_released_lease_says_so(machine):
    lease = brim.lease("a", resident="1GiB", burst="1GiB")
    for use in (lease.ready, lease.idle, lease.burst().__enter__, lambda: lease.resize("1GiB")):
        with pytest.raises(brim.StateError):
            use()
    lease.acquire()
    with pytest.raises(brim.StateError, match="held already"):
        lease.acquire()
    with lease.burst():
        lease.release()
    for use in (lease.ready, lease.idle, lease.burst().__enter__, lambda: lease.resize("1GiB")):
        with pytest.raises(brim.StateError):
            use()
    with lease:  # the same claim, once more
        assert lease.id


def test_more_is_refused_and_changes_nothing_less_is_granted(machine):
    with brim.lease("a", resident="4GiB") as lease:
        lease.ready()
        with pytest.raises(brim.Refused):
            lease.resize(resident="20GiB")
        assert machine.lease("a")["resident_bytes"] == 4 * GIB
        lease.resize(resident="1GiB")
        assert machine.lease("a")["resident_bytes"] == GIB
        with lease.burst():  # the refusal of before is not this burst's
            assert lease.state == "busy"


def test_decorators(machine):
    states = []
    with brim.lease("a", resident="1GiB", burst="1GiB") as lease:
        @lease.burst("1GiB")
        def answer(text, mark="!"):
            """Answers."""
            states.append(lease.state)
            return text + mark

        @brim.with_burst()
        def other():
            states.append(lease.state)

        assert answer("yes", mark="?") == "yes?" and answer.__doc__ == "Answers."
        other()
        assert states == ["busy", "busy"] and lease.state == "idle"
    with pytest.raises(brim.StateError):
        other()


def test_the_burst_of_a_generator_lasts_as_long_as_its_work(machine):
    """A server streams its answer after the call has returned."""
    with brim.lease("a", resident="1GiB", burst="1GiB") as lease:
        lease.ready()

        @lease.burst()
        def stream(count):
            for _ in range(count):
                yield lease.state
            return "end"

        items = stream(2)
        assert lease.state == "idle"  # nothing of it has run
        assert next(items) == "busy"
        with pytest.raises(brim.StateError, match="do not nest"):
            lease.burst().__enter__()
        items.close()
        assert lease.state == "idle"

        def outer():
            assert (yield from stream(1)) == "end"
        assert list(outer()) == ["busy"] and lease.state == "idle"


def test_whatever_can_be_called_can_be_decorated(machine):
    class Model:
        def __call__(self, text):
            return text, lease.state

        def method(self, text):
            return text, lease.state

    def plain(text):
        return text, lease.state

    with brim.lease("a", resident="1GiB", burst="1GiB") as lease:
        for function in (plain, Model(), Model().method):
            assert lease.burst()(function)("yes") == ("yes", "busy")
        assert lease.burst()(functools.partial(Model(), text="yes"))() == ("yes", "busy")
        assert lease.state == "idle"


def test_a_burst_waits_for_another_one_and_gives_up_in_time(machine):
    with brim.lease("a", resident="4GiB", burst="3GiB") as first, \
            brim.lease("b", resident="3GiB", burst="3GiB") as second:
        first.ready(), second.ready()
        with first.burst():
            with pytest.raises(brim.Refused):
                second.burst(max_wait=0.05).__enter__()
            entered = threading.Event()

            def work():
                with second.burst():
                    entered.set()

            thread = threading.Thread(target=work)
            thread.start()
            machine.events.wait(kind="burst_waiting", name="b")
            assert not entered.is_set()
        assert entered.wait(60)
        thread.join()


def test_a_trim_asks_the_callbacks_outside_bursts_and_one_that_raises_frees_nothing(
        machine, monkeypatch):
    reported, asked = [], threading.Event()
    monkeypatch.setattr(sys, "unraisablehook", reported.append)
    with brim.lease("holder", resident="4GiB") as lease:
        lease.ready()

        @lease.on_trim
        def broken(wanted_bytes):
            raise RuntimeError("no")

        @lease.on_trim
        def trim(wanted_bytes):
            lease.resize(resident="1GiB")  # every call is allowed in a callback
            asked.set()
            return 3 * GIB

        _client.request("/v1/trim", "POST", {"name": "holder"})
        assert asked.wait(60)
        machine.events.wait(kind="asked_trim", name="holder")
        assert machine.lease("holder")["resident_bytes"] == GIB
    assert [str(report.exc_value) for report in reported] == ["no"]


@pytest.mark.parametrize("what", ["trim", "stop"])
def test_a_callback_that_never_returns_keeps_nobody_from_working(machine, what):
    inside, end = threading.Event(), threading.Event()
    with brim.lease("holder", resident="4GiB", burst="1GiB") as lease:
        lease.ready()

        def callback(_):
            inside.set()
            end.wait()

        (lease.on_trim if what == "trim" else lease.on_stop)(callback)
        _client.request(f"/v1/{what}", "POST", {"name": "holder"})
        assert inside.wait(60)
        with lease.burst():
            assert lease.state == "busy"
        assert lease.id and lease.gpu
        lease.resize(resident="1GiB")
    machine.events.wait(kind="released", name="holder")
    end.set()


def test_a_stop_that_raises_is_reported_and_the_next_callback_is_told(machine, monkeypatch):
    reported, told = [], threading.Event()
    monkeypatch.setattr(sys, "unraisablehook", reported.append)
    with brim.lease("holder", resident="1GiB") as lease:
        lease.ready()
        lease.on_stop(lambda reason: 1 / 0)
        lease.on_stop(lambda reason: told.set())
        _client.request("/v1/stop", "POST", {"name": "holder"})
        assert told.wait(60) and lease.state == "idle"
        with pytest.raises(ZeroDivisionError):
            lease.on_stop(lambda reason: 1 / 0)  # asked already: said at once, to who registers it
    assert [type(report.exc_value) for report in reported] == [ZeroDivisionError]


def test_a_stop_is_told_once_and_remembered(machine):
    reasons, told = [], threading.Event()
    with brim.lease("holder", resident="1GiB") as lease:
        lease.ready()
        lease.on_stop(lambda reason: (reasons.append(reason), told.set()))
        assert machine.brim("stop", "holder").returncode == 0
        assert told.wait(60)
        assert lease.stop_reason == reasons[0]
    assert len(reasons) == 1


def test_a_lease_outlives_its_daemon(machine):
    with brim.lease("a", resident="1GiB", burst="1GiB") as lease:
        lease.ready()
        os.kill(machine.daemon_pid(), signal.SIGKILL)
        with lease.burst(max_wait=60):
            assert machine.lease("a")["id"] == lease.id


def test_a_release_cancels_the_wait_of_another_thread(machine):
    caught = []
    with brim.lease("a", resident="8GiB"):
        waiting = brim.lease("b", resident="8GiB")

        def wait():
            try:
                waiting.acquire()
            except brim.Error as error:
                caught.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        machine.events.wait(kind="queued", name="b")
        waiting.release()
        thread.join(60)
    assert [type(error) for error in caught] == [brim.Cancelled]


def test_many_threads_take_turns_with_one_lease(machine):
    turns, failures = [], []
    lock = threading.Lock()
    with brim.lease("a", resident="1GiB", burst="1GiB") as lease:
        lease.ready()

        def work():
            try:
                for _ in range(50):
                    with lock, lease.burst():
                        turns.append(lease.state)
                    assert lease.state in ("idle", "busy") and lease.id
            except Exception as error:
                failures.append(error)

        threads = [threading.Thread(target=work) for _ in range(8)]
        [thread.start() for thread in threads]
        [thread.join(120) for thread in threads]
    assert not failures and turns == ["busy"] * 400


def test_leases_come_and_go_without_the_garbage_collector(machine):
    """A descriptor that waits for it is one of a thousand that a process may have."""
    import gc
    gc.disable()
    try:
        counts = []
        for _ in range(30):
            with brim.lease("a", resident="1GiB", burst="1GiB") as lease, lease.burst():
                pass
            for thread in threading.enumerate():
                if thread.name == "brim a":
                    thread.join(60)
            counts.append(len(os.listdir("/proc/self/fd")))
    finally:
        gc.enable()
    assert counts[-1] <= counts[1], counts
