# SPDX-License-Identifier: Apache-2.0
"""PyTorch with CUDA on a real GPU, under Brim: what NVML shows, not what torch says.

These same tests run in `make check` on the emulated card with a FAKE torch (tests/python's
test_gpu_tests.py), so that only the hardware is new to them:
    BRIM_FAKE_TORCH=torch build/brim emulate --gpu rtx4070ti -- \\
        .venv/bin/python -m pytest tests/gpu/test_torch.py
"""
import json
import os
import subprocess

import pytest

MIB = 1 << 20
SLACK_BYTES = 64 * MIB

# A model and a request. With the real torch both are real work, so that CUDA loads its kernels and
# cuBLAS takes its workspaces; the fake has tensors and nothing else.
START = """
import json, sys
import brim, brim.torch, torch
try:
    from torch import nn
except ImportError:
    nn = None

def load():  # 512 MiB
    if nn is None:
        return torch.zeros(1 << 27, device="cuda")
    return nn.Sequential(nn.Linear(8192, 8192), nn.ReLU(), nn.Linear(8192, 8192)).to("cuda")

def answer(model, size):
    if nn is not None:
        with torch.inference_mode():
            model(torch.zeros(64, 8192, device="cuda")).sum().item()
    work = [torch.zeros(size // 4 // parts, device="cuda") for parts in (2, 3, 6)]
    del work

def say(*what):
    print(json.dumps(what), flush=True)
    if not sys.stdin.readline():
        sys.exit(0)
"""


@pytest.fixture
def nvml(torch_machine):
    try:
        import pynvml
    except ImportError:
        torch_machine.missing("no pynvml: pip install nvidia-ml-py")
    pynvml.nvmlInit()
    yield pynvml
    pynvml.nvmlShutdown()


def used_bytes(nvml, pid):
    """What NVML shows for this process; for the whole card where it does not tell, or knows the
    process by another number (a container)."""
    whole = 0
    for index in range(nvml.nvmlDeviceGetCount()):
        device = nvml.nvmlDeviceGetHandleByIndex(index)
        for process in nvml.nvmlDeviceGetComputeRunningProcesses(device):
            if process.pid == pid and process.usedGpuMemory is not None:
                return process.usedGpuMemory
        whole += nvml.nvmlDeviceGetMemoryInfo(device).used
    return whole


class Guest:
    """A program that says something, waits for a line, and goes on."""

    def __init__(self, machine, text, *arguments):
        self._process = machine.spawn(machine.python, "-u", "-c",
                                      machine.before + START + text, *arguments, stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE)
        self.pid = self._process.pid

    def hear(self):
        line = self._process.stdout.readline()
        assert line, f"the program ended with {self._process.wait(60)}"
        return json.loads(line)

    def go_on(self):
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def ends_well(self):
        self.go_on()
        assert self._process.wait(60) == 0


SERVER = """
with brim.lease("server", resident="2GiB", burst="4GiB", max_wait=0) as lease:
    brim.torch.attach(lease, janitor=False)
    brim.torch.start_janitor(idle_s=3600)         # the end of the last session, not the clock
    model = load()
    lease.ready()
    for number in range(9):
        with brim.session():
            with lease.burst():
                answer(model, (1024 + 160 * number) << 20)
            say("inside")
        say("after")
"""


def test_nine_sessions_of_a_server_return_to_the_first_ones_level(torch_machine, nvml):
    server = Guest(torch_machine, SERVER)
    inside, after = [], []
    for _ in range(9):
        for levels in (inside, after):
            server.hear()
            levels.append(used_bytes(nvml, server.pid))
            if len(after) < 9:
                server.go_on()
    server.ends_well()
    assert all(level - after[0] > 512 * MIB for level in inside), (inside, after)
    assert all(abs(level - after[0]) <= SLACK_BYTES for level in after), (inside, after)


