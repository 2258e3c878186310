# SPDX-License-Identifier: Apache-2.0
"""Workers of a batch, written in Python: brim.segments()."""
import json
import os
import sys

import pytest

import brim


@pytest.fixture
def batch(script, short_dir):
    """batch(text, *flags, count=…): a batch of whose worker this is the text; (status, summary)."""
    machine = script.machine

    def run(text, *flags, count=6, env=None):
        (short_dir / "worker.py").write_text("import brim, os, sys\n" + text)
        (short_dir / "in.txt").write_text("".join(f"line {n}\n" for n in range(count)))
        done = machine.brim("batch", "run", "--name", "b", "--lines", "in.txt",
                            "--out", "out/${SEGMENT}.txt", "--vram", "5.5GB", "--burst", "2.1GB",
                            "--retries", "1", "--summary", "summary.json", *flags, "--",
                            sys.executable, "worker.py", cwd=short_dir, env=env)
        run.stderr = done.stdout + done.stderr
        return done.returncode, json.loads((short_dir / "summary.json").read_text())

    run.dir, run.machine = short_dir, machine
    run.output = lambda n: (short_dir / "out" / f"{n:06}.txt").read_text()
    return run


SHOUT = """
for segment in brim.segments():
    segment.burst("1GB")
    with open(segment.out, "w") as out:
        out.write(f"{segment.index} {segment.id} {segment.input.upper()}")
"""


def test_a_loop_is_a_worker(batch):
    status, summary = batch(SHOUT)
    assert status == 0 and summary["segments_done"] == 6, batch.stderr
    assert [batch.output(n) for n in range(6)] == [f"{n} {n:06} LINE {n}" for n in range(6)]


def test_with_segment_an_exception_is_a_failure_of_this_segment_alone(batch):
    status, summary = batch("""
open("pids", "a").write(f"{os.getpid()}\\n")
for segment in brim.segments():
    with segment:
        if segment.index == 2:
            raise ValueError("no speech in it")
        if segment.index == 3:
            segment.failed("too quiet")
            continue
        open(segment.out, "w").write("x")
        if segment.index == 4:
            segment.done()
""")
    assert status != 0 and summary["segments_done"] == 4, batch.stderr
    assert "ValueError: no speech in it" in batch.stderr and "too quiet" in batch.stderr
    assert (batch.dir / "pids").read_text().count("\n") == 1  # the same worker all along


def test_an_exception_that_leaves_the_loop_costs_the_worker_not_the_segment(batch):
    status, summary = batch("""
for segment in brim.segments():
    if segment.index == 3 and not os.path.exists("once"):
        open("once", "w")
        raise RuntimeError("boom")
    open(segment.out, "w").write(segment.input)
""")
    assert status == 0 and summary["segments_done"] == 6, batch.stderr
    assert [batch.output(n) for n in range(6)] == [f"line {n}" for n in range(6)]


def test_a_worker_that_is_killed_in_a_segment_loses_nothing(batch):
    status, summary = batch("""
import signal
for segment in brim.segments():
    segment.burst()
    if segment.index == 1 and not os.path.exists("once"):
        open("once", "w")
        os.kill(os.getpid(), signal.SIGKILL)
    open(segment.out, "w").write(segment.input)
""")
    assert status == 0 and summary["segments_done"] == 6, batch.stderr


def test_a_flush_calls_its_callbacks_between_segments(batch):
    status, _ = batch("""
lines = []
@brim.on_flush
def flush():
    open("flushes", "a").write("flush\\n")
for segment in brim.segments():
    open(segment.out, "w").write(segment.input)
""", "--flush-every", "2")
    assert status == 0, batch.stderr
    assert len((batch.dir / "flushes").read_text().splitlines()) == 2


def test_a_flush_that_raises_gets_a_fresh_worker(batch):
    status, summary = batch("""
@brim.on_flush
def flush():
    raise RuntimeError("no")
for segment in brim.segments():
    open(segment.out, "w").write(str(os.getpid()))
""", "--flush-every", "3")
    assert status == 0 and summary["segments_done"] == 6, batch.stderr
    assert len({batch.output(n) for n in range(6)}) == 2


