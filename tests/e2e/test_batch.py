# SPDX-License-Identifier: Apache-2.0
"""brim batch: every segment is done once and kept, whatever happens meanwhile."""
import json
import os
import signal
import sys

from batch_kit import PATIENCE_S, WORKER, Batch, make_batch, read_until, wait_gone  # noqa: F401


def test_every_line_becomes_one_output(batch):
    done = batch.run()
    assert done.returncode == 0, done.stderr
    batch.check_complete()
    summary = batch.summary()
    assert summary["segments_done"] == summary["segments_total"] == 50
    assert summary["end"] == "done" and summary["segments_retried"] == 0
    assert "b: all 50 segments done in" in done.stderr
    again = batch.run()
    assert again.returncode == 0
    assert "all 50 segments are done already; --again starts over" in again.stderr


def test_as_many_workers_as_fit(start_emulator, short_dir):
    machine = start_emulator(gpu="rtx4090")
    batch = Batch(machine, short_dir, count=60)
    running = batch.start("--burst", "2.1GB", env={
        **batch.lead(), "READY": '{"ready": true, "asks": true}', "BURST": "1000000"})
    for number in range(1, 5):
        machine.events.wait(kind="granted", name=f"b-{number}")
    line = read_until(running.stderr, "worker 5 waits")
    assert 'b: worker 5 waits: no room for "b-5"' in line
    batch.open_gate(60)
    assert running.wait(PATIENCE_S) == 0
    batch.check_complete()
    # 4 * 5.5 + 2.1 GB and the reserve fit 24 564 MiB, a fifth does not.
    assert batch.summary()["workers_max"] == 4
    assert batch.summary()["refusals"] >= 1
    batch.close()


def test_a_killed_worker_costs_one_try(batch):
    done = batch.run(env={"DIE_AT": "000007"})
    assert done.returncode == 0, done.stderr
    batch.check_complete()
    assert batch.summary()["segments_retried"] == 1
    assert batch.summary()["workers_crashed"] == 1
    assert "killed by signal 9 (Killed)" in done.stderr


def test_a_segment_that_always_kills_is_set_aside(batch):
    done = batch.run("--retries", "1", env={"DIE_AT": "000003", "DIE_ALWAYS": "1"})
    assert done.returncode == 1, done.stderr
    assert len(batch.outputs()) == 49
    assert batch.summary()["segments_failed"] == 1 and batch.summary()["end"] == "incomplete"
    failures = batch.show()["failures"]
    assert [(f["id"], f["tries"]) for f in failures] == [("000003", 2)]
    assert "killed by signal 9" in failures[0]["reason"]
    assert "000003  after 2 tries: worker" in batch.machine.brim("batch", "show", "b").stdout
    # The same command tries what was set aside once more.
    assert batch.run().returncode == 0
    batch.check_complete()


def test_a_failed_segment_keeps_its_reason(batch):
    done = batch.run("--retries", "0", env={"FAIL_AT": "000049"})
    assert done.returncode == 1
    assert batch.show()["failures"][0]["reason"] == "no speech in it"


def test_a_killed_batch_goes_on_and_leaves_nobody(batch):
    first = batch.start("--workers", "1", env=batch.lead())
    batch.open_gate(20)
    pids = {batch.next_begin()[1] for _ in range(21)}
    first.kill()
    first.wait(PATIENCE_S)
    for pid in pids:
        assert wait_gone(pid)
    state = batch.show()
    assert state["state"] == "stopped" and state["segments_done"] == 20
    second = batch.run()
    assert second.returncode == 0, second.stderr
    assert "goes on: 20 of 50 segments are done" in second.stderr
    batch.check_complete()


def test_a_killed_daemon_costs_nothing(batch):
    running = batch.start("--burst", "2.1GB", env={**batch.lead(), "BURST": "0"})
    batch.open_gate(10)
    for _ in range(11):
        batch.next_begin()
    old = batch.machine.daemon_pid()
    os.kill(old, signal.SIGKILL)
    batch.open_gate(40)
    assert running.wait(PATIENCE_S) == 0, running.stderr.read()
    batch.check_complete()
    assert batch.summary()["segments_retried"] == 0
    assert batch.machine.daemon_pid() != old


