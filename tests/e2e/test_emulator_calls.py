# SPDX-License-Identifier: Apache-2.0
"""Every entry point of the emulated driver fails when a test orders it to, by its documented name."""
import json
import re
import sys
from pathlib import Path

HEADERS = Path(__file__).resolve().parents[2] / "src/cuda"
# They work before cuInit and touch nothing, so nothing can be ordered about them.
FREE = {"cuDriverGetVersion", "cuGetErrorName", "cuGetErrorString", "cuGetProcAddress",
        "cuGetExportTable", "cuModuleGetLoadingMode", "cuInit"}

# Only what comes before the arguments matters, so each gets buffers for all of them.
EACH = """
import ctypes, json, subprocess, sys

emulator, calls = sys.argv[1], json.loads(sys.argv[2])
cuda = ctypes.CDLL("libcuda.so.1")
context = ctypes.c_void_p()
assert cuda.cuInit(0) == 0
assert cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
assert cuda.cuCtxSetCurrent(context) == 0
buffers = [ctypes.create_string_buffer(4096) for _ in range(6)]

def order(*texts):
    for text in texts:
        subprocess.run([emulator, "--control", text], check=True)

answers = {}
names = sorted(calls)
for start in range(0, len(names), 30):
    order(*(f"fail-from {name} 1 807" for name in names[start:start + 30]))
    for name in names[start:start + 30]:
        for form in calls[name]:
            print(form, file=sys.stderr, flush=True)
            answers[form] = getattr(cuda, form)(*buffers)
    order("clear")
print(json.dumps(answers))
"""


def documented(form):
    return re.sub(r"(_v[0-9])?(_pt[ds][sz])?$", "", form)


def find_calls():
    """The forms of each documented name, as the headers declare them."""
    calls = {}
    for header in HEADERS.glob("*.h"):
        text = header.read_text()
        forms = re.findall(r"CUresult (cu[A-Z]\w+)\(", text)
        for macro, body in re.findall(r"#define (CUDA_\w+MAP)\(X\)((?:.*\\\n)*.*\n)", text):
            if macro == "CUDA_RESULT_MAP":
                continue
            for name, rest in re.findall(r"X\((cu[A-Z]\w+), ([^()]*)", body):
                exported = re.findall(r"cu[A-Z]\w+", rest)  # where the headers tell them
                forms += exported or [name, name + ("_ptsz" if "STREAM" in macro else "_ptds")]
        for form in forms:
            calls.setdefault(documented(form), set()).add(form)
    return {name: sorted(forms) for name, forms in calls.items() if name not in FREE}


def test_every_call_fails_when_it_is_ordered_to(emulator):
    calls = find_calls()
    assert len(calls) > 200 and "cuMemAlloc" in calls and "cuMemcpyHtoD" in calls
    done = emulator.run(sys.executable, "-c", EACH, emulator.build / "brim-emulator",
                        json.dumps(calls))
    assert done.returncode == 0, done.stderr[-300:]
    answers = json.loads(done.stdout)
    wrong = {form: answer for form, answer in answers.items() if answer != 807}
    assert not wrong, json.dumps(wrong)
