# SPDX-License-Identifier: Apache-2.0
"""The second half: the same program, text and card as a batch of Brim's.

With plan.is_disturbed, at a third of the text a foreign program takes memory; while it holds it, a
worker is killed in the middle of a segment. What would have been its successor waits until the
foreign program is dismissed, which happens when Brim has said why it waits.
"""
import json
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from collections import namedtuple
from pathlib import Path

import screen
import stage
from stage import DemoError, WorkersLog

STRIKES = 200


class Events:
    """`brim events -f --json`, remembered."""

    def __init__(self, plan):
        self.seen = []
        self._queue = queue.Queue()
        self._process = subprocess.Popen([plan.brim, "events", "-f", "--json"],
                                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                         stderr=subprocess.DEVNULL, encoding="utf-8")
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self._process.stdout:
            if line.startswith("{"):
                self._queue.put(json.loads(line))
        self._queue.put(None)

    def _drain(self):
        while not self._queue.empty():
            event = self._queue.get()
            if event:
                self.seen.append(event)

    def wait_for(self, is_wanted, process, patience_s=stage.PATIENCE_S):
        """The first event of all that is wanted; None if the process ends before it comes."""
        deadline = time.monotonic() + patience_s
        place = 0
        while time.monotonic() < deadline:
            self._drain()
            for event in self.seen[place:]:
                if is_wanted(event):
                    return event
            place = len(self.seen)
            if process.poll() is not None:
                return None
            try:
                event = self._queue.get(timeout=0.2)
            except queue.Empty:
                continue
            if event is None:
                raise DemoError("brim events ended")
            self.seen.append(event)
        raise DemoError(f"the event that was waited for did not come within {patience_s:.0f} s")

    def close(self):
        self._process.kill()
        self._process.wait()
        self._drain()


Strike = namedtuple("Strike", "foreign pid segment at_ms")