def test_a_second_run_is_told_who_runs_it(batch):
    first = batch.start(env=batch.lead())
    batch.next_begin()
    second = batch.run()
    assert second.returncode == 1
    assert f"batch 'b' is already run by process {first.pid}" in second.stderr
    batch.open_gate(50)
    assert first.wait(PATIENCE_S) == 0


def test_ctrl_c_ends_at_the_segment_boundary(batch):
    running = batch.start("--workers", "1", env=batch.lead())
    batch.next_begin()
    running.send_signal(signal.SIGINT)
    assert "ending when the segments in work are finished" in read_until(running.stderr, "ending")
    batch.open_gate()
    assert running.wait(PATIENCE_S) == 130
    assert batch.outputs() == ["000000.txt"]
    assert batch.summary()["end"] == "interrupted"
    assert batch.run().returncode == 0
    batch.check_complete()


def test_ctrl_c_twice_ends_at_once(batch):
    running = batch.start("--workers", "1", env=batch.lead())
    _, pid = batch.next_begin()
    running.send_signal(signal.SIGINT)
    read_until(running.stderr, "ending")
    running.send_signal(signal.SIGINT)
    assert running.wait(PATIENCE_S) == 130
    assert wait_gone(pid)
    assert batch.outputs() == []
    assert batch.summary()["segments_failed"] == 0


def test_sighup_does_not_end_it(batch):
    running = batch.start(env=batch.lead())
    batch.next_begin()
    running.send_signal(signal.SIGHUP)
    batch.open_gate(50)
    assert running.wait(PATIENCE_S) == 0
    batch.check_complete()


def test_cancel_reaches_the_process_that_runs_it(batch):
    running = batch.start("--workers", "1", env=batch.lead())
    batch.next_begin()
    told = batch.machine.brim("batch", "cancel", "b")
    assert told.stdout == f"b (process {running.pid}) ends when the segments in work are finished\n"
    batch.open_gate()
    assert running.wait(PATIENCE_S) == 143
    assert "batch 'b' is not running" in batch.machine.brim("batch", "cancel", "b").stderr


def test_cancel_now_ends_it_at_once(batch):
    running = batch.start("--workers", "1", env=batch.lead())
    batch.next_begin()
    assert batch.machine.brim("batch", "cancel", "b", "--now").returncode == 0
    assert running.wait(PATIENCE_S) in (130, 143)


def test_detached_it_outlives_its_starter(batch):
    started = batch.run("-d", env=batch.lead())
    assert started.returncode == 0, started.stderr
    assert started.stdout.startswith("b runs in the background (process ")
    pid = int(started.stdout.split("process ")[1].split(")")[0])
    batch.next_begin()
    row = json.loads(batch.machine.brim("batch", "ls", "--json").stdout)[0]
    assert row["pid"] == pid and row["state"] == "running" and os.getsid(pid) == pid
    batch.open_gate(50)
    assert wait_gone(pid)
    batch.check_complete()
    assert "all 50 segments done" in batch.machine.brim("logs", "b").stdout
    refused = batch.run("-d", "--again", command=("nosuchprogram",))
    assert refused.returncode == 2 and "there is no such program on PATH" in refused.stderr


def test_changed_input_runs_what_is_new_or_changed(batch):
    assert batch.run().returncode == 0
    batch.write_input(52, changed=(4, 40))
    done = batch.run()
    assert done.returncode == 0
    assert "2 segments changed since the last run and run again" in done.stderr
    assert batch.summary()["segments_done_before"] == 48
    batch.check_complete()
    batch.write_input(10, changed=(4,))
    done = batch.run()
    assert "42 segments are no longer in the input; their outputs stay" in done.stderr
    assert batch.show()["segments_total"] == 10


