# SPDX-License-Identifier: Apache-2.0
"""NVML's lists in all their forms, and what a lost, hanging or telling-less gpu does to all calls."""
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

MIB = 1 << 20
CONTEXT = 256 * MIB
HEADER = Path(__file__).resolve().parents[2] / "src/cuda/nvml.h"
CALLS = sorted(set(re.findall(r"nvmlReturn_t (nvml(?:Device|System)\w+)\(", HEADER.read_text())))

LISTS = """
import json
import pynvml as nvml

nvml.nvmlInit()
device = nvml.nvmlDeviceGetHandleByIndex(0)
lists = {}
for kind in ("Compute", "Graphics", "MPSCompute"):
    for version in ("_v2", "_v3"):
        call = getattr(nvml, f"nvmlDeviceGet{kind}RunningProcesses{version}")
        lists[kind + version] = [[p.pid, p.usedGpuMemory] for p in call(device)]

# The binding stumbles over its own "not available" here, so it is not to know it.
UNKNOWN = (1 << 64) - 1
nvml.NVML_VALUE_NOT_AVAILABLE_ulonglong.value = 1
for mode in range(3):
    lists[f"detail{mode}"] = [
        [p.pid, None if p.usedGpuMemory == UNKNOWN else p.usedGpuMemory] for p in
        nvml.nvmlDeviceGetRunningProcessDetailList(device, nvml.nvmlProcessDetailList_v1, mode)]

def refusal(call, *args, **kwargs):
    try:
        call(device, *args, **kwargs)
    except nvml.NVMLError as error:
        return error.value

print(json.dumps({
    "lists": lists,
    "busy": [refusal(nvml.nvmlDeviceGetProcessUtilization, 0),
             refusal(nvml.nvmlDeviceGetProcessesUtilizationInfo, 0)],
    "memory": [refusal(nvml.nvmlDeviceGetMemoryInfo),
               refusal(nvml.nvmlDeviceGetMemoryInfo, version=nvml.nvmlMemory_v2)],
    "wrong": [refusal(nvml.nvmlDeviceGetMemoryInfo, version=77),
              refusal(nvml.nvmlDeviceGetRunningProcessDetailList, 77, 0),
              refusal(nvml.nvmlDeviceGetRunningProcessDetailList,
                      nvml.nvmlProcessDetailList_v1, 3)],
}))
"""

# Calls each name of the header as no C program would: with buffers for everything. What is looked at
# is only what comes before the arguments.
EACH = """
import ctypes, json, re, subprocess, sys

emulator, what, names = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
nvml = ctypes.CDLL("libnvidia-ml.so.1")
assert nvml.nvmlInit_v2() == 0
device = ctypes.c_void_p()
assert nvml.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(device)) == 0
buffers = [ctypes.create_string_buffer(1 << 17) for _ in range(3)]

def order(text):
    subprocess.run([emulator, "--control", text], check=True)

def call(name):
    first = device
    if "HandleBy" in name:
        first = ctypes.c_uint(0) if "Index" in name else ctypes.c_char_p(
            b"00000000:01:00.0" if "Pci" in name else uuid.value)
    return getattr(nvml, name)(first, *buffers)

uuid = ctypes.create_string_buffer(96)
assert nvml.nvmlDeviceGetUUID(device, uuid, 96) == 0
answers = {}
if what == "lost":
    order("lost 0")
for name in names:
    if what == "fail":
        order(f"fail {re.sub('_v[0-9]$', '', name)} 1 18")
    print(name, file=sys.stderr, flush=True)
    answers[name] = call(name)
    if what == "fail":
        order("clear")
print(json.dumps(answers))
"""


def run_python(machine, code, *args):
    done = machine.run(sys.executable, "-c", code, *args)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def start_hog(machine):
    hog = machine.spawn(machine.build / "tests" / "hog", "--bytes", "1000MiB",
                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert hog.stdout.readline().startswith("holding")
    return hog


@pytest.mark.parametrize("mode", ["plain", "--wsl", "--unified"])
def test_every_form_of_a_list_tells_the_same(start_emulator, mode):
    pytest.importorskip("pynvml")
    machine = start_emulator(options=() if mode == "plain" else (mode,))
    hog = start_hog(machine)
    shown = run_python(machine, LISTS)
    held = [[hog.pid, None if mode == "--wsl" else 1000 * MIB + CONTEXT]]
    for name, processes in shown["lists"].items():
        assert processes == (held if name in ("Compute_v2", "Compute_v3", "detail0") else []), name
    assert shown["busy"] == [6, 6]  # NVML_ERROR_NOT_FOUND: nobody has used the card
    assert shown["memory"] == ([3, 3] if mode == "--unified" else [None, None])  # NOT_SUPPORTED
    assert shown["wrong"] == [25, 25, 2]  # ARGUMENT_VERSION_MISMATCH, INVALID_ARGUMENT


def each(machine, what, names):
    return run_python(machine, EACH, machine.build / "brim-emulator", what, json.dumps(names))


def test_every_call_says_that_a_gpu_is_lost(emulator):
    names = [name for name in CALLS if name.startswith("nvmlDevice") and "GetCount" not in name]
    answers = each(emulator, "lost", names)
    assert {name: 15 for name in names} == answers  # NVML_ERROR_GPU_IS_LOST


def test_every_call_can_be_made_to_fail_or_hang(emulator):
    answers = each(emulator, "fail", CALLS)
    assert {name: 18 for name in CALLS} == answers
