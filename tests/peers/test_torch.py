# SPDX-License-Identifier: Apache-2.0
"""brim.torch and stages with the real PyTorch from PyPI: its modules, its errors, its DataLoader.

Where a test needs a gpu it has a FAKE torch.cuda (cuda_of_torch.py) on the emulated card: when a
tensor's memory is free is torch's own business, what the driver shows is the card's.
"""
import json
import subprocess
import sys
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]
MIB = 1 << 20
START = """
import json, subprocess, sys, threading
import brim, brim.torch
from torch import nn

def held():  # by the card itself, now
    told = subprocess.run(["brim", "emulate", "--stats"], stdout=subprocess.PIPE, check=True)
    return json.loads(told.stdout)["gpus"][0]["used_bytes"]

def model():  # 256 MiB
    return nn.Sequential(nn.Linear(4096, 8192), nn.ReLU(), nn.Linear(8192, 4096, bias=False))
"""


def told(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# -- a program that is not ours to edit

def test_the_janitor_comes_with_torch_and_without_a_word(script):
    done = script.machine.brim(
        "run", "--vram", "2GiB", "--python-janitor", "--", sys.executable, "-W", "error", "-c", """
import importlib.util, sys, threading
assert importlib.util.find_spec("torch") and "torch" not in sys.modules
import torch
print([t.name for t in threading.enumerate()], torch._C._accelerator_getAllocatorSettings())
module = torch.nn.Linear(8, 8)
print(module(torch.ones(8)).shape)
""", env={"PYTHONPATH": ""})
    assert done.stdout == ("['MainThread', 'brim janitor'] expandable_segments:True\n"
                           "torch.Size([8])\n"), done.stderr
    assert done.stderr == ""


def test_without_a_gpu_all_of_it_does_nothing(bare, python_env):
    done = bare.run(sys.executable, "-c", """
import torch, brim, brim.torch
print(brim.torch.pool_bytes(), brim.torch.trim(), brim.torch.memory())
print(brim.torch.start_janitor().look(5.0), torch.cuda.is_initialized())
""", env=python_env)
    assert done.stdout == "0 0 []\n0 False\n", done.stderr


# -- janitor, stages and flushes with real modules

def test_nine_sessions_of_a_server_leave_the_card_as_the_first_one_did(cuda_script):
    done = cuda_script(START + """
with brim.lease("server", resident="2GiB", burst="4GiB") as lease:
    brim.torch.attach(lease, janitor=False)
    brim.torch.start_janitor(idle_s=3600)
    served = model().cuda().eval()
    lease.ready()
    levels = []
    for number in range(9):
        with brim.session(), torch.inference_mode():
            with lease.burst():
                rows = 64 + number
                answer = served(torch.zeros(rows, 4096, device="cuda"))
                work = torch.zeros(rows << 20, device="cuda")
                del work
            assert brim.torch.pool_bytes() > 256 << 20, brim.torch.pool_bytes()
        levels.append(held())
    print(json.dumps(levels))
""")
    levels = told(done)
    assert len(levels) == 9 and max(levels) - levels[0] <= 64 * MIB and levels[0] < 1024 * MIB


def test_the_janitor_waits_for_quiet_and_for_the_last_session(cuda_script):
    done = cuda_script(START + """
janitor = brim.torch.Janitor(idle_bytes=512 << 20, idle_s=5.0)
steps = []
with brim.lease("server", resident="2GiB", burst="2GiB") as lease:
    lease.ready()
    work = torch.zeros(256 << 20, device="cuda"); del work          # a pool of 1 GiB
    with brim.session():
        steps.append([janitor.look(1.0) for _ in range(8)])
    with lease.burst():
        steps.append([janitor.look(1.0) for _ in range(8)])
    steps.append([janitor.look(1.0) for _ in range(4)])
    work = torch.zeros(1 << 20, device="cuda"); del work            # somebody works
    steps.append([janitor.look(1.0) for _ in range(7)])
print(json.dumps(steps))
""")
    steps = told(done)
    assert steps[0] == steps[1] == [0] * 8 and steps[2] == [0] * 4
    assert steps[3][:5] == [0] * 5 and steps[3][5] == 1 << 30


def test_stages_move_their_modules_and_leave_nothing(cuda_script):
    """Also what only an autograd graph, a traceback's frame, or a cycle still holds."""
    done = cuda_script(START + """
lines, modules = [], []
def fails(module):
    batch = torch.zeros(64, 4096, device="cuda")
    loss = module(batch).sum()                       # the graph holds batch and the weights
    raise KeyError("boom")
for name in ("encoder", "transformer", "decoder"):
    try:
        with brim.stage(name, resident="2GiB", max_wait=60, say=lines.append) as s:
            module = s.keep(model().cuda())
            module.itself = [module]                 # a cycle
            modules.append(module)
            if name == "transformer":
                fails(module)
            result = module(torch.zeros(64, 4096, device="cuda")).detach().cpu()
    except KeyError:
        lines.append("boom")
    assert s.left_bytes == 0 and s.released_bytes >= 256 << 20, (s.left_bytes, s.released_bytes)
    assert {parameter.device.type for parameter in module.parameters()} == {"cpu"}
assert modules[0](torch.ones(1, 4096)).shape == (1, 4096)   # on the host it still works
print(json.dumps(lines))
""")
    lines = told(done)
    assert [line.split(": released ")[0] for line in lines] == ["encoder", "transformer", "boom",
                                                                "decoder"]
    assert [", 0 left, " in line for line in lines] == [True, True, False, True]


def test_what_a_stage_was_not_told_to_keep_is_told(cuda_script):
    done = cuda_script(START + """
lines = []
with brim.stage("leaks", resident="2GiB", say=lines.append) as s:
    s.keep(nn.Linear(8, 8).cuda())
    module = model().cuda()
print(json.dumps(lines + [s.left_bytes]))
""")
    lines = told(done)
    assert 256 * MIB <= lines[1] < 264 * MIB and f"{lines[1] // MIB} MiB left" in lines[0]
    event = cuda_script.machine.events.wait(kind="noted")
    assert 'the stage "leaks"' in event["text"]


def test_a_flush_moves_modules_to_the_host_and_back(cuda_script):
    done = cuda_script(START + """
from brim import _worker
first, second = model().cuda(), nn.Linear(4096, 4096)  # the second one stays on the host
seen = []
real = torch.cuda.empty_cache
torch.cuda.empty_cache = lambda: (real(), seen.append(held()))
brim.torch.flush(first, second)
before = [parameter.clone().cpu() for parameter in first.parameters()]
work = torch.zeros(128 << 20, device="cuda"); del work
assert _worker._flush(None, None) == 0
same = all(torch.equal(a, b.cpu()) for a, b in zip(before, first.parameters()))
print(json.dumps([seen[0] >> 20, held() >> 20, same,
                  next(first.parameters()).device.type, next(second.parameters()).device.type]))
""")
    emptied, after, is_same, *devices = told(done)
    assert emptied <= 258 and 512 <= after < 600  # the context alone; the model beside it
    assert is_same and devices == ["cuda", "cpu"]


# -- out of memory

def test_torchs_own_error_in_a_burst_asks_the_neighbours_and_tries_once_more(cuda_script):
    neighbour = cuda_script.start(START + """
with brim.lease("neighbour", resident="4GiB") as lease:
    brim.torch.attach(lease, janitor=False)
    work = torch.zeros(896 << 20, dtype=torch.float32, device="cuda"); del work  # 3.5 GiB
    lease.ready()
    print("in", flush=True)
    sys.stdin.read()
""", stdin=subprocess.PIPE)
    assert neighbour.stdout.readline() == "in\n"
    done = cuda_script(START + """
calls = []
assert torch.cuda.OutOfMemoryError.__module__ == "torch"   # not a fake's
with brim.lease("server", resident="3GiB", burst="3GiB") as lease:
    brim.torch.attach(lease, janitor=False)
    served = model().cuda()

    @lease.burst()
    def answer(floats):
        calls.append(lease.state)
        work = torch.empty(0)
        work = torch.zeros(floats, device="cuda")
        return served(torch.zeros(1, 4096)).shape[1]

    print(answer(int(2.1 * (1 << 30))))                     # 8.4 GiB
    try:
        answer(1 << 32)
    except torch.cuda.OutOfMemoryError as error:
        print("gave up after", len(calls), lease.state)
    with lease.burst():                                     # the next request finds all in order
        print(brim.torch.retry(lambda: served(torch.zeros(1, 4096)).shape[1]))
""")
    assert done.stdout.splitlines() == ["4096", "gave up after 4 idle", "4096"], \
        done.stdout + done.stderr
    cuda_script.machine.events.wait(kind="asked_trim", name="neighbour")


# -- DataLoader

LOADER = """
import sys, torch, brim
from torch.utils.data import DataLoader, Dataset, get_worker_info

class Squares(Dataset):
    def __len__(self):
        return 64
    def __getitem__(self, index):
        try:
            brim.current()
            raise SystemExit("a worker has its parent's lease")
        except brim.StateError:
            pass
        assert get_worker_info() is not None
        return torch.tensor(index * index)

if __name__ == "__main__":
    with brim.lease("trainer", resident="2GiB", burst="1GiB") as lease:
        lease.ready()
        loader = DataLoader(Squares(), batch_size=8, num_workers=2, persistent_workers=True,
                            multiprocessing_context=sys.argv[1])
        total = 0
        for epoch in range(2):
            for batch in loader:                # workers start in the first one, outside a burst,
                with lease.burst():             # and work on during each
                    total += int(batch.sum())
        with lease.burst():
            total += sum(int(batch.sum()) for batch in
                         DataLoader(Squares(), num_workers=1, multiprocessing_context=sys.argv[1]))
        own = [each for each in brim.ps()["leases"] if each["state"] != "draining"]
        print(total, lease.state, len(own))
    print(lease.state)
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_dataloaders_workers_live_beside_a_lease(script, short_dir, method):
    (short_dir / "train.py").write_text(LOADER)
    done = script.machine.run(sys.executable, short_dir / "train.py", method, timeout=240)
    total = 3 * sum(number * number for number in range(64))
    assert done.stdout == f"{total} idle 1\nreleased\n", done.stderr
    assert "Traceback" not in done.stderr


# -- what is done on hardware

def test_the_tests_of_hardware_pass_with_a_fake_cuda(emulator, build_dir):
    done = emulator.run(sys.executable, "-m", "pytest", "-q", "tests/gpu/test_torch.py", cwd=TREE,
                        env={"BRIM_BUILD": str(build_dir), "BRIM_FAKE_TORCH": "cuda"}, timeout=280)
    assert done.returncode == 0 and "4 passed" in done.stdout, done.stdout
