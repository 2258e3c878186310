# SPDX-License-Identifier: Apache-2.0
"""Programs from PyPI that load NVIDIA's libraries find the emulated ones, and believe them."""
import json
import select
import signal
import sys
from pathlib import Path

import pytest

MIB = 1 << 20

NVML = """
import json, sys
import pynvml as nvml

nvml.nvmlInit()
device = nvml.nvmlDeviceGetHandleByIndex(0)
v1 = nvml.nvmlDeviceGetMemoryInfo(device)
v2 = nvml.nvmlDeviceGetMemoryInfo(device, version=nvml.nvmlMemory_v2)
uuid = nvml.nvmlDeviceGetUUID(device)
assert nvml.nvmlDeviceGetIndex(nvml.nvmlDeviceGetHandleByUUID(uuid)) == 0
bus = nvml.nvmlDeviceGetPciInfo(device).busId
assert nvml.nvmlDeviceGetIndex(nvml.nvmlDeviceGetHandleByPciBusId(bus)) == 0
try:
    nvml.nvmlDeviceGetHandleByIndex(99)
except nvml.NVMLError_InvalidArgument as error:
    refusal = str(error)
print(json.dumps({
    "count": nvml.nvmlDeviceGetCount(),
    "name": nvml.nvmlDeviceGetName(device),
    "uuid": uuid,
    "driver": nvml.nvmlSystemGetDriverVersion(),
    "cuda": nvml.nvmlSystemGetCudaDriverVersion(),
    "total": [v1.total, v2.total],
    "used": [v1.used, v2.used],
    "processes": [[p.pid, p.usedGpuMemory]
                  for p in nvml.nvmlDeviceGetComputeRunningProcesses(device)],
    "graphics": len(nvml.nvmlDeviceGetGraphicsRunningProcesses(device)),
    "utilization": nvml.nvmlDeviceGetUtilizationRates(device).gpu,
    "celsius": nvml.nvmlDeviceGetTemperature(device, nvml.NVML_TEMPERATURE_GPU),
    "capability": list(nvml.nvmlDeviceGetCudaComputeCapability(device)),
    "refusal": refusal,
}))
nvml.nvmlShutdown()
"""

CUDA = """
import ctypes, json, os
from cuda.bindings import driver as cuda

def check(result):
    status, *values = result
    assert status == cuda.CUresult.CUDA_SUCCESS, status
    return values[0] if len(values) == 1 else values

MIB = 1 << 20
check(cuda.cuInit(0))
device = check(cuda.cuDeviceGet(0))
name = check(cuda.cuDeviceGetName(128, device)).split(b"\\0")[0].decode()
major = check(cuda.cuDeviceGetAttribute(
    cuda.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device))
context = check(cuda.cuDevicePrimaryCtxRetain(device))
check(cuda.cuCtxSetCurrent(context))
free, total = check(cuda.cuMemGetInfo())
memory = check(cuda.cuMemAlloc(64 * MIB))
data = os.urandom(5 * MIB)
back = bytearray(len(data))
check(cuda.cuMemcpyHtoD(memory, data, len(data)))
check(cuda.cuMemcpyDtoH(back, memory, len(back)))
assert bytes(back) == data

stream = check(cuda.cuStreamCreate(cuda.CUstream_flags.CU_STREAM_NON_BLOCKING))
event = check(cuda.cuEventCreate(0))
pinned = check(cuda.cuMemAllocHost(4096))
ctypes.memset(pinned, 7, 4096)
check(cuda.cuMemcpyHtoDAsync(memory, pinned, 4096, stream))
check(cuda.cuEventRecord(event, stream))
assert cuda.cuEventQuery(event)[0] == cuda.CUresult.CUDA_ERROR_NOT_READY
check(cuda.cuEventSynchronize(event))
check(cuda.cuMemcpyDtoH(back, memory, 4096))
assert back[:4096] == b"\\7" * 4096

refused = cuda.cuMemAlloc(total)[0]
launch = cuda.cuModuleLoadData(b"ptx\\0")[0]
unknown = cuda.cuGetProcAddress(b"cuNothing", 12000, 0)
check(cuda.cuMemFree(memory))
print(json.dumps({"name": name, "major": major, "free": free, "total": total,
                  "refused": int(refused), "launch": int(launch), "unknown": int(unknown[2]),
                  "text": check(cuda.cuGetErrorString(refused)).decode()}))
"""


CHECKPOINT = """
import json, sys
from cuda.bindings import driver as cuda

def check(result):
    status, *values = result
    assert status == cuda.CUresult.CUDA_SUCCESS, status
    return values[0] if values else None

pid = int(sys.argv[1])
check(cuda.cuInit(0))
states = [int(check(cuda.cuCheckpointProcessGetState(pid)))]
lock = cuda.CUcheckpointLockArgs()
lock.timeoutMs = 60000
pair = cuda.CUcheckpointGpuPair()
pair.oldUuid = pair.newUuid = check(cuda.cuDeviceGetUuid(check(cuda.cuDeviceGet(0))))
restore = cuda.CUcheckpointRestoreArgs()
restore.gpuPairs = [pair]
restore.gpuPairsCount = 1
for call, args in ((cuda.cuCheckpointProcessLock, lock),
                   (cuda.cuCheckpointProcessCheckpoint, cuda.CUcheckpointCheckpointArgs()),
                   (cuda.cuCheckpointProcessRestore, restore),
                   (cuda.cuCheckpointProcessUnlock, cuda.CUcheckpointUnlockArgs())):
    check(call(pid, args))
    states.append(int(check(cuda.cuCheckpointProcessGetState(pid))))
print(json.dumps({"states": states,
                  "thread": check(cuda.cuCheckpointProcessGetRestoreThreadId(pid)),
                  "version": check(cuda.cuDriverGetVersion())}))
"""


