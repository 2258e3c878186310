# SPDX-License-Identifier: Apache-2.0
"""fork, spawn, kill, and a machine where Brim cannot be."""
import os
import signal
import subprocess
import sys

import pytest

import brim

HELD = """
import brim, sys
lease = brim.lease("victim", resident="2GiB", burst="1GiB", max_wait=60)
"""
INSIDE = {
    "a lease": "with lease:\n    print('in'); sys.stdin.read()",
    "a burst": "with lease, lease.burst():\n    print('in'); sys.stdin.read()",
    "a trim that never returns": (
        "with lease:\n    lease.ready()\n"
        "    lease.on_trim(lambda wanted: (print('in'), sys.stdin.read()))\n"
        "    from brim import _client\n"
        "    _client.request('/v1/trim', 'POST', {'name': 'victim'})\n"
        "    __import__('threading').Event().wait()"),
    "an async burst": (
        "import asyncio\n"
        "async def main():\n"
        "    async with lease, lease.burst():\n"
        "        print('in'); await asyncio.Event().wait()\n"
        "asyncio.run(main())"),
    "a stage": ("with brim.stage('victim', resident='2GiB'):\n    print('in'); sys.stdin.read()"),
}


@pytest.mark.parametrize("place", INSIDE)
def test_an_interpreter_that_is_killed_gives_everything_back(script, place):
    victim = script.start(HELD + INSIDE[place], stdin=subprocess.PIPE)
    assert victim.stdout.readline() == "in\n"
    assert script.machine.lease("victim")
    victim.kill()
    script.machine.events.wait(kind="released", name="victim")
    assert script.machine.lease("victim") is None


def test_one_that_is_killed_while_it_waits_waits_no_longer(script):
    first = script.start("import brim, sys\nwith brim.lease('first', resident='9GiB'):\n"
                         "    print('in'); sys.stdin.read()", stdin=subprocess.PIPE)
    assert first.stdout.readline() == "in\n"
    victim = script.start("import brim; brim.lease('victim', resident='9GiB').acquire()")
    script.machine.events.wait(kind="queued", name="victim")
    victim.kill()
    script.machine.events.wait(kind="released", name="victim")


@pytest.mark.parametrize("wait", ["lease.acquire()", "with other, other.burst(): pass"])
def test_ctrl_c_ends_a_wait(script, wait):
    machine = script.machine
    first = script.start("import brim, sys\n"
                         "with brim.lease('first', resident='4GiB', burst='4GiB') as lease:\n"
                         "    with lease.burst():\n        print('in'); sys.stdin.read()",
                         stdin=subprocess.PIPE)
    assert first.stdout.readline() == "in\n"
    waiter = script.start("import brim\n"
                          "lease = brim.lease('waiter', resident='9GiB')\n"
                          "other = brim.lease('waiter', resident='3GiB', burst='4GiB')\n"
                          "try:\n    " + wait + "\n"
                          "except KeyboardInterrupt:\n    print('stopped')\n")
    kind = "queued" if "acquire" in wait else "burst_waiting"
    machine.events.wait(kind=kind, name="waiter")
    waiter.send_signal(signal.SIGINT)
    assert waiter.communicate(timeout=60)[0] == "stopped\n" and waiter.returncode == 0


def test_a_signal_handler_may_release(script):
    done = script(HELD + "import os, signal\n"
                  "signal.signal(signal.SIGUSR1, lambda *_: lease.release())\n"
                  "lease.acquire(); lease.ready()\n"
                  "try:\n"
                  "    for n in range(2000):\n"
                  "        if n == 1000: os.kill(os.getpid(), signal.SIGUSR1)\n"
                  "        with lease.burst(): pass\n"
                  "except (brim.StateError, brim.Cancelled) as error:\n    print(n, lease.state)\n")
    assert done.stdout in ("1000 released\n", "1001 released\n"), done.stderr