def test_a_flush_that_never_returns_gets_a_fresh_worker(batch):
    """It is asked to stop, does not, and is killed; no segment is lost by it."""
    status, summary = batch("""
import threading
@brim.on_flush
def flush():
    if not os.path.exists("once"):
        open("once", "w").close()
        threading.Event().wait()
for segment in brim.segments():
    open(segment.out, "w").write(str(os.getpid()))
""", "--flush-every", "3", "--timeout", "3s", "--workers", "1")
    assert status == 0 and summary["segments_done"] == 6, batch.stderr
    assert "has not flushed in 3.0 s and is restarted" in batch.stderr
    assert len({batch.output(n) for n in range(6)}) == 2


def test_misuse_is_said(batch):
    status, _ = batch("""
said = []
for segment in brim.segments():
    for use in (lambda: segment.burst("3GB"), lambda: next(brim.segments()),
                lambda: segment.burst("3")):
        try:
            use()
        except (brim.Error, ValueError) as error:
            said.append(type(error).__name__)
    open(segment.out, "w").write(" ".join(said))
    segment.done()
    try:
        segment.done()
    except brim.StateError as error:
        open("twice", "w").write(str(error))
""", count=1)
    assert status == 0, batch.stderr
    assert batch.output(0) == "Refused StateError ValueError"
    assert "was answered before" in (batch.dir / "twice").read_text()


def test_outside_of_a_batch_it_says_how_to_be_in_one(monkeypatch, python_env):
    for name, value in python_env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("BRIM_FD", raising=False)
    with pytest.raises(brim.Invalid, match="brim batch run"):
        next(brim.segments())


def test_a_heartbeat_is_kept_without_a_word(batch):
    """A segment that takes three times the limit, in C code that lets other threads run."""
    status, summary = batch("""
import select
for segment in brim.segments():
    if segment.index == 0:
        select.select([], [], [], 1.5)
    open(segment.out, "w").write(os.environ["WATCHDOG_USEC"])
""", "--heartbeat", "500ms", count=2)
    assert status == 0 and summary["segments_done"] == 2, batch.stderr
    assert batch.output(0) == "500000"


def test_jsonl_inputs_are_objects(batch, short_dir):
    (short_dir / "in.jsonl").write_text('{"text": "hello", "n": 1}\n')
    (short_dir / "w.py").write_text("import brim\nfor segment in brim.segments():\n"
                                    "    open(segment.out, 'w').write(segment.json()['text'])\n")
    done = batch.machine.brim("batch", "run", "--name", "j", "--jsonl", "in.jsonl", "--out",
                              "o/${SEGMENT}", "--vram", "1GB", "--", sys.executable, "w.py",
                              cwd=short_dir)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (short_dir / "o" / os.listdir(short_dir / "o")[0]).read_text() == "hello"


def test_the_children_of_a_worker_do_not_answer_for_it(batch):
    """By fork, beside a heartbeat that may hold any lock at that moment; and as a DataLoader's."""
    status, summary = batch("""
import multiprocessing
def child(segment):
    said = []
    for use in (lambda: segment.burst("1GB"), segment.done, lambda: segment.failed("no"),
                lambda: next(brim.segments())):
        try:
            use()
        except brim.Error as error:
            said.append(type(error).__name__)
        segment.is_answered = False
    brim.heartbeat()
    return said
def work(number):
    return number * number
for segment in brim.segments():
    segment.burst("1GB")
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writing, " ".join(child(segment)).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        squares = pool.map(work, range(4))
    open(segment.out, "w").write(os.read(reading, 999).decode() + f" {squares}")
    os.close(reading), os.close(writing)
    pid = os.fork()                    # a child that leaves the loop by its end, as careless ones do
    if pid == 0:
        sys.exit(0)
    os.waitpid(pid, 0)
""", "--heartbeat", "10s", count=6)
    assert status == 0 and summary["segments_done"] == 6, batch.stderr
    assert {batch.output(n) for n in range(6)} == {"Forked Forked Forked StateError [0, 1, 4, 9]"}