# Says when it is ready and when its call has returned; SIGINT is Python's KeyboardInterrupt.
BLOCKED = """
import sys
from cuda.bindings import driver as cuda

cuda.cuInit(0)
context = cuda.cuDevicePrimaryCtxRetain(cuda.cuDeviceGet(0)[1])[1]
cuda.cuCtxSetCurrent(context)
print("ready", flush=True)
sys.stdin.readline()
print("calling", flush=True)
try:
    cuda.cuMemAlloc(1 << 20)
    print("returned", flush=True)
    sys.stdin.readline()
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""

CONTROL = """
import sys
from cuda.bindings import driver as cuda

cuda.cuInit(0)
for name in sys.argv[2:]:
    call = getattr(cuda, "cuCheckpointProcess" + name)
    args = getattr(cuda, f"CUcheckpoint{name}Args")()
    status, = call(int(sys.argv[1]), args)
    assert status == cuda.CUresult.CUDA_SUCCESS, (name, status)
"""


def python(code):
    return [sys.executable, "-c", code]


def start_hog(emulator):
    hog = emulator.spawn(emulator.build / "tests" / "hog", "--bytes", "1000MiB",
                         stdin=-1, stdout=-1)
    assert hog.stdout.readline() == f"holding {1000 * MIB}\n"
    return hog


def test_nvidia_ml_py_shows_the_card_and_its_processes(emulator):
    pytest.importorskip("pynvml")
    hog = start_hog(emulator)
    done = emulator.run(*python(NVML))
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    held = (1000 + 256) * MIB  # and its context
    assert shown["count"] == 1
    assert shown["name"] == "NVIDIA GeForce RTX 4070 Ti"
    assert shown["uuid"].startswith("GPU-")
    assert shown["driver"] == "580.65.06" and shown["cuda"] == 13000
    assert shown["total"] == [12282 * MIB] * 2
    assert shown["used"] == [held] * 2
    assert shown["processes"] == [[hog.pid, held]]
    assert shown["graphics"] == 0 and shown["utilization"] == 0
    assert shown["capability"] == [8, 9] and 0 < shown["celsius"] < 100
    assert shown["refusal"] == "Invalid Argument"


def test_cuda_bindings_use_the_driver(emulator):
    pytest.importorskip("cuda.bindings")
    done = emulator.run(*python(CUDA))
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["name"] == "NVIDIA GeForce RTX 4070 Ti" and shown["major"] == 8
    assert shown["total"] == 12282 * MIB and shown["free"] == (12282 - 256) * MIB
    assert shown["refused"] == 2 and shown["text"] == "out of memory"
    assert shown["launch"] == 801  # CUDA_ERROR_NOT_SUPPORTED
    assert shown["unknown"] == 1  # CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND
    stats = json.loads(emulator.brim("emulate", "--stats").stdout)
    assert stats["gpus"][0]["oom_count"] == 1
    assert stats["gpus"][0]["used_bytes"] == 0
    assert stats["gpus"][0]["async_faults"] == 0


def test_cuda_bindings_checkpoint_a_process(start_emulator):
    pytest.importorskip("cuda.bindings")
    machine = start_emulator(options=("--driver", "595"))
    hog = start_hog(machine)
    done = machine.run(*python(CHECKPOINT), str(hog.pid))
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["states"] == [0, 1, 2, 1, 0]  # running, locked, checkpointed and back
    assert shown["thread"] != hog.pid and shown["version"] == 13020
    stats = json.loads(machine.brim("emulate", "--stats").stdout)
    assert stats["gpus"][0]["used_bytes"] == (1000 + 256) * MIB
    assert stats["checkpoint_faults"] == 0


def test_an_interrupt_waits_until_the_process_is_restored(emulator):
    pytest.importorskip("cuda.bindings")
    program = emulator.spawn(*python(BLOCKED), stdin=-1, stdout=-1)
    assert program.stdout.readline() == "ready\n"
    done = emulator.run(*python(CONTROL), str(program.pid), "Lock", "Checkpoint")
    assert done.returncode == 0, done.stderr
    program.stdin.write("go\n")
    program.stdin.flush()
    assert program.stdout.readline() == "calling\n"
    waits = Path(f"/proc/{program.pid}/wchan")
    while "futex" not in waits.read_text():
        pass  # the call is on its way to the driver's lock
    program.send_signal(signal.SIGINT)
    assert not select.select([program.stdout], [], [], 0.2)[0] and program.poll() is None
    done = emulator.run(*python(CONTROL), str(program.pid), "Restore", "Unlock")
    assert done.returncode == 0, done.stderr
    assert program.stdout.readline() == "interrupted\n"