class Foreign:
    """The program that knows nothing of Brim."""

    def __init__(self, plan):
        self._process = subprocess.Popen(
            [plan.foreign, "--bytes", f"{plan.foreign_bytes / 1e9}GB",
             "--least", f"{plan.foreign_least_bytes / 1e9}GB",
             "--leave", f"{plan.reserve_bytes >> 20}MiB"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8")
        line = self._process.stdout.readline()
        self.held_bytes = int(line.split()[1]) if line.startswith("holding") else 0

    def dismiss(self):
        self._process.stdin.close()
        if self._process.wait(stage.PATIENCE_S) != 0:
            raise DemoError("the foreign program ended badly")

    def kill(self):
        self._process.kill()
        self._process.wait()


def is_ours(plan, event, *kinds, since_ms=0):
    return (event["kind"] in kinds and (event["name"] or "").startswith(plan.batch)
            and event["at_unix_ms"] >= max(since_ms, plan.started_ms))


def living_workers(log):
    """Latest first."""
    pids = dict.fromkeys(pid for _, _, pid in reversed(log.entries))
    return [pid for pid in pids if stage.process_state(pid) not in ("Z", "X", None)]


def freeze(pids):
    for pid in pids:
        stage.signal_if_there(pid, signal.SIGSTOP)
    for pid in pids:
        while stage.process_state(pid) not in ("T", "t", "Z", "X", None):
            os.sched_yield()


def thaw(pids):
    for pid in pids:
        stage.signal_if_there(pid, signal.SIGCONT)


def kill_and_wait(pid):
    """SIGKILL, and until the process is gone, its memory with it; False if it was gone before."""
    try:
        end = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        is_sent = stage.signal_if_there(pid, signal.SIGKILL)
        if is_sent and not select.select([end], [], [], stage.PATIENCE_S)[0]:
            raise DemoError(f"process {pid} does not die")
        return is_sent
    finally:
        os.close(end)


def strike(plan, log):
    """One try: the foreign program takes memory, and one worker is killed in mid-segment while it
    holds it. A Strike, or None where no worker stands inside a segment or the card has no such room
    at this moment.

    A segment is short, so the workers are stopped while all this happens: the log of a stopped
    worker tells whether it is inside a segment, and what it holds does not change.
    """
    pids = living_workers(log)
    freeze(pids)
    try:
        inside = [(pid, stage.segment_at_hand(log, pid)) for pid in pids]
        victim = next(((pid, segment) for pid, segment in inside if segment is not None), None)
        if victim is None:
            return None
        foreign = Foreign(plan)
        at_ms = int(time.time() * 1000)
        if foreign.held_bytes == 0 or not kill_and_wait(victim[0]):
            foreign.kill()
            return None
        return Strike(foreign, *victim, at_ms)
    finally:
        thaw(pids)


def strike_until_it_hits(plan, batch, log):
    for _ in range(STRIKES):
        seen = len(log.entries)
        if not log.wait_for(lambda log, seen=seen: len(log.entries) > seen, batch):
            break
        hit = strike(plan, log)
        if hit:
            return hit
    raise DemoError("there was no moment to disturb the batch at")


def why(plan, name):
    """The whole reason why the claim waits; None where it does not wait any more."""
    asked = subprocess.run([plan.brim, "why", name, "--json"], stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8")
    if asked.returncode != 0:
        return None
    answer = stage.read_json(asked.stdout, "brim why --json")
    return answer["text"] if answer["kind"] == "waiting" else None


def disturb(plan, batch, log, events):
    """A foreign program, a killed worker, a refusal, and the foreign program's end."""
    hit = strike_until_it_hits(plan, batch, log)

    def wait_for(what, *kinds):
        event = events.wait_for(
            lambda event: is_ours(plan, event, *kinds, since_ms=hit.at_ms), batch)
        if event is None:
            raise DemoError(f"the batch ended and no successor was ever {what}")
        return event

    try:
        screen.say(f"   A foreign program takes {hit.foreign.held_bytes / 1e9:.1f} GB. While it "
                   f"holds them, worker {hit.pid} is killed (SIGKILL) in segment "
                   f"{hit.segment + 1}.", "yellow")
        refusal = wait_for("refused", "refused", "queued")
        screen.say("   Its successor is refused, and waits:")
        screen.say(screen.indent(why(plan, refusal["name"]) or refusal["text"]), "yellow")
        hit.foreign.dismiss()
        granted = wait_for("granted", "granted")
        screen.say(f"   The foreign program has ended: {granted['name']} is granted its memory and "
                   "starts.", "green")
    finally:
        hit.foreign.kill()


def fewest_and_most(plan, events):
    """Workers at one time, by the daemon's events: the most that there ever were, and the fewest
    from then on until the last start. (Neither the beginning of a batch nor its end is a low.)"""
    leases, levels = set(), []
    last_start = 0
    for event in events:
        if is_ours(plan, event, "granted"):
            leases.add(event["lease"])
            last_start = len(levels)
        elif is_ours(plan, event, "released", "lost"):
            leases.discard(event["lease"])
        else:
            continue
        levels.append(len(leases))
    most = max(levels, default=0)
    return min(levels[levels.index(most):last_start + 1], default=most) if levels else 0, most


def start_daemon(plan):
    """Where none runs yet. The batch would start one; here others ask before it does."""
    started = subprocess.run([plan.brim, "daemon", "start"], stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL)
    if started.returncode != 0:
        raise DemoError(f"brim daemon start ended with {started.returncode}")


def fit_count(plan):
    """How many workers Brim says fit now."""
    asked = subprocess.run(
        [plan.brim, "why", "--fit", "--vram", plan.resident, "--burst", plan.burst, "--json"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, encoding="utf-8")
    return stage.read_json(asked.stdout, "brim why --fit --json")["count"]


def ask_for_sizes(plan):
    """What Brim never grants on this card, how many workers it says fit, and what that leaves to a
    foreign program that is to break nothing but the plan."""
    asked = subprocess.run([plan.brim, "ps", "--json"], stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, encoding="utf-8")
    gpu = stage.read_json(asked.stdout, "brim ps --json")["gpus"][0]
    plan.reserve_bytes = gpu["reserve_bytes"]
    plan.expected_workers = fit_count(plan)
    if plan.expected_workers == 0:
        raise DemoError(f"no worker of {plan.resident} and {plan.burst} fits on this card: "
                        f"brim why --fit --vram {plan.resident} --burst {plan.burst}")
    left = (gpu["capacity_bytes"] - plan.reserve_bytes - plan.context_bytes
            - plan.expected_workers * (plan.model_bytes + plan.context_bytes))
    # Where bursts are in use there is less; several workers rarely are without.
    share = 0.8 if plan.expected_workers == 1 else 0.35
    plan.foreign_least_bytes = int(min(plan.foreign_bytes, left * share))


def worker_command(plan):
    if plan.worker == "python":
        tree = Path(__file__).resolve().parents[1]
        os.environ["PYTHONPATH"] = str(tree / "python")
        os.environ["BRIM_LIB"] = str(Path(plan.build).resolve() / "libbrim.so.0")
        return [sys.executable, str(tree / "examples/narrator/worker.py")]
    return [plan.narrator]


def batch_command(plan):
    return [plan.brim, "batch", "run", "--name", plan.batch, "--lines", plan.segments,
            "--out", str(plan.path(plan.outputs)) + "/${SEGMENT}.wav",
            "--vram", plan.resident, "--burst", plan.burst, "--flush-every", str(plan.flush_every),
            "--summary", str(plan.path(plan.name + "-batch.json")),
            # On a real GPU the batch may be known from an earlier demo.
            *(["--again"] if plan.is_real else []), "--",
            *worker_command(plan), "--log", str(plan.path(plan.log))]


def main(plan):
    plan.started_ms = int(time.time() * 1000)
    plan.path(plan.outputs).mkdir()
    log = WorkersLog(plan.path(plan.log))
    start_daemon(plan)
    events = Events(plan)
    ask_for_sizes(plan)
    if plan.is_shown:
        screen.say(f"   brim why --fit --vram {plan.resident} --burst {plan.burst}: "
                   f"{plan.expected_workers} at once, right now.")
    with plan.path(plan.name + "-batch.txt").open("w", encoding="utf-8") as lines:
        batch = subprocess.Popen(batch_command(plan), stdin=subprocess.DEVNULL, stdout=lines,
                                 stderr=subprocess.STDOUT)
    try:
        counter = screen.Counter("narrated", plan.total)
        look = (lambda log: counter.show(len(log.done))) if plan.is_shown else None
        if plan.is_disturbed and log.wait_for(lambda log: len(log.done) >= plan.total // 3, batch,
                                              on_look=look):
            counter.clear()
            disturb(plan, batch, log, events)
        log.wait_for(lambda log: False, batch, on_look=look)
        counter.clear()
    finally:
        if batch.poll() is None:
            batch.send_signal(signal.SIGTERM)
            batch.wait()
        events.close()
    if batch.returncode != 0:
        raise DemoError(f"brim batch run ended with {batch.returncode}; its last lines:\n"
                        + tail(plan.path(plan.name + "-batch.txt")))
    plan.path(plan.name + "-events.json").write_text(json.dumps(events.seen, indent=1))
    fewest, most = fewest_and_most(plan, events.seen)
    return {"expected_workers": plan.expected_workers, "reserve_bytes": plan.reserve_bytes,
            "workers_min": fewest, "workers_max": most,
            "refusals": sum(is_ours(plan, event, "refused", "queued") for event in events.seen)}


def tail(path, count=8):
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-count:])


if __name__ == "__main__":
    sys.exit(stage.run_half(main))
