# SPDX-License-Identifier: Apache-2.0
"""What `import brim` costs a program: milliseconds of a processor, so that what else the machine does
is not counted. `reference` is what the modules of the standard library that it stands on cost in the
same run: most of it, and most programs have them already. Medians of fresh interpreters without
site-packages (whose .pth files may import anything before), in turn."""
import json
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "python"
COUNT = 25
STANDARD = "atexit, ctypes, functools, os, select, sys, threading, time"
MEASURE = """
import time
began_ns = time.process_time_ns()
import {modules}
took_ns = time.process_time_ns() - began_ns
import sys
assert not {{"torch", "asyncio", "typing"}} & set(sys.modules), "it imports too much"
print(took_ns / 1e6)
"""


def import_ms(modules):
    told = subprocess.run([sys.executable, "-S", "-c", MEASURE.format(modules=modules)], check=True,
                          stdout=subprocess.PIPE, env={"PYTHONPATH": str(PACKAGE)})
    return float(told.stdout)


def main():
    import_ms("brim")  # once, so that its byte code is there
    rounds = [(import_ms("brim"), import_ms(STANDARD)) for _ in range(COUNT)]
    value, reference = (sorted(column)[COUNT // 2] for column in zip(*rounds))
    print(json.dumps({"key": "py_import_ms", "value": round(value, 3), "unit": "ms",
                      "reference": round(reference, 3), "ratio": round(value / reference, 3),
                      "n": COUNT}))


if __name__ == "__main__":
    main()