def test_another_batch_does_not_write_over_the_results(batch):
    assert batch.run().returncode == 0
    words = batch.words()
    words[words.index("b")] = "other"
    refused = batch.machine.brim(*words, cwd=batch.dir)
    assert refused.returncode == 1
    assert "batch 'b' has its results at" in refused.stderr and "(50 done)" in refused.stderr
    batch.check_complete()
    assert batch.machine.brim("batch", "show", "other").returncode == 1
    assert batch.run().returncode == 0


def test_a_lost_output_runs_again(batch):
    assert batch.run().returncode == 0
    (batch.dir / "out" / "000005.txt").unlink()
    (batch.dir / "out" / "000006.txt").write_text("cut")
    done = batch.run()
    assert "2 outputs are gone or were changed; their segments run again" in done.stderr
    batch.check_complete()


def test_again_starts_over_and_keeps_the_old(batch):
    assert batch.run().returncode == 0
    assert batch.run("--again").returncode == 0
    names = batch.outputs()
    assert len(names) == 100 and "000000.old-1.txt" in names and "000000.txt" in names
    assert batch.summary()["segments_done_before"] == 0


def test_input_that_vanishes_changes_nothing(batch):
    running = batch.start(env=batch.lead())
    batch.next_begin()
    (batch.dir / "in.txt").unlink()
    batch.open_gate(50)
    assert running.wait(PATIENCE_S) == 0
    batch.check_complete()
    gone = batch.run()
    assert gone.returncode == 1 and "cannot read the input" in gone.stderr


def test_each_needs_no_protocol(batch):
    done = batch.run("--each", command=(
        "sh", "-c", 'printf "%s\\n" "$1" | tr a-z A-Z >"$OUT"; test "$2" = "$SEGMENT"', "sh",
        "${INPUT}", "${SEGMENT}"))
    assert done.returncode == 0, done.stderr
    batch.check_complete()
    assert batch.summary()["workers_max"] >= 1 and batch.summary()["refusals"] >= 1


def test_each_takes_its_status_for_the_answer(batch):
    done = batch.run("--each", "--retries", "0", "--burst", "1GB", "--workers", "1", command=(
        "sh", "-c", 'echo "cannot sing" >&2; test "$SEGMENT" != 000002 && cp in.txt "$OUT"'))
    assert done.returncode == 1
    assert len(batch.outputs()) == 49
    reason = batch.show()["failures"][0]["reason"]
    assert "ended with status 1" in reason and "cannot sing" in reason


def test_stdio_for_languages_without_descriptors(batch):
    done = batch.run("--protocol", "stdio", env={"STDIO": "1"})
    assert done.returncode == 0, done.stderr
    batch.check_complete()


def test_jsonl_hands_on_the_object(batch):
    (batch.dir / "in.jsonl").write_text('{"text": "a"}\n\n{"text": "b"}\n')
    done = batch.machine.brim("batch", "run", "j", "--jsonl", "in.jsonl", "--out", "j/${SEGMENT}",
                              "--vram", "1GB", "--", sys.executable, WORKER, cwd=batch.dir)
    assert done.returncode == 0, done.stderr
    assert (batch.dir / "j" / "000001").read_text() == '{"TEXT": "B"}\n'
    (batch.dir / "in.jsonl").write_text('{"text": "a"}\n[1]\n')
    done = batch.machine.brim("batch", "run", "j", "--jsonl", "in.jsonl", "--out", "j/${SEGMENT}",
                              "--vram", "1GB", "--", sys.executable, WORKER, cwd=batch.dir)
    assert done.returncode == 1 and "in.jsonl:2: a line must be a JSON object" in done.stderr


def test_files_are_segments(batch):
    for name in ("b.wav", "a.wav"):
        (batch.dir / name).write_text(name)
    done = batch.machine.brim("batch", "run", "f", "--files", "*.wav", "--out", "f/${SEGMENT}",
                              "--vram", "1GB", "--each", "--", "cp", "${INPUT}", "${OUT}",
                              cwd=batch.dir)
    assert done.returncode == 0, done.stderr
    assert [(batch.dir / "f" / n).read_text() for n in ("000000", "000001")] == ["a.wav", "b.wav"]
