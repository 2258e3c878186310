# SPDX-License-Identifier: Apache-2.0
"""What Python adds to a burst: entering and leaving `with lease.burst():`, above the same two calls
of the C library in the same run (bench/burst.c). `reference` is the C library's time; the whole of
Python's is value + reference. Medians: the daemon's answer is in both."""
import json
import os
import subprocess
import sys
import time
from pathlib import Path

TREE = Path(__file__).resolve().parents[1]
BUILD = TREE / os.environ.get("BUILD", "build")
sys.path.insert(0, str(TREE / "python"))
os.environ.setdefault("BRIM_LIB", str(BUILD / "libbrim.so.0"))

import brim  # noqa: E402

COUNT = 2000
ROUNDS = 3


def c_us():
    told = subprocess.run([BUILD / "bench/bench_burst"], check=True, stdout=subprocess.PIPE)
    return json.loads(told.stdout)["value"]


def python_us():
    taken_ns = []
    with brim.lease("burst", resident="1GiB", burst="1GiB") as lease:
        lease.ready()
        burst = lease.burst()
        for _ in range(COUNT):
            began_ns = time.perf_counter_ns()
            with burst:
                pass
            taken_ns.append(time.perf_counter_ns() - began_ns)
    return sorted(taken_ns)[COUNT // 2] / 1e3


def main():
    # In turn, and the best of each: what else the machine does meets both.
    rounds = [(c_us(), python_us()) for _ in range(ROUNDS)]
    floor_us, python_best_us = (min(column) for column in zip(*rounds))
    print(json.dumps({"key": "py_burst_us", "value": round(python_best_us - floor_us, 3),
                      "unit": "us", "reference": floor_us,
                      "ratio": round((python_best_us - floor_us) / floor_us, 3),
                      "n": ROUNDS * COUNT}))


if __name__ == "__main__":
    main()