FORK = HELD + """
import os
with lease, lease.burst():
    child = os.fork()
    if child == 0:
        try:
            lease.resize("1GiB")
        except brim.Error as error:
            print(type(error).__name__, error)
        lease.release()
        try:
            brim.current()
        except brim.StateError:
            print("none")
        with brim.lease("child", resident="1GiB", burst="1GiB") as own, own.burst():
            print(own.state, sorted(l["name"] for l in brim.ps()["leases"]))
        sys.stdout.flush()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    print(lease.state, [l["name"] for l in brim.ps()["leases"] if l["state"] == "busy"])
"""


def test_a_forked_child_has_no_lease_but_may_take_one(script):
    done = script(FORK)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("Forked this lease belongs to the parent process"), done.stderr
    assert lines[1:] == ["none", "busy ['child', 'victim']", "busy ['victim']"]


def test_a_child_that_leaves_the_parents_blocks_harms_nobody(script):
    done = script(HELD + "import os\n"
                  "with lease:\n"
                  "    with lease.burst():\n"
                  "        child = os.fork()\n"
                  "    if child:\n"
                  "        assert os.waitpid(child, 0)[1] == 0\n"
                  "        print(lease.state, brim.ps()['leases'][0]['state'])\n")
    assert done.stdout == "idle idle\n", done.stderr


MULTIPROCESSING = HELD + """
import multiprocessing, os

def item(number):
    try:
        lease.acquire() if os.environ.get("BRIM_TEST_OWN") else brim.current()
    except brim.Error as error:
        return type(error).__name__
    return "held"

if __name__ == "__main__":
    with lease:
        # As DataLoader does it: worker processes that outlive many items, beside a busy lease.
        with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool, lease.burst():
            print(sorted(set(pool.map(item, range(20)))), lease.state)
    print(lease.state)
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_worker_processes_live_beside_a_lease(script, short_dir, method):
    program = short_dir / "loader.py"
    program.write_text(MULTIPROCESSING)
    done = script.machine.run(sys.executable, program, method)
    assert done.stdout == "['StateError'] busy\nreleased\n", done.stderr


def test_the_lease_of_a_dead_parent_ends_although_its_child_lives(script):
    parent = script.start(HELD + "import os\n"
                          "lease.acquire()\n"
                          "if os.fork() == 0:\n    sys.stdin.read(); os._exit(0)\n"
                          "print('in'); sys.stdin.read()", stdin=subprocess.PIPE)
    assert parent.stdout.readline() == "in\n"
    os.kill(parent.pid, signal.SIGKILL)
    script.machine.events.wait(kind="released", name="victim")


def test_an_exit_without_release_is_a_release(script):
    assert script(HELD + "lease.acquire(); lease.burst().__enter__()").returncode == 0
    script.machine.events.wait(kind="released", name="victim")


def test_no_gpu_is_a_refusal(bare, python_env):
    done = bare.run(sys.executable, "-c", "import brim\n"
                    "try:\n    brim.lease('a', resident='1GiB', max_wait=0).acquire()\n"
                    "except brim.Refused as error:\n    print(error)\n", env=python_env)
    assert "gpu" in done.stdout.lower() or "driver" in done.stdout.lower(), done.stderr


@pytest.mark.parametrize("use", ["brim.lease('a', resident='1GiB', max_wait=5).acquire()",
                                 "brim.ps()"])
def test_no_daemon_and_no_way_to_start_one_is_said(bare, python_env, short_dir, build_dir, use):
    """The library alone, and a runtime directory that cannot be made."""
    done = bare.run(sys.executable, "-c", f"import brim\ntry:\n    {use}\n"
                    "except brim.NoDaemon as error:\n    print(error)\n",
                    env={**python_env, "BRIM_RUNTIME_DIR": "/proc/nowhere"})
    assert done.stdout.strip() and "Traceback" not in done.stderr, done.stderr


def test_ps_finds_no_program(bare, python_env, short_dir, monkeypatch):
    import brim._client as client
    for name, value in bare.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(client, "find_program", lambda: None)
    with pytest.raises(brim.NoDaemon, match="brim daemon start"):
        brim.ps()
