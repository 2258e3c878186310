# SPDX-License-Identifier: Apache-2.0
"""fork, spawn, kill, and a machine where Brim cannot be."""
import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

import brim

GIB = 1 << 30
HELD = """
import brim, sys
lease = brim.lease("victim", resident="2GiB", burst="1GiB", max_wait=60)
"""
# With the FAKE torch: the card itself holds half a GiB and a context.
LOADED = HELD + """
import asyncio, brim.torch, threading, torch
model = torch.zeros(1 << 27)
for_ever = threading.Event()
def stay(*_):
    print("in")
    for_ever.wait()
async def stay_async(*_):
    print("in")
    await asyncio.Event().wait()
def ask(what):
    from brim import _client
    _client.request("/v1/" + what, "POST", {"name": "victim"})
"""
INSIDE = {
    "a lease": "with lease: stay()",
    "a burst": "with lease, lease.burst(): stay()",
    "a decorated function": "with lease: lease.burst()(stay)()",
    "a generator's burst": (
        "with lease:\n"
        "    @lease.burst()\n"
        "    def work():\n"
        "        yield stay()\n"
        "    list(work())"),
    "an asynchronous burst": (
        "async def main():\n"
        "    async with lease, lease.burst(): await stay_async()\n"
        "asyncio.run(main())"),
    "a session": "with lease, brim.session(): stay()",
    "the end of the last session": (
        "with lease:\n"
        "    brim.torch.attach(lease)\n"
        "    torch.cuda.empty_cache = stay\n"
        "    with brim.session(): pass"),
    "the janitor": (
        "with lease:\n"
        "    brim.torch.attach(lease, idle_bytes='1MiB', idle_s=0.01)\n"
        "    torch.cuda.empty_cache = stay\n"
        "    work = torch.zeros(1 << 20); del work\n"
        "    for_ever.wait()"),
    "a trim": (
        "with lease:\n"
        "    lease.ready()\n"
        "    lease.on_trim(stay)\n"
        "    ask('trim')\n"
        "    for_ever.wait()"),
    "an asynchronous trim": (
        "async def main():\n"
        "    async with lease:\n"
        "        lease.ready()\n"
        "        lease.on_trim(stay)\n"
        "        await asyncio.get_running_loop().run_in_executor(None, ask, 'trim')\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())"),
    "a stop": (
        "with lease:\n"
        "    lease.ready()\n"
        "    lease.on_stop(stay)\n"
        "    ask('stop')\n"
        "    for_ever.wait()"),
    "a stage": "with brim.stage('victim', resident='2GiB'): stay()",
    "a stage's end": (
        "with brim.stage('victim', resident='2GiB') as s: s.keep(model, release=stay)"),
    "an asynchronous stage": (
        "async def main():\n"
        "    async with brim.stage('victim', resident='2GiB'): await stay_async()\n"
        "asyncio.run(main())"),
    "a second try after a full card": (
        "with lease:\n"
        "    brim.torch.attach(lease)\n"
        "    tries = []\n"
        "    @lease.burst()\n"
        "    def work():\n"
        "        tries.append(1)\n"
        "        stay() if len(tries) == 2 else torch.zeros(1 << 40)\n"
        "    work()"),
}


def wait_until_nothing_is_held(machine):
    """By the ledger and by the card itself. Each look waits for a program, and so for a while."""
    for _ in range(1000):
        told = machine.brim("emulate", "--stats").stdout
        if json.loads(told)["gpus"][0]["used_bytes"] == 0 and not machine.ps()["leases"]:
            return
    raise AssertionError(f"{told} {machine.ps()}")


@pytest.mark.parametrize("place", INSIDE)
def test_an_interpreter_that_is_killed_gives_everything_back(torch_script, place):
    machine = torch_script.machine
    victim = torch_script.start(LOADED + INSIDE[place])
    assert victim.stdout.readline() == "in\n"
    assert machine.lease("victim")
    victim.kill()
    machine.events.wait(kind="released", name="victim")
    wait_until_nothing_is_held(machine)


@pytest.mark.parametrize("place", ["with segment", "a flush", "between two segments"])
def test_a_worker_that_is_killed_loses_nothing(torch_script, short_dir, place):
    """Its batch starts another one, which does all of it."""
    machine = torch_script.machine
    (short_dir / "worker.py").write_text(
        "import brim, os, signal, sys, torch\n"
        f"place = {place!r}\n"
        "model = torch.zeros(1 << 27)\n"
        "def die(where):\n"
        "    if where == place and not os.path.exists('once'):\n"
        "        open('once', 'w').close()\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "brim.on_flush(lambda: die('a flush'))\n"
        "for segment in brim.segments():\n"
        "    with segment:\n"
        "        segment.burst()\n"
        "        open(segment.out, 'w').write(segment.input)\n"
        "        if segment.index == 2: die('with segment')\n"
        "    if segment.index == 2: die('between two segments')\n")
    (short_dir / "in.txt").write_text("".join(f"line {n}\n" for n in range(5)))
    done = machine.brim("batch", "run", "--name", "b", "--lines", "in.txt", "--out",
                        "out/${SEGMENT}", "--vram", "2GiB", "--burst", "1GiB", "--workers", "1",
                        "--flush-every", "2", "--", sys.executable, "worker.py", cwd=short_dir)
    assert done.returncode == 0 and (short_dir / "once").exists(), done.stdout + done.stderr
    assert [path.read_text() for path in sorted((short_dir / "out").iterdir())] \
        == [f"line {n}" for n in range(5)]
    wait_until_nothing_is_held(machine)


