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

    def drain(self):
        """What has come since the last look joins the events that were seen."""
        while not self._queue.empty():
            event = self._queue.get()
            if event:
                self.seen.append(event)

    def wait_for(self, is_wanted, process, patience_s=stage.PATIENCE_S):
        """The first event after those seen so far that is wanted; None if the process ends."""
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            try:
                event = self._queue.get(timeout=0.2)
            except queue.Empty:
                if process.poll() is not None:
                    return None
                continue
            if event is None:
                raise DemoError("brim events ended")
            self.seen.append(event)
            if is_wanted(event):
                return event
        raise DemoError(f"the event that was waited for did not come within {patience_s:.0f} s")

    def close(self):
        self._process.kill()
        self._process.wait()
        self.drain()


class Foreign:
    """The program that knows nothing of Brim."""

    def __init__(self, plan, reserve):
        self._process = subprocess.Popen(
            [plan.foreign, "--bytes", f"{plan.foreign_bytes / 1e9}GB",
             "--least", f"{plan.foreign_least_bytes / 1e9}GB", "--leave", f"{reserve >> 20}MiB"],
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


def is_ours(plan, event, *kinds):
    return event["kind"] in kinds and event.get("name", "").startswith(plan.batch)


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


def strike(plan, log, reserve):
    """One try: the foreign program takes memory, and one worker is killed in mid-segment while it
    holds it. (foreign, pid, segment), or None where no worker stands inside a segment or the card
    has no such room at this moment.

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
        foreign = Foreign(plan, reserve)
        if foreign.held_bytes == 0 or not kill_and_wait(victim[0]):
            foreign.kill()
            return None
        return foreign, *victim
    finally:
        thaw(pids)


def strike_until_it_hits(plan, batch, log, reserve):
    for _ in range(STRIKES):
        seen = len(log.entries)
        if not log.wait_for(lambda log: len(log.entries) > seen, batch):
            break
        hit = strike(plan, log, reserve)
        if hit:
            return hit
    raise DemoError("there was no moment to disturb the batch at")


def disturb(plan, batch, log, events, reserve):
    """A foreign program, a killed worker, a refusal, and the foreign program's end."""
    events.drain()
    foreign, pid, segment = strike_until_it_hits(plan, batch, log, reserve)
    try:
        screen.say(f"   A foreign program takes {foreign.held_bytes / 1e9:.1f} GB. While it holds "
                   f"them, worker {pid} is killed (SIGKILL) in segment {segment + 1}.", "yellow")
        event = events.wait_for(lambda event: is_ours(plan, event, "refused", "queued"), batch)
        if event is None:
            raise DemoError("the batch ended and no successor was refused")
        screen.say("   Its successor is refused, and waits:")
        screen.say(screen.indent(event["text"]), "yellow")
        foreign.dismiss()
        event = events.wait_for(lambda event: is_ours(plan, event, "granted"), batch)
        if event is None:
            raise DemoError("the batch ended and no successor was granted")
        screen.say(f"   The foreign program has ended: {event['name']} is granted its memory and "
                   "starts.", "green")
    finally:
        foreign.kill()


def fewest_and_most(plan, events):
    """Workers at one time, by the daemon's events: between the first start and the last."""
    leases, levels = set(), []
    for event in events:
        if is_ours(plan, event, "granted"):
            leases.add(event["lease"])
        elif is_ours(plan, event, "released", "lost"):
            leases.discard(event["lease"])
        else:
            continue
        levels.append((len(leases), event["kind"]))
    # The end of the batch is no low: what counts is before the last start.
    starts = [place for place, (_, kind) in enumerate(levels) if kind == "granted"]
    if not starts:
        return 0, 0
    between = [level for level, _ in levels[starts[0]:starts[-1] + 1]]
    return min(between), max(between)


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


def reserve_bytes(plan):
    """What Brim never grants on this card."""
    asked = subprocess.run([plan.brim, "ps", "--json"], stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, encoding="utf-8")
    return stage.read_json(asked.stdout, "brim ps --json")["gpus"][0]["reserve_bytes"]


def batch_command(plan):
    return [plan.brim, "batch", "run", "--name", plan.batch, "--lines", plan.segments,
            "--out", str(plan.path(plan.outputs)) + "/${SEGMENT}.wav",
            "--vram", plan.resident, "--burst", plan.burst, "--flush-every", str(plan.flush_every),
            "--summary", str(plan.path(plan.name + "-batch.json")), "--",
            plan.narrator, "--log", str(plan.path(plan.log))]


def main(plan):
    plan.path(plan.outputs).mkdir()
    log = WorkersLog(plan.path(plan.log))
    start_daemon(plan)
    events = Events(plan)
    expected = fit_count(plan)
    reserve = reserve_bytes(plan)
    if plan.is_shown:
        screen.say(f"   brim why --fit --vram {plan.resident} --burst {plan.burst}: {expected} "
                   f"worker{'s' if expected != 1 else ''} at once, right now.")
    with plan.path(plan.name + "-batch.txt").open("w", encoding="utf-8") as lines:
        batch = subprocess.Popen(batch_command(plan), stdin=subprocess.DEVNULL, stdout=lines,
                                 stderr=subprocess.STDOUT)
    try:
        counter = screen.Counter("narrated", plan.total)
        look = (lambda log: counter.show(len(log.done))) if plan.is_shown else None
        if plan.is_disturbed and log.wait_for(lambda log: len(log.done) >= plan.total // 3, batch,
                                              on_look=look):
            counter.clear()
            disturb(plan, batch, log, events, reserve)
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
    return {"expected_workers": expected, "reserve_bytes": reserve, "workers_min": fewest, "workers_max": most,
            "refusals": sum(is_ours(plan, event, "refused", "queued") for event in events.seen)}


def tail(path, count=8):
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-count:])


if __name__ == "__main__":
    sys.exit(stage.run_half(main))