STAGE = """
lines = []
for _ in range(2):                                # the first one loads CUDA's kernels, which stay
    with brim.stage("encoder", resident="2GiB", burst="2GiB", max_wait=0, say=lines.append) as s:
        model = s.keep(load())
        answer(model, 1024 << 20)
        say("inside")
    say(s.released_bytes, s.left_bytes, lines[-1])
"""


def test_a_stage_leaves_nothing(torch_machine, nvml):
    pipeline = Guest(torch_machine, STAGE)
    levels, told = [], []
    for _ in range(2):
        pipeline.hear()
        inside = used_bytes(nvml, pipeline.pid)
        pipeline.go_on()
        told.append(pipeline.hear())
        levels.append(used_bytes(nvml, pipeline.pid))
        assert inside - levels[-1] > 512 * MIB
        if len(levels) < 2:
            pipeline.go_on()
    pipeline.ends_well()
    released, left, line = told[1]
    assert released >= 512 * MIB and left == 0 and ", 0 left, " in line, told
    assert levels[1] <= levels[0], (levels, told)


NEIGHBOUR = """
with brim.lease("neighbour", resident=int(sys.argv[1]) + (1 << 30), max_wait=0) as lease:
    brim.torch.attach(lease, janitor=False)
    work = torch.zeros(int(sys.argv[1]) // 4, device="cuda"); del work
    lease.ready()
    say("in", brim.torch.pool_bytes())
"""
GREEDY = """
calls = []
with brim.lease("greedy", resident="1GiB", burst="1GiB", max_wait=0) as lease:
    brim.torch.attach(lease, janitor=False)

    @lease.burst()
    def take(size):
        calls.append(size)
        return bool(torch.zeros(size // 4, device="cuda") is not None)

    is_done = take(int(sys.argv[1]))              # does not fit beside the neighbour's pool
    first = len(calls)
    try:
        take(1 << 44)
        error = None
    except torch.cuda.OutOfMemoryError as failure:
        error = type(failure).__name__
    say(is_done, first, error, lease.state)
    take(1 << 28)                                 # the next request finds all in order
    say(lease.state)
"""


def test_out_of_memory_in_a_burst_is_survived(torch_machine, nvml):
    gpus = json.loads(torch_machine.brim("ps", "--json").stdout)["gpus"]
    capacity = gpus[0]["capacity_bytes"]
    if len(gpus) > 1 or gpus[0]["used_bytes"] > capacity // 10:
        torch_machine.missing("needs one GPU, nine tenths of it free; in use are, in bytes: "
                              + ", ".join(str(gpu["used_bytes"]) for gpu in gpus))
    neighbour = Guest(torch_machine, NEIGHBOUR, capacity * 4 // 10)
    assert neighbour.hear()[1] >= capacity * 39 // 100
    before = used_bytes(nvml, neighbour.pid)
    greedy = Guest(torch_machine, GREEDY, capacity * 7 // 10)
    is_done, calls, error, state = greedy.hear()
    # Twice where torch's first try failed; once where the daemon had seen it coming.
    assert is_done and calls in (1, 2) and error == "OutOfMemoryError" and state == "idle"
    assert used_bytes(nvml, neighbour.pid) < before  # the neighbour has given its pool back
    greedy.go_on()
    assert greedy.hear() == ["idle"]
    greedy.ends_well()
    neighbour.ends_well()


def test_the_torch_of_this_run_is_named(torch_machine, record_property):
    done = torch_machine.run(torch_machine.python, "-c", "import torch\n"
                             "print(getattr(torch, '__version__', ''))")
    fake, is_emulated = os.environ.get("BRIM_FAKE_TORCH"), "BRIM_EMULATED" in os.environ
    record_property("told", f"torch: {done.stdout.strip()}" + (f" (FAKE {fake})" if fake else "")
                    + (" on an EMULATED card" if is_emulated else ""))
    assert done.returncode == 0, done.stderr