BLOCKS = {
    "a lease": "with brim.lease('a', **sizes): fail()",
    "a burst": "with brim.lease('a', **sizes) as lease, lease.burst(): fail()",
    "a function": "with brim.lease('a', **sizes) as lease: lease.burst()(fail)()",
    "a function with retry": (
        "with brim.lease('a', **sizes) as lease:\n"
        "    brim.torch.attach(lease)\n"
        "    lease.burst()(fail)()"),
    "a generator": (
        "with brim.lease('a', **sizes) as lease:\n"
        "    @lease.burst()\n"
        "    def work():\n"
        "        yield fail()\n"
        "    list(work())"),
    "a session": "with brim.lease('a', **sizes), brim.session(): fail()",
    "a stage": "with brim.stage('a', **sizes) as s: s.keep(torch.zeros(1 << 20)); fail()",
    "async with": (
        "async def main():\n"
        "    async with brim.lease('a', **sizes) as lease, lease.burst(), brim.session(): fail()\n"
        "asyncio.run(main())"),
    "an asynchronous stage": (
        "async def main():\n"
        "    async with brim.stage('a', **sizes) as s: s.keep(torch.zeros(1 << 20)); fail()\n"
        "asyncio.run(main())"),
}


@pytest.mark.parametrize("kind", ["KeyError", "KeyboardInterrupt", "SystemExit"])
def test_an_exception_leaves_every_block_as_it_is_and_ends_it(torch_script, kind):
    """One interpreter for all blocks: what one of them left would meet the next."""
    done = torch_script(f"KIND = {kind}\nBLOCKS = {BLOCKS!r}\n" + """
import asyncio, sys, time
import brim, brim.torch, torch
torch.zeros(1)
sizes = {"resident": "2GiB", "burst": "1GiB", "max_wait": 60}
def fail():
    raise KIND("its own")
for name, text in BLOCKS.items():
    try:
        exec(text, globals())
    except KIND as error:
        assert error.args == ("its own",), name
    else:
        print(name, "hid it")
    # The daemon may be asked on one socket before it has read of the end on the other.
    until = time.monotonic() + 60
    while any(lease["state"] != "draining" for lease in brim.ps()["leases"]):
        assert time.monotonic() < until, name
    assert not brim._lease._held and not brim._calls._living, name
    assert brim._session.session_count() == 0, name
print("all")
""")
    # Its status is not looked at: a KeyboardInterrupt that passed an exec() ends Python by SIGINT.
    assert done.stdout == "all\n" and "Traceback" not in done.stderr, done.stdout + done.stderr


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


USES = {"acquire": "brim.lease('a', resident='1GiB', max_wait=5).acquire()",
        "ps": "brim.ps()", "events": "next(brim.events())", "why": "brim.why('r1')",
        "stage": "brim.stage('a', resident='1GiB', max_wait=5).__enter__()"}


def a_file(path):
    path.write_text("")
    return path / "run"


def open_to_others(path):
    path.mkdir()
    path.chmod(0o777)
    return path


def too_long(path):
    return path / ("x" * 100)


NOT_HERE = {
    "cannot make /proc/nowhere": lambda path: "/proc/nowhere",
    "Not a directory": a_file,
    "is open to others (mode 0777); run: chmod 700": open_to_others,
    "at most 107 fit; set BRIM_RUNTIME_DIR to a shorter directory": too_long,
}


@pytest.mark.parametrize("said", NOT_HERE)
def test_no_daemon_and_no_right_to_start_one_is_said(bare, python_env, short_dir, said):
    done = bare.run(sys.executable, "-c", f"import brim\nfor use in {list(USES.values())!r}:\n"
                    "    try:\n        exec(use)\n"
                    "    except brim.NoDaemon as error:\n        print(error)\n",
                    env={**python_env, "BRIM_RUNTIME_DIR": str(NOT_HERE[said](short_dir / "d"))})
    lines = done.stdout.splitlines()
    assert len(lines) == len(USES) and all(said in line for line in lines), done


def test_a_library_without_its_daemon_says_that_the_installation_is_incomplete(
        bare, python_env, short_dir):
    shutil.copy(python_env["BRIM_LIB"], short_dir / "libbrim.so.0")
    done = bare.run(sys.executable, "-c", "import brim\n"
                    "try:\n    brim.lease('a', resident='1GiB', max_wait=5).acquire()\n"
                    "except brim.NoDaemon as error:\n    print(error)\n",
                    env={**python_env, "BRIM_LIB": str(short_dir / "libbrim.so.0"),
                         "PATH": "/usr/bin:/bin"})
    assert "the installation is incomplete" in done.stdout or "no gpu" in done.stderr, done


def test_ps_finds_no_program(bare, python_env, short_dir, monkeypatch):
    import brim._client as client
    for name, value in bare.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(client, "find_program", lambda: None)
    with pytest.raises(brim.NoDaemon, match="brim daemon start"):
        brim.ps()
