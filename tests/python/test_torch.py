# SPDX-License-Identifier: Apache-2.0
"""brim.torch and stages against a FAKE torch (fake/torch.py) on the emulated card: the driver's
numbers are the card's, the allocator is a hundred lines that behave as torch's does."""
import json
import subprocess
import sys
from pathlib import Path

FAKE = Path(__file__).parent / "fake"
MIB = 1 << 20
START = """
import json, subprocess, sys, threading
import brim, brim.torch
def torch_loaded():
    import torch
    return torch
def held():  # by the card itself, now: the daemon's figure may be a sample old
    told = subprocess.run(["brim", "emulate", "--stats"], stdout=subprocess.PIPE, check=True)
    return json.loads(told.stdout)["gpus"][0]["used_bytes"]
"""


def told(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_brim_torch_imports_no_torch(torch_script):
    done = torch_script("import brim.torch, sys; print(brim.torch.trim(), brim.torch.memory(), "
                        "'torch' in sys.modules)")
    assert done.stdout == "0 [] False\n", done.stderr


def test_nine_sessions_of_a_server_leave_the_card_as_the_first_one_did(torch_script):
    done = torch_script(START + """
import torch
with brim.lease("server", resident="2GiB", burst="4GiB") as lease:
    brim.torch.attach(lease, janitor=False)
    brim.torch.start_janitor(idle_s=3600)
    model = torch.zeros(1 << 28)  # 1 GiB
    lease.ready()
    levels = []
    for number in range(9):
        with brim.session():
            with lease.burst():
                work = torch.zeros((512 << 20) + (number << 20))
                del work
            assert brim.torch.pool_bytes() > 1 << 30
        levels.append(held())
    print(json.dumps(levels))
""")
    levels = told(done)
    assert len(levels) == 9 and max(levels) - levels[0] <= 64 * MIB and levels[0] < 1500 * MIB


def test_the_janitor_waits_for_quiet_and_for_the_last_session(torch_script):
    done = torch_script(START + """
import torch
janitor = brim.torch.Janitor(idle_bytes=512 << 20, idle_s=5.0)
steps = []
with brim.lease("server", resident="2GiB", burst="2GiB") as lease:
    lease.ready()
    work = torch.zeros(256 << 20); del work          # a pool of 1 GiB
    with brim.session():
        steps.append([janitor.look(1.0) for _ in range(8)])
    with lease.burst():
        steps.append([janitor.look(1.0) for _ in range(8)])
    steps.append([janitor.look(1.0) for _ in range(4)])
    work = torch.zeros(1 << 20); del work            # somebody works: it starts over
    steps.append([janitor.look(1.0) for _ in range(7)])
    work = torch.zeros(64 << 20); del work           # 256 MiB: too little to bother
    steps.append([janitor.look(1.0) for _ in range(8)])
print(json.dumps(steps))
""")
    steps = told(done)
    assert steps[0] == steps[1] == [0] * 8 and steps[2] == [0] * 4
    assert steps[3][:5] == [0] * 5 and steps[3][5] == 1 << 30 and steps[4] == [0] * 8


def test_a_trim_empties_the_pool_but_not_inside_a_session(torch_script):
    machine = torch_script.machine
    program = torch_script.start(START + """
import torch
with brim.lease("server", resident="3GiB") as lease:
    brim.torch.attach(lease, janitor=False)
    work = torch.zeros(512 << 20); del work          # a pool of 2 GiB
    lease.ready()
    asked = threading.Event()
    lease.on_trim(lambda wanted: asked.set())
    for line in sys.stdin:
        if line == "session\\n":
            with brim.session():
                print("in", flush=True); asked.wait(); asked.clear()
        else:
            print("out", flush=True); asked.wait(); asked.clear()
        print(brim.torch.pool_bytes(), held(), flush=True)
""", stdin=subprocess.PIPE)

    def trimmed(where):
        program.stdin.write(where + "\n")
        program.stdin.flush()
        program.stdout.readline()
        assert machine.brim("trim", "server").returncode == 0
        return [int(word) for word in program.stdout.readline().split()]

    pool, shown = trimmed("session")
    assert pool == 2 << 30 and shown > 2 << 30
    pool, shown = trimmed("idle")
    assert pool == 0 and shown < 1 << 30


def test_an_out_of_memory_in_a_burst_asks_the_neighbours_and_tries_once_more(torch_script):
    """The neighbour's claim covers what its pool holds; the card is full all the same, because
    this program takes more than it said."""
    machine = torch_script.machine
    neighbour = torch_script.start(START + """
import torch
with brim.lease("neighbour", resident="4GiB") as lease:
    brim.torch.attach(lease, janitor=False)
    work = torch.zeros(896 << 20); del work          # a pool of 3.5 GiB
    lease.ready()
    print("in", flush=True)
    sys.stdin.read()
""", stdin=subprocess.PIPE)
    assert neighbour.stdout.readline() == "in\n"
    done = torch_script(START + """
import torch
calls = []
with brim.lease("server", resident="3GiB", burst="3GiB") as lease:
    brim.torch.attach(lease, janitor=False)

    @lease.burst()
    def answer(floats):
        calls.append(lease.state)
        return torch.zeros(floats) and "answered"

    print(answer(int(2.2 * (1 << 30))))              # 8.8 GiB
    try:
        answer(1 << 33)
    except torch.cuda.OutOfMemoryError as error:
        print("gave up after", len(calls))
    with lease.burst():
        print(brim.torch.retry(lambda: "fine"))
    try:
        with lease.burst():
            brim.torch.retry(lambda: 1 / 0)
    except ZeroDivisionError:
        print("not ours", lease.state)
""")
    assert done.stdout.splitlines() == ["answered", "gave up after 4", "fine", "not ours idle"], \
        done.stdout + done.stderr
    machine.events.wait(kind="asked_trim", name="neighbour")


def test_out_of_memory_in_a_coroutine_leaves_the_loop_its_other_work(torch_script):
    done = torch_script(START + """
import asyncio, torch
async def main():
    turns, calls = [], []
    async def turn():
        while True:
            turns.append(1)
            await asyncio.sleep(0)
    real = brim.torch._ask_neighbours
    def ask():                                       # as long as the loop needs for five turns
        before = len(turns)
        while len(turns) < before + 5: pass
        real()
    brim.torch._ask_neighbours = ask
    async with brim.lease("server", resident="3GiB", burst="3GiB") as lease:
        brim.torch.attach(lease, janitor=False)
        @lease.burst()
        async def answer(floats):
            calls.append(lease.state)
            if len(calls) < 2:
                torch.zeros(floats)
            return "answered"
        turning = asyncio.ensure_future(turn())
        print(await answer(1 << 33), calls, lease.state)
        turning.cancel()
asyncio.run(main())
""")
    assert done.stdout == "answered ['busy', 'busy'] idle\n", done.stderr


STAGES = START + """
import torch
lines = []
class Module:
    def __init__(self, gib):
        self.weights = [torch.zeros(1 << 28) for _ in range(gib)]
    def cpu(self):
        for weight in self.weights:
            weight.cpu()
"""


def test_stages_come_one_after_the_other_and_leave_nothing(torch_script):
    """Three of 9 GiB each through a card of 12."""
    done = torch_script(STAGES + """
for name in ("encoder", "transformer", "decoder"):
    with brim.stage(name, resident="10GiB", max_wait=60, say=lines.append) as s:
        module = s.keep(Module(9))
    assert s.left_bytes == 0 and s.released_bytes == 9 << 30, (s.left_bytes, s.released_bytes)
print(json.dumps(lines))
""")
    lines = told(done)
    assert [line.split(",")[0] for line in lines] == [
        "encoder: released 9.00 GiB", "transformer: released 9.00 GiB",
        "decoder: released 9.00 GiB"]
    assert all(", 0 left, " in line for line in lines)
    leases = torch_script.machine.ps()["leases"]
    assert [lease for lease in leases if lease["state"] != "draining"] == []


def test_a_stage_gives_up_in_every_way_out_and_names_what_it_leaves(torch_script):
    done = torch_script(STAGES + """
class Stuck(Module):
    def cpu(self):
        raise RuntimeError("pinned")
def work():
    local = torch.zeros(1 << 28)                     # only a frame of the traceback holds it
    raise KeyError("boom")
try:
    with brim.stage("fails", resident="4GiB", say=lines.append) as s:
        s.keep(Module(1))
        work()
except KeyError:
    lines.append(s.left_bytes)
with brim.stage("leaks", resident="4GiB", say=lines.append) as s:
    module = Module(1)                               # not kept: it stays
    s.keep(Stuck(0))
lines.append(s.left_bytes)
with brim.stage("frees", resident="4GiB", say=lines.append) as s:
    s.keep(object(), release=lambda: module.cpu())
print(json.dumps(lines))
""")
    lines = told(done)
    assert lines[0].startswith("fails: released 2.00 GiB, 0 left") and lines[1] == 0
    assert "leaks: released 0, 1.00 GiB left" in lines[2] and "Stuck: pinned" in lines[2]
    assert lines[3] == 1 << 30
    assert lines[4].startswith("frees: released 1.00 GiB")
    event = torch_script.machine.events.wait(kind="noted")
    assert 'the stage "leaks"' in event["text"] and "1.00 GiB left" in event["text"]


def test_a_stage_that_starts_cuda_says_that_its_context_stays(torch_script):
    done = torch_script("import brim\n"
                        "with brim.stage('first', resident='2GiB', say=print) as s:\n"
                        "    import torch; s.keep(torch.zeros(1 << 28))\n"
                        "assert s.left_bytes == 256 << 20\n")
    assert "256 MiB left" in done.stdout and "the CUDA context is in" in done.stdout, done.stderr


def test_without_torch_a_stage_is_a_lease(script):
    done = script("import brim, sys\n"
                  "with brim.stage('plain', resident='1GiB', say=print) as s:\n"
                  "    assert s.lease.state == 'loading'\n"
                  "print('torch' in sys.modules, s.lease.state)\n")
    assert done.stdout.splitlines()[1:] == ["False released"], done.stderr
    assert done.stdout.startswith("plain: released 0, 0 left")


def test_a_stage_for_which_there_is_no_room_does_not_begin(script):
    done = script("import brim\n"
                  "try:\n"
                  "    with brim.stage('huge', resident='40GiB'): print('never')\n"
                  "except brim.NeverFits: print('refused')\n")
    assert done.stdout == "refused\n", done.stderr


def test_memory_tells_torchs_view_and_the_drivers(torch_script):
    done = torch_script(START + """
import torch
with brim.lease("server", resident="3GiB") as lease:
    model = torch.zeros(1 << 28); work = torch.zeros(1 << 28); del work
    print(json.dumps(brim.torch.memory()))
""")
    (gpu,) = told(done)
    assert gpu["allocated_bytes"] == 1 << 30 and gpu["reserved_bytes"] == 2 << 30
    assert gpu["driver_bytes"] == (2 << 30) + 256 * MIB


def test_a_session_is_async_too(script):
    done = script("import asyncio, brim\n"
                  "from brim import _session\n"
                  "async def main():\n"
                  "    async with brim.session():\n"
                  "        print(_session.session_count())\n"
                  "asyncio.run(main()); print(_session.session_count())\n")
    assert done.stdout == "1\n0\n", done.stderr


def test_an_asynchronous_stage_leaves_the_loop_its_other_work(torch_script):
    """Also one that is cancelled while it gives up: it ends when the memory is back."""
    done = torch_script(STAGES + """
import asyncio
class Slow(Module):
    def cpu(self):
        asyncio.run_coroutine_threadsafe(turns(5), loop).result(60)  # the loop turns meanwhile
        super().cpu()
async def turns(count):
    for _ in range(count):
        await asyncio.sleep(0)
async def work(error=None):
    async with brim.stage("a", resident="4GiB", say=lines.append) as s:
        s.keep(Slow(1))
        if error:
            raise error
async def main():
    global loop
    loop = asyncio.get_running_loop()
    await work()
    try:
        await work(KeyError("boom"))
    except KeyError:
        lines.append("its own error")
    task = asyncio.ensure_future(work())
    while not brim._lease._held:
        await asyncio.sleep(0.001)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        lines.append("cancelled")
    lines.append(str(held() >> 30))
asyncio.run(main())
print(json.dumps(lines))
""")
    lines = [line.split(",")[0] for line in told(done)]
    assert lines[:3] == ["a: released 1.00 GiB", "a: released 1.00 GiB", "its own error"]
    assert lines[-2:] == ["cancelled", "0"]


def test_nothing_that_goes_wrong_at_a_stages_end_hides_the_blocks_own_error(torch_script):
    done = torch_script(STAGES + """
def broken(text):
    raise BrokenPipeError("nobody reads this")
try:
    with brim.stage("a", resident="4GiB", say=broken) as s:
        s.keep(Module(1))
        s.keep(object(), release=lambda: 1 / 0)
        real, torch.cuda.empty_cache = torch.cuda.empty_cache, lambda: 1 / 0
        raise KeyError("boom")
except KeyError as error:
    torch.cuda.empty_cache = real
    print(error, s.lease.state)
real()
try:
    with brim.lease("b", resident="1GiB") as lease:
        brim.torch.attach(lease)
        torch.cuda.empty_cache = lambda: 1 / 0
        torch.zeros(1)
        with brim.session():
            raise KeyError("boom")
except KeyError as error:
    print(error, lease.state)
""")
    assert done.stdout == "'boom' released\n'boom' released\n", done.stderr
    assert "nobody reads this" in done.stderr and "the last brim.session()" in done.stderr
    event = torch_script.machine.events.wait(kind="noted")
    assert "given up: object: division by zero; torch.cuda.empty_cache" in event["text"]


def test_a_forked_child_has_no_session_and_no_janitor_of_its_parents(torch_script):
    done = torch_script("""
import brim, brim.torch, os
brim.torch.start_janitor()
with brim.session(), brim.session():
    child = os.fork()
    if child == 0:
        print(brim._session.session_count(), brim.torch._janitor)
    else:
        os.waitpid(child, 0)
        print(brim._session.session_count(), brim.torch._janitor is not None)
if child == 0:
    with brim.session():
        print(brim._session.session_count())
    brim.torch.start_janitor()
    print(brim._session.session_count(), brim.torch._janitor is not None, flush=True)
    os._exit(0)
""")
    assert done.stdout.splitlines() == ["0 None", "1", "0 True", "2 True"], done.stderr


def test_the_granted_gpu_is_named_as_torch_counts_it(start_emulator, python_env):
    """And a stage starts CUDA there, not on the first one."""
    machine = start_emulator(gpu=["rtx4070ti", "rtx4090"])
    path = f"{python_env['PYTHONPATH']}:{FAKE}"
    done = machine.run(sys.executable, "-c", """
import brim, brim.torch, torch
from types import SimpleNamespace
uuids = [gpu["uuid"][4:] for gpu in brim.ps()["gpus"]]
with brim.lease("old", resident="1GiB", gpu=1) as lease:
    print(brim.torch.devices(lease))                 # a torch that tells no UUIDs
order = [1, 0]                                       # as CUDA_VISIBLE_DEVICES may turn them
torch.cuda.device_count = lambda: 2
torch.cuda.get_device_properties = lambda gpu: SimpleNamespace(uuid=uuids[order[gpu]])
for gpu in ("0", "1", "0,1"):
    with brim.lease("new", resident="1GiB", gpu=gpu) as lease:
        print(brim.torch.devices(lease))
zeros, asked = torch.zeros, []
torch.zeros = lambda count, device: asked.append(device) or zeros(count)
with brim.stage("s", resident="1GiB", gpu=1): pass
print(asked)
""", env={**python_env, "PYTHONPATH": path})
    assert done.stdout.splitlines() == ["['cuda']", "['cuda:1']", "['cuda:0']",
                                        "['cuda:0', 'cuda:1']", "['cuda:0']"], done.stderr
