# SPDX-License-Identifier: Apache-2.0
"""brim plan: what it prints, what it says of wrong input, and that what a real daemon did comes out
of a recording as it was."""
import json
import re
import signal
import subprocess

from raw_client import (ACQUIRE, BURST_END, BURST_GRANTED, GRANTED, QUEUED, READY, REFUSED, RELEASE,
                        RawClient, claim)

MIB, GIB = 1 << 20, 1 << 30
FOR_EVER = 2**64 - 1
SECRET = "not-for-a-trace"


class Recorder:
    """brim plan --record, from the moment at which it follows."""

    def __init__(self, machine, path):
        self.process = machine.spawn_brim("plan", "--record", path, stdout=subprocess.PIPE,
                                          stderr=subprocess.PIPE)
        assert "recording to" in self.process.stderr.readline()

    def end(self):
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=30)
        assert self.process.returncode == 0, err
        return out


def play(machine, path, *options):
    done = machine.brim("plan", "--trace", path, *options, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    return answer["gpus"], {policy["policy"]: policy for policy in answer["policies"]}


def holder(machine, **terms):
    client = RawClient(machine.runtime_dir)
    answer = client.acquire(**terms)
    return client, answer


def test_a_recording_plays_as_it_was(emulator, short_dir):
    path = short_dir / "day.trace"
    assert emulator.brim("daemon", "start").returncode == 0
    early, answer = holder(emulator, name="early", resident=512 * MIB)
    assert answer["type"] == GRANTED
    events = emulator.events
    recorder = Recorder(emulator, path)

    large, answer = holder(emulator, name="large", resident=8 * GIB, burst=GIB)
    assert answer["type"] == GRANTED
    large.ask(READY)
    waiting = RawClient(emulator.runtime_dir)
    request = waiting.send(ACQUIRE, claim(name="waiting", resident=4 * GIB, wait_ms=60000))
    assert waiting.answer(request)["type"] == QUEUED
    assert holder(emulator, name="soon", resident=5 * GIB)[1]["type"] == REFUSED
    assert holder(emulator, name="huge", resident=20 * GIB, wait_ms=FOR_EVER)[1]["type"] == REFUSED
    small, answer = holder(emulator, name="small", resident=512 * MIB, burst=2 * GIB)
    assert answer["type"] == GRANTED
    small.ask(READY)
    emulator.ps()  # here and below: what follows is no part of the same millisecond
    assert large.burst()["type"] == BURST_GRANTED
    emulator.ps()
    assert small.burst(wait_ms=300)["type"] == QUEUED
    assert small.wait(REFUSED)
    emulator.ps()
    large.ask(BURST_END)
    assert small.burst()["type"] == BURST_GRANTED
    small.ask(BURST_END)
    assert large.burst(size=512 * MIB)["type"] == BURST_GRANTED
    large.close()
    granted = waiting.wait(GRANTED)
    waiting.ask(READY)

    # No child of ours: the holders' process tree is this one.
    hog = emulator.spawn("setsid", "--fork", emulator.build / "tests" / "hog", "--bytes", "2GiB",
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert "holding" in hog.stdout.readline()
    events.wait(kind="foreign_grew")
    hog.stdin.close()
    events.wait(kind="foreign_shrank")
    done = emulator.brim("run", "--vram", "256MiB", "--name", "run", "--", "sh", "-c", "exit 0",
                         SECRET, env={"BRIM_TEST_SECRET": SECRET})
    assert done.returncode == 0, done.stderr
    waiting.ask(RELEASE)
    small.ask(RELEASE)
    emulator.ps()
    said = recorder.end()
    early.close()

    text = path.read_text()
    assert SECRET not in text
    assert not path.with_name("day.trace.part").exists()
    assert re.search(r"^0s +gpu 0 12282MiB reserve=800MiB$", text, re.M), text
    assert re.search(r"^\S+ +foreign gpu=0 2\d\d\d", text, re.M), text
    assert re.search(r"job huge resident=20GiB wait=never  # it did not run$", text, re.M), text
    assert "7 jobs (5 let in, 2 refused), 3 bursts" in said

    (gpu,), policies = play(emulator, path)
    brim = policies["brim"]
    assert gpu == {"capacity_bytes": 12282 * MIB, "reserve_bytes": 800 * MIB}
    counts = {key: brim[key] for key in ("jobs", "granted", "never_fit", "gave_up", "stuck",
                                         "bursts", "bursts_refused", "worst_passed", "evicted")}
    assert counts == {"jobs": 7, "granted": 5, "never_fit": 1, "gave_up": 1, "stuck": 0,
                      "bursts": 3, "bursts_refused": 1, "worst_passed": 1, "evicted": 0}, text
    # It waited for the same reason and no longer: only the driver's own delay is not in a trace.
    lease = f"l{granted['lease']}"
    waited_ms = (events.wait(kind="granted", lease=lease)["at_unix_ms"]
                 - events.wait(kind="queued", lease=lease)["at_unix_ms"])
    assert 300 <= brim["waits"]["worst_ms"] <= waited_ms + 50
    assert brim["waits"]["p50_ms"] == 0

    # What the daemon has kept says the same, with bursts on average.
    past = short_dir / "past.trace"
    done = emulator.brim("plan", "--record", past, "--past")
    assert done.returncode == 0 and "7 jobs (5 let in, 2 refused)" in done.stdout, done.stderr
    kept = past.read_text()
    assert SECRET not in kept
    assert re.search(r"job large resident=8GiB burst=1GiB wait=0s load=\S+ run=\S+ busy=\S+ idle=",
                     kept), kept
    assert re.search(r"^\S+ +foreign gpu=0 2\d\d\d", kept, re.M), kept
    _, policies = play(emulator, past)
    brim = policies["brim"]
    assert (brim["granted"], brim["never_fit"], brim["gave_up"]) == (5, 1, 1), kept
    assert 300 <= brim["waits"]["worst_ms"] <= waited_ms + 50, kept

    # The same day on a larger card: who could never fit would have waited for it, as long as it took.
    _, policies = play(emulator, path, "--gpu", "24GiB")
    brim = policies["brim"]
    assert (brim["granted"], brim["never_fit"], brim["gave_up"]) == (7, 0, 0), text
    assert brim["waits"]["p50_ms"] == 0 and brim["waits"]["worst_ms"] > 0


def test_a_recording_needs_a_daemon_and_ends_with_it(emulator, short_dir):
    path = short_dir / "none.trace"
    done = emulator.brim("plan", "--record", path, timeout=30)
    assert done.returncode == 1 and "no daemon runs" in done.stderr
    assert not path.exists() and not path.with_name("none.trace.part").exists()
    done = emulator.brim("plan", "--record", path, "--past")
    assert done.returncode == 1 and "no daemon runs" in done.stderr and not path.exists()
    done = emulator.brim("plan", "--record", short_dir / "no" / "file")
    assert done.returncode == 1 and "cannot write" in done.stderr

    assert emulator.brim("daemon", "start").returncode == 0
    recorder = Recorder(emulator, path)
    client, _ = holder(emulator, name="left behind", resident=GIB)
    emulator.ps()
    assert emulator.brim("daemon", "stop").returncode == 0
    out, err = recorder.process.communicate(timeout=30)
    assert recorder.process.returncode == 0, err
    assert "1 jobs (1 let in, 0 refused)" in out
    assert re.search(r"job left_behind resident=1GiB .* # it was still there at the end$",
                     path.read_text(), re.M)
    client.close()


def test_wrong_input_is_told_by_file_and_line(bare, short_dir):
    path = short_dir / "bad.trace"
    for text, complaint in (
            ("0s job a resident=1\n", ":1: 1 what?"),
            ("# fine\n\n5s job a resident=1GiB\n4s job b resident=1GiB\n", ":4: times must not go"),
            ("0s job a resident=1GiB gpu=1\n", ":1: there is no gpu 1"),
            ("0s job a resident=1GiB burst=1GiB\nburst after=1s for=1s\n", "lack their end"),
            ("burst after=1s for=1s\n", ":1: a burst without a job"),
            ("0s job a resident=1GiB\ngarbage\n", ":2: 'garbage' is not a duration"),
            ("0s job a resident=1GiB resident=2GiB\n", ":1: resident is there twice"),
            ("1s foreign gpu=0 1GiB\n", "has no job")):
        path.write_text(text)
        done = bare.brim("plan", "--trace", path)
        assert done.returncode == 2, (text, done.stdout, done.stderr)
        assert complaint in done.stderr and str(path) in done.stderr, done.stderr
        assert done.stdout == ""
    done = bare.brim("plan", "--trace", short_dir / "none")
    assert done.returncode == 1 and "cannot open" in done.stderr
    for words in ((), ("--arrivals", "0"), ("--arrivals", "5", "--gpu", "rtx9999"),
                  ("--arrivals", "5", "--trace", "x"), ("--arrivals", "5", "--reserve", "99GiB"),
                  ("--arrivals", "5", "--for", "1s"), ("--record", "x", "--gpu", "h100"),
                  ("--arrivals", "5", "--past"), ("--record", "x", "--past", "--for", "1s")):
        done = bare.brim("plan", *words)
        assert done.returncode == 2 and done.stderr.startswith("brim plan: "), (words, done.stderr)


def test_figures_fit_a_narrow_terminal_and_are_the_same_each_time(bare):
    first = bare.brim("plan", "--arrivals", "3000", "--gpu", "h100", "--gpu", "24GiB",
                      env={"COLUMNS": "80"})
    again = bare.brim("plan", "--arrivals", "3000", "--gpu", "h100", "--gpu", "24GiB",
                      env={"COLUMNS": "80"})
    assert first.returncode == 0, first.stderr
    assert max(map(len, first.stdout.splitlines())) <= 80, first.stdout
    for words in ("BRIM", "FCFS", "LARGEST", "jobs let in", "99 in 100", "jobs refused", "evicted",
                  "overtaken by at most", "memory in use", "events a second"):
        assert words in first.stdout, first.stdout
    def without_speed(text):
        return [line for line in text.splitlines() if "events a second" not in line]
    assert without_speed(first.stdout) == without_speed(again.stdout)
    more = bare.brim("plan", "--arrivals", "3000", "--gpu", "h100", "--json")
    brim, fcfs, largest = json.loads(more.stdout)["policies"]
    assert (brim["policy"], fcfs["policy"], largest["policy"]) == ("brim", "fcfs", "largest")
    for policy in (brim, fcfs, largest):
        assert policy["jobs"] == 3000 == (policy["granted"] + policy["gave_up"]
                                          + policy["never_fit"] + policy["stuck"])
        assert policy["waits"]["count"] == policy["granted"] and policy["events_per_s"] > 0
