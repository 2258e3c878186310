# SPDX-License-Identifier: Apache-2.0
"""The first half: a number of workers that somebody once wrote into a script, because "the model
fits". They run until the card refuses one."""
import subprocess
import sys

import screen
import stage
from stage import DemoError, WorkersLog

REFUSED = 3  # the narrator's status when the card said no


def start_worker(plan, number, count):
    return subprocess.Popen(
        [plan.narrator, "--naive", "--list", plan.segments, "--out", str(plan.path("naive")),
         "--stride", str(count), "--offset", str(number), "--log", str(plan.path("naive.log"))],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, encoding="utf-8")


def first_to_end_badly(workers, log, total):
    """The first worker that ends with anything but 0; None if all end well."""
    counter = screen.Counter("narrated", total)
    running = list(workers)
    bad = None
    while running and bad is None:
        log.wait_for(lambda log: False, *running, on_look=lambda log: counter.show(len(log.done)))
        bad = next((worker for worker in running if worker.poll()), None)
        running = [worker for worker in running if worker.poll() is None]
    counter.clear()
    return bad


def main(plan):
    plan.path("naive").mkdir()
    log = WorkersLog(plan.path("naive.log"))
    count = plan.naive_workers
    screen.say(f"   {count} workers, hard-coded: {count} times 5.2 GB for "
               f"{screen.mib(plan.capacity_bytes)}.")
    workers = [start_worker(plan, number, count) for number in range(count)]
    try:
        bad = first_to_end_badly(workers, log, plan.total)
        if bad is None:
            screen.say("   The card refused nobody this time.")
            return {"failed_at": 0, "done": len(log.done), "asked_bytes": 0, "free_bytes": 0}
        report = bad.stdout.read()
        if bad.returncode != REFUSED:
            raise DemoError(f"a narrator ended with {bad.returncode}")
        refusal = stage.read_json(report, "the narrator")
    finally:
        # Its neighbours would go on, with their share of the book; nobody does the rest of it.
        for worker in workers:
            worker.kill()
            worker.wait()
    log.read()
    failed_at = refusal["refused_at"] + 1
    screen.say(f"   Segment {failed_at} of {plan.total}: CUDA_ERROR_OUT_OF_MEMORY. Asked for "
               f"{screen.mib(refusal['asked_bytes'])}; "
               f"{screen.mib(refusal['free_bytes'])} were free.", "red")
    screen.say(f"   The worker is gone, and one of every {count} sentences with it. The pipeline "
               f"stands still: {len(log.done)} of {plan.total} segments done.")
    return {"failed_at": failed_at, "done": len(log.done), **refusal}


if __name__ == "__main__":
    sys.exit(stage.run_half(main))
