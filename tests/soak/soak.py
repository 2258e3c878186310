#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Batch after batch on an emulated card while everything around them is killed.

usage: soak.py [--batches N] [--segments N] [--seed N] [--rss-mb MB]      inside `brim emulate`

Each batch stands for eight hours of work: a segment a minute, compressed to milliseconds. At random
steps of the work a worker, the batch itself, the daemon or its helper gets SIGKILL (a killed batch is
run again), and programs that know nothing of Brim take memory of the card and give it back. After
each batch must hold:

  0 OOM    the emulator never refused memory
  0 lost   each segment has its output, whole, and no attempt is left beside it
  0 twice  no segment was worked on again after the batch had told it done, or the store says done;
           and the same command once more finds nothing to do
  idle     the card's used bytes, the daemon's descriptors and its leases are those of before the
           first batch, and its memory is within --rss-mb of it

Prints the seed, a line a batch and a summary. Status 1 on any breach; the seed gives the same steps
again, as far as the scheduler lets it.
"""
import argparse
import json
import os
import random
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
BUILD = TREE / os.environ.get("BRIM_BUILD", "build")
BRIM = BUILD / "brim"
WORKER = BUILD / "tests" / "soak" / "soak_worker"
HOG = BUILD / "tests" / "hog"
STATE = Path(os.environ.get("BRIM_STATE_DIR", "/nonexistent"))
SILENCE_S = 90.0  # nothing happens for so long: it is stuck
SETTLE_S = 30.0
SEGMENT_DONE = 2
EVENTS_SHOWN = 80
# A program that comes while the card is full must fit into the reserve of 800 MiB, its context of
# 256 MiB included: nobody can be asked to leave before it is seen. So must two that come within the
# age that facts may have at a grant, and an ended one's bytes are there until they are back. One that
# is there first may take more.
SPIKE = "440MiB"
FACTS_AGE_S = 0.25  # and longer than the emulator's --free-lag
EARLY = ("1GiB", "2GiB", "4GiB")
# Sizes of a worker: resident and burst beside the context, and what it claims.
SHAPES = (("1GiB", "512MiB", "1300MiB"), ("2GiB", "1GiB", "2320MiB"), ("700MiB", "1GiB", "1000MiB"))


class Breach(Exception):
    """What must hold does not."""


def brim(*args):
    return subprocess.run([BRIM, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, encoding="utf-8", timeout=SILENCE_S)


def card():
    return json.loads(brim("emulate", "--stats").stdout)["gpus"][0]


def children_of(pid):
    found = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(word) for word in (task / "children").read_text().split()]
    except OSError:
        pass  # it has ended
    return found


def last_events():
    """What the daemon tells of the end, for whoever looks for the cause."""
    lines = brim("events", "--since", "0").stdout.splitlines()
    return "\n".join(["the daemon's last events:", *lines[-EVENTS_SHOWN:]])


def watch(pids):
    """A descriptor for each that is still there; it is readable when the process has ended."""
    found = []
    for pid in pids:
        try:
            found.append(os.pidfd_open(pid))
        except ProcessLookupError:
            pass  # it has ended
    return found


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
        return True
    except ProcessLookupError:
        return False


def daemon_pid():
    """None while there is none."""
    answer = brim("ps", "--json")
    if answer.returncode != 0:
        return None
    return (json.loads(answer.stdout).get("daemon") or {}).get("pid")


def idle_figure():
    """What is there when nothing runs. The last daemon may have been killed when nobody needed the
    next one any more."""
    brim("daemon", "start")
    status = json.loads(brim("ps", "--json").stdout)
    pid = status["daemon"]["pid"]
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {"used_bytes": card()["used_bytes"], "leases": len(status["leases"]),
            "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
            "rss_mb": int(fields["VmRSS"].split()[0]) * 1024 / 1e6}


def settled_figure(first):
    """The figure once all is as at the first, or after SETTLE_S: freed bytes come back late, and
    neither the card nor /proc gives a sign of it."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        figure = idle_figure()
        if all(figure[key] == first[key] for key in ("used_bytes", "leases", "descriptors")):
            return figure
        if time.monotonic() > deadline:
            return figure
        select.select([], [], [], 0.1)


def first_figure():
    """The figure to hold to: of a daemon that was killed once, as each batch's last one may have
    been (it has its journal open in another way than the first daemon), and that has had a lease."""
    brim("run", "--vram", "1GiB", "--", "true")
    kill(daemon_pid())
    brim("run", "--vram", "1GiB", "--", "true")
    figure = idle_figure()
    while True:
        select.select([], [], [], 0.3)
        last, figure = figure, idle_figure()
        if {**last, "rss_mb": 0} == {**figure, "rss_mb": 0} and figure["used_bytes"] == 0:
            return figure


