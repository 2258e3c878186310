#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a batch costs per empty segment, against `xargs -P` that starts a process for each.

usage: bench/batch.py [SEGMENTS]      (takes brim from PATH, and an emulated card if none is there)

Prints one JSON object a line: batch_segment_us (the worker protocol, one worker that does nothing,
each output made durable), batch_each_us (a process a segment), and the reference of both in the same
run; batch_fsync_us is the floor: what the three syncs of a result cost by themselves.
"""
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WORKER = """
import json, os, socket
link = socket.socket(fileno=int(os.environ["BRIM_FD"]))
lines = link.makefile("r", encoding="utf-8")
link.sendall(b'{"ready": true}\\n')
for line in lines:
    request = json.loads(line)
    if "stop" in request:
        break
    os.close(os.open(request["out"], os.O_WRONLY | os.O_CREAT, 0o644))
    link.sendall(b'{"done": %d}\\n' % request["segment"])
"""
WARM = 3


def batch_us(brim, name, count, directory, *words):
    """Between the first segments and the last: start-up and loading are not what is asked here."""
    times = {}
    for size in (WARM, count):
        (directory / "in.txt").write_text("".join(f"{n}\n" for n in range(size)))
        start = time.monotonic()
        subprocess.run([brim, "batch", "run", f"{name}{size}", "--lines", "in.txt", "--out",
                        f"{name}{size}/${{SEGMENT}}", "--vram", "1GiB", "--workers", "1", *words],
                       cwd=directory, check=True, stderr=subprocess.DEVNULL)
        times[size] = time.monotonic() - start
    return (times[count] - times[WARM]) * 1e6 / (count - WARM)


def xargs_us(count, directory):
    start = time.monotonic()
    subprocess.run(["xargs", "-P", "1", "-I", "{}", "touch", "xargs-{}"], check=True,
                   input="".join(f"{n}\n" for n in range(count)).encode(), cwd=directory)
    return (time.monotonic() - start) * 1e6 / count


def sync_us(count, directory):
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    log = os.open(directory / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    taken = []
    for n in range(count):
        start = time.monotonic()
        output = os.open(directory / f"sync-{n}", os.O_WRONLY | os.O_CREAT, 0o644)
        os.fsync(output)
        os.close(output)
        os.fsync(folder)
        os.write(log, bytes(4096))
        os.fsync(log)
        taken.append((time.monotonic() - start) * 1e6)
    return statistics.median(taken)


def report(key, value, reference, count):
    ratio = round(value / reference, 3) if reference else None
    print(json.dumps({"key": key, "value": round(value, 1), "unit": "us",
                      "reference": round(reference, 1) if reference else None, "ratio": ratio,
                      "n": count}), flush=True)


def main():
    brim = shutil.which("brim")
    if not brim:
        sys.exit("bench/batch.py: brim is not on PATH")
    if "BRIM_EMULATED" not in os.environ:
        os.execv(brim, [brim, "emulate", "--gpu", "rtx4070ti", "--", sys.executable, *sys.argv])
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    with tempfile.TemporaryDirectory(prefix="brim-bench-") as name:
        directory = Path(name)
        reference = xargs_us(count, directory)
        report("batch_fsync_us", sync_us(min(count, 100), directory), None, min(count, 100))
        report("batch_segment_us",
               batch_us(brim, "worker", count, directory, "--", sys.executable, "-c", WORKER),
               reference, count)
        report("batch_each_us",
               batch_us(brim, "each", count, directory, "--each", "--", "touch", "${OUT}"),
               reference, count)


if __name__ == "__main__":
    main()