class Hogs:
    """Programs that know nothing of Brim. One at a time: see SPIKE. One that would come too soon
    after the last one does not come.
    """

    def __init__(self):
        self.running = None
        self.ended_s = -FACTS_AGE_S
        self.count = 0

    def begin(self, size):
        if self.running or time.monotonic() - self.ended_s < FACTS_AGE_S:
            return False
        self.running = subprocess.Popen([HOG, "--bytes", size, "--chunk", "256MiB"],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if not self.running.stdout.readline().startswith(b"holding"):
            raise Breach("a foreign program that the reserve has room for was refused memory")
        self.count += 1
        return True

    def end(self):
        if not self.running:
            return
        self.running.stdin.close()
        self.running.stdout.close()
        self.running.wait(SILENCE_S)
        self.running = None
        self.ended_s = time.monotonic()


class Batch:
    """One batch, from its first run to the last."""

    def __init__(self, number, segments, chance, directory):
        self.name = f"soak-{number}"
        self.segments = segments
        self.chance = chance
        self.dir = directory / self.name
        self.dir.mkdir()
        self.texts = [f"minute {n} of {self.name}" for n in range(segments)]
        (self.dir / "in.txt").write_text("\n".join(self.texts) + "\n", encoding="utf-8")
        os.mkfifo(self.dir / "tell")
        self.tell = os.open(self.dir / "tell", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self.rest = b""
        self.steps = 0
        self.ended = set()  # told done in this run of the batch
        self.stored = set()  # done for ever: the store said so
        self.kills = dict.fromkeys(("worker", "batch", "daemon", "helper"), 0)
        self.runs = 0
        self.hogs = Hogs()
        self.process = None
        self.shape = chance.choice(SHAPES)
        self.plan = self.make_plan()
        self.told = []  # what was done to it, for whoever reads of a breach

    def make_plan(self):
        """At which step what happens: (step, what), in order."""
        faults = ["worker"] * self.chance.randint(2, 5)
        faults += ["batch"] * self.chance.randint(1, 3)
        faults += ["daemon"] * self.chance.randint(1, 2)
        faults += ["helper"] * self.chance.randint(0, 2)
        for _ in range(self.chance.randint(1, 3)):
            faults += ["hog", "hog_end"]
        self.chance.shuffle(faults)
        last = 2 * self.segments  # a begin and an end each
        steps = sorted(self.chance.randrange(1, last) for _ in faults)
        return list(zip(steps, faults))

    def start(self):
        self.ended = set()
        self.stored = self.read_store()
        self.runs += 1
        log = (self.dir / "batch.log").open("ab")
        resident, burst, claim = self.shape
        self.process = subprocess.Popen(
            [BRIM, "batch", "run", self.name, "--lines", "in.txt", "--out", "out/${SEGMENT}.txt",
             "--vram", claim, "--burst", burst, "--retries", "99", "--", WORKER, resident, burst,
             "tell"], cwd=self.dir, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()

    def read_store(self):
        """The ids that are done, by the batch's own store; what a kill left is read as it is."""
        path = STATE / "batches" / self.name / "batch.db"
        if not path.exists():
            return set()
        store = sqlite3.connect(path)
        try:
            rows = store.execute("SELECT idx FROM segments WHERE state = ?", (SEGMENT_DONE,))
            return {f"{row[0]:06}" for row in rows}
        except sqlite3.OperationalError:
            return set()  # killed before it had made its tables
        finally:
            store.close()

    def hear(self, line):
        what, name, _pid = line.split()
        self.steps += 1
        if what == "oom":
            raise Breach(f"granted memory was refused at {name}")
        if what == "end":
            self.ended.add(name)
        elif name in self.ended or name in self.stored:
            raise Breach(f"segment {name} is worked on again after it was done")

    def drain_tell(self):
        try:
            while data := os.read(self.tell, 1 << 16):
                *lines, self.rest = (self.rest + data).split(b"\n")
                for line in lines:
                    self.hear(line.decode())
        except BlockingIOError:
            pass

    def fault(self, what):
        self.told.append(f"{time.strftime('%H:%M:%S')}.{time.time_ns() // 1000000 % 1000:03} "
                         f"step {self.steps}: {what}")
        if what == "hog":
            self.hogs.begin(SPIKE)
        elif what == "hog_end":
            self.hogs.end()
        else:
            self.kills[what] += self.kill_one(what)

    def kill_one(self, what):
        if what == "batch":
            self.kill_batch()
            return 1
        if what == "worker":
            pids = children_of(self.process.pid)
        else:
            daemon = daemon_pid()
            pids = [] if daemon is None else [daemon] if what == "daemon" else children_of(daemon)
        return int(bool(pids) and kill(self.chance.choice(pids)))

    def kill_batch(self):
        workers = watch(children_of(self.process.pid))
        self.process.kill()
        self.process.wait(SILENCE_S)
        for worker in workers:  # they end with it: none may write into the next run
            if not select.select([worker], [], [], SILENCE_S)[0]:
                raise Breach("a worker outlives its batch")
            os.close(worker)
        self.drain_tell()
        self.start()

    def run(self):
        """To the end of the batch, whatever happens on the way."""
        if self.chance.random() < 0.3:
            self.hogs.begin(self.chance.choice(EARLY))
        self.start()
        while True:
            while self.plan and self.plan[0][0] <= self.steps:
                self.fault(self.plan.pop(0)[1])
            ended = os.pidfd_open(self.process.pid)
            waits = select.select([self.tell, ended], [], [], SILENCE_S)[0]
            os.close(ended)
            if not waits:
                raise Breach(f"nothing happens for {SILENCE_S:.0f} s; why: {brim('ps').stdout}")
            self.drain_tell()
            if self.process.poll() is not None and not self.goes_on():
                return

    def goes_on(self):
        """After the batch's end: what happens next, if anything does."""
        if self.process.returncode == 0:
            return False
        if self.runs > 20:
            raise Breach(f"the batch does not end well: {self.last_words()}")
        self.start()
        return True

    def last_words(self):
        return (self.dir / "batch.log").read_text(errors="replace")[-2000:]

    def check(self):
        """0 lost, 0 twice."""
        self.hogs.end()
        wanted = {f"{n:06}.txt" for n in range(self.segments)}
        found = {path.name for path in (self.dir / "out").iterdir()}
        if found != wanted:
            raise Breach(f"lost: {sorted(wanted - found)[:5]}, beside them: "
                         f"{sorted(found - wanted)[:5]}")
        for n, text in enumerate(self.texts):
            if (self.dir / "out" / f"{n:06}.txt").read_text() != f"{text}|{n:06}\n":
                raise Breach(f"the output of segment {n} is not whole")
        if len(self.read_store()) != self.segments:
            raise Breach("the store does not say that all is done")
        steps = self.steps
        self.start()
        if self.process.wait(SILENCE_S) != 0:
            raise Breach(f"run once more it fails: {self.last_words()}")
        self.drain_tell()
        if self.steps != steps:
            raise Breach("run once more it works on segments that are done")

    def close(self):
        self.hogs.end()
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait(SILENCE_S)
        os.close(self.tell)

    def forget(self):
        shutil.rmtree(self.dir)
        shutil.rmtree(STATE / "batches" / self.name)


def check_idle(first, rss_mb):
    figure = settled_figure(first)
    wrong = [f"{key} {figure[key]}, first {first[key]}"
             for key in ("used_bytes", "leases", "descriptors") if figure[key] != first[key]]
    if figure["rss_mb"] > first["rss_mb"] + rss_mb:
        wrong.append(f"rss_mb {figure['rss_mb']:.1f}, first {first['rss_mb']:.1f}")
    if wrong:
        raise Breach("not idle as at first: " + "; ".join(wrong))
    return figure


def soak_one(number, options, chance, directory, first):
    """One batch and what must hold after it; its kills and steps."""
    batch = Batch(number, options.segments, chance, directory)
    start_s = time.monotonic()
    try:
        batch.run()
        batch.check()
        if card()["oom_count"] != 0:
            raise Breach(f"{card()['oom_count']} times out of memory")
        figure = check_idle(first, options.rss_mb)
    except Breach as breach:
        told = "\n".join([f"batch {number}: {breach}", *batch.told, batch.last_words(), last_events()])
        raise Breach(told) from None
    finally:
        batch.close()
    kills = ", ".join(f"{count} {what}" for what, count in batch.kills.items())
    print(f"batch {number}: {batch.segments} segments, killed {kills}; {batch.hogs.count} foreign; "
          f"0 OOM, 0 lost, 0 twice; idle {figure['used_bytes']} B, {figure['descriptors']} fds, "
          f"{figure['rss_mb']:.1f} MB; {time.monotonic() - start_s:.1f} s", flush=True)
    batch.forget()
    return batch


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--batches", type=int, default=100)
    parser.add_argument("--segments", type=int, default=480)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--rss-mb", type=float, default=4.0)
    options = parser.parse_args()
    if "BRIM_EMULATED" not in os.environ:
        sys.exit("soak.py: run me inside brim emulate (make soak does)")
    print(f"seed {options.seed}", flush=True)
    chance = random.Random(options.seed)
    kills, batches = 0, 0
    try:
        first = first_figure()
        with tempfile.TemporaryDirectory(prefix="brim-soak-") as directory:
            for number in range(1, options.batches + 1):
                batch = soak_one(number, options, chance, Path(directory), first)
                kills += sum(batch.kills.values())
                batches += 1
    except Breach as breach:
        print(f"BREACH (seed {options.seed}) {breach}", flush=True)
        return 1
    print(f"{batches} batches of {options.segments} segments, {kills} kills: 0 OOM, 0 lost, 0 twice, "
          "idle as at first", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
