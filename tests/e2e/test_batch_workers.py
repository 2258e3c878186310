# SPDX-License-Identifier: Apache-2.0
"""brim batch: flushes, workers that misbehave, memory that comes and goes, bad input."""
import os
import resource
import signal
import subprocess
import sys

import pytest

from batch_kit import PATIENCE_S, WORKER, make_batch, read_until  # noqa: F401


# ---- flush ----

def test_flush_by_message_every_so_many_segments(batch):
    done = batch.run("--flush-every", "10", "--workers", "1",
                     env={"READY": '{"ready": true, "flush": true}'})
    assert done.returncode == 0, done.stderr
    assert batch.summary()["flushes"] == 4 or batch.summary()["flushes"] == 5
    assert (batch.dir / "flushed").exists()
    assert batch.summary()["workers_crashed"] == 0
    batch.check_complete()


def test_flush_by_restart_where_the_worker_cannot(batch):
    done = batch.run("--flush-every", "20", "--workers", "1", env={"FLUSH": "bad"})
    assert done.returncode == 0, done.stderr
    assert batch.summary()["flushes"] == 2
    logs = batch.machine.brim("logs", "b").stdout
    assert logs.count("worker 1 of b on GPU-") == 3
    batch.check_complete()


def test_brim_flush_reaches_a_running_batch(batch):
    running = batch.start("--workers", "1", env={
        **batch.lead(), "READY": '{"ready": true, "flush": true}'})
    batch.open_gate(3)
    for _ in range(4):
        batch.next_begin()
    told = batch.machine.brim("flush", "b")
    assert told.stdout == "b flushes each worker when its segment is finished\n", told.stderr
    read_until(running.stderr, "flush: every worker")
    batch.open_gate(47)
    assert running.wait(PATIENCE_S) == 0
    assert batch.summary()["flushes"] == 1
    batch.check_complete()


# ---- workers that misbehave ----

@pytest.mark.parametrize("said, reason", [
    ("Loading model...", "broke the protocol: a line that is no JSON: 'Loading model...'"),
    ('{"done": 77}', "broke the protocol: answered a segment that it does not have"),
    ("flood", "broke the protocol: more than 1024 KiB without a newline came"),
])
def test_what_breaks_the_protocol_costs_the_segment(batch, said, reason):
    done = batch.run("--retries", "0", env={"SAY_AT": "000005", "SAY": said})
    assert done.returncode == 1, done.stderr
    assert reason in batch.show()["failures"][0]["reason"]
    assert len(batch.outputs()) == 49


def test_done_without_an_output_is_a_failure(batch):
    done = batch.run("--retries", "0", env={"SAY_AT": "000005", "SAY": '{"done": 5}'})
    assert done.returncode == 1
    assert "it said done, but there is no output at" in batch.show()["failures"][0]["reason"]


@pytest.mark.parametrize("made", [
    'import os; os.symlink("/etc/hostname", os.environ["OUT"])',
    'import os, socket; socket.socket(socket.AF_UNIX).bind(os.environ["OUT"])',
    'import os; os.mkdir(os.environ["OUT"])',
])
def test_an_output_that_is_no_file_costs_the_segment_alone(batch, made):
    batch.write_input(3)
    done = batch.run("--each", "--retries", "0", command=(sys.executable, "-c", made))
    assert done.returncode == 1, done.stderr
    failures = batch.show()["failures"]
    assert len(failures) == 3
    assert all(failure["reason"].endswith("is no regular file") for failure in failures)


def test_a_time_limit_ends_a_segment(batch):
    done = batch.run("--retries", "0", "--timeout", "700ms", env={"SILENT_AT": "000001"})
    assert done.returncode == 1
    assert batch.show()["failures"][0]["reason"].endswith("took longer than 700 ms")
    assert len(batch.outputs()) == 49


def test_a_heartbeat_is_only_due_where_it_was_announced(batch):
    done = batch.run("--heartbeat", "600ms", "--retries", "0",
                     env={"SILENT_AT": "000001", "READY": '{"ready": true, "heartbeat": true}'})
    assert done.returncode == 1
    assert batch.show()["failures"][0]["reason"].endswith("sent no heartbeat for 600 ms")
    assert batch.run("--heartbeat", "600ms").returncode == 0


def test_workers_that_never_start_end_the_batch_with_their_last_words(batch):
    done = batch.run(env={"START_DEATH": "1"})
    assert done.returncode == 1
    assert "workers died 3 times before they finished any segment" in done.stderr
    assert "no model here" in done.stderr
    assert batch.show()["segments_failed"] == 0


def test_no_ready_line_is_needed(batch):
    done = batch.run("--burst", "2.1GB", env={"READY": ""})
    assert done.returncode == 0, done.stderr
    batch.check_complete()


# ---- memory ----

def test_a_worker_that_never_asks_is_charged_its_burst_while_it_works(batch):
    running = batch.start("--burst", "2.1GB", "--workers", "1", env=batch.lead())
    for _ in range(3):
        batch.next_begin()
        lease = batch.machine.lease("b-1")
        assert lease["charge_bytes"] == 7_600_000_000
        batch.open_gate()
    batch.open_gate(47)
    assert running.wait(PATIENCE_S) == 0


def test_a_worker_that_asks_is_charged_what_it_asked_for(batch):
    running = batch.start("--burst", "2.1GB", "--workers", "1",
                          env={**batch.lead(), "BURST": "1000000000",
                               "READY": '{"ready": true, "asks": true}'})
    batch.open_gate(5)
    for _ in range(6):
        batch.next_begin()
    # At the gate a segment has not asked yet.
    batch.machine.events.wait(kind="granted", name="b-1")
    assert batch.machine.lease("b-1")["charge_bytes"] == 5_500_000_000
    batch.open_gate(45)
    assert running.wait(PATIENCE_S) == 0


def test_a_claim_larger_than_the_card_is_refused_at_once(batch):
    done = batch.run(vram="13GiB")
    assert done.returncode == 3, done.stderr
    assert "no worker can start" in done.stderr and "13.00 GiB" in done.stderr
    assert batch.summary()["end"] == "never_fits"


def test_a_burst_beyond_the_claim_is_refused_with_the_way_out(batch):
    done = batch.run("--burst", "1GB", "--retries", "0", env={"BURST": "2000000000"})
    assert done.returncode == 1
    assert "raise burst in vram" in batch.show()["failures"][0]["reason"]


def test_a_holder_that_leaves_lets_the_batch_begin(batch):
    holder = batch.machine.spawn_brim("run", "--vram", "8GiB", "--name", "first", "--", "cat",
                                      stdin=subprocess.PIPE)
    batch.machine.events.wait(kind="granted", name="first")
    running = batch.start()
    line = read_until(running.stderr, "waits")
    assert 'b: worker 1 waits: no room for "b-1"' in line and "first" in line
    holder.stdin.close()
    assert running.wait(PATIENCE_S) == 0
    batch.check_complete()


def test_a_stop_from_the_daemon_ends_a_worker_at_its_boundary(batch):
    running = batch.start("--workers", "1", env=batch.lead())
    batch.next_begin()
    assert batch.machine.brim("stop", "b-1").returncode == 0
    read_until(running.stderr, "ends at the segment's end")
    batch.open_gate(50)
    assert running.wait(PATIENCE_S) == 0
    batch.check_complete()
    assert batch.summary()["segments_retried"] == 0


# ---- bad input ----

def test_a_command_that_does_not_exist_is_told_before_anything_runs(batch):
    done = batch.run(command=("./nosuch.py",))
    assert done.returncode == 2
    assert "cannot run './nosuch.py': there is no such program below " in done.stderr
    (batch.dir / "plain.txt").write_text("x")
    assert "it is no executable program" in batch.run(command=("./plain.txt",)).stderr


def test_brim_yaml_and_flags_over_it(batch):
    (batch.dir / "brim.yaml").write_text(
        "batches:\n"
        "  b:\n"
        f"    command: [{sys.executable}, {WORKER}]\n"
        "    input: { lines: in.txt }\n"
        "    output: out/${SEGMENT}.txt\n"
        "    vram: { resident: 5.5GB, burst: 2.1GB }\n")
    done = batch.machine.brim("batch", "run", "b", "-f", "work/brim.yaml", "--workers", "1",
                              "--summary", batch.dir / "summary.json", cwd=batch.dir.parent)
    assert done.returncode == 0, done.stderr
    batch.check_complete()
    wrong = (batch.dir / "brim.yaml").read_text().replace("burst", "burts")
    (batch.dir / "brim.yaml").write_text(wrong)
    done = batch.machine.brim("batch", "run", "b", cwd=batch.dir)
    assert done.returncode == 2
    assert "brim.yaml:6:30: unknown key 'burts'; did you mean 'burst'?" in done.stderr
    done = batch.machine.brim("batch", "run", "c", "-f", "../none.yaml", cwd=batch.dir)
    assert done.returncode == 2 and "cannot read ../none.yaml" in done.stderr


def test_a_size_without_unit_is_an_error(batch):
    done = batch.run(vram="12")
    assert done.returncode == 2 and "--vram: 12 what? write 12GiB or 12GB" in done.stderr


def test_a_full_disk_loses_nothing(batch):
    (batch.dir / "out").mkdir()
    mounted = batch.machine.run("mount", "-t", "tmpfs", "-o", "size=64k", "none", batch.dir / "out")
    if mounted.returncode != 0:
        pytest.skip("mounting a small file system is not allowed here")
    try:
        filler = batch.dir / "out" / "filler"
        filler.write_bytes(b"x" * (48 << 10))
        done = batch.run("--retries", "0")
        assert done.returncode == 1, done.stderr
        assert "make room and run the batch again" in done.stderr
        kept = batch.show()
        assert kept["segments_failed"] == 0
        filler.unlink()
        batch.machine.run("mount", "-o", "remount,size=4m", batch.dir / "out")
        assert batch.run("--retries", "0").returncode == 0
        batch.check_complete()
    finally:
        batch.machine.run("umount", batch.dir / "out")


def test_what_is_said_to_be_done_on_a_full_disk_is_not_believed(batch):
    """Few programs look whether their last write went through."""
    (batch.dir / "out").mkdir()
    mounted = batch.machine.run("mount", "-t", "tmpfs", "-o", "size=256k", "none",
                                batch.dir / "out")
    if mounted.returncode != 0:
        pytest.skip("mounting a small file system is not allowed here")
    command = ("sh", "-c", 'head -c 30000 /dev/zero > "$OUT"; true')
    try:
        done = batch.run("--each", command=command)
        assert done.returncode == 1, done.stderr
        assert "make room and run the batch again" in done.stderr
        batch.machine.run("mount", "-o", "remount,size=4m", batch.dir / "out")
        assert batch.run("--each", command=command).returncode == 0
        sizes = {path.stat().st_size for path in (batch.dir / "out").iterdir()}
        assert sizes == {30000} and len(batch.outputs()) == 50
    finally:
        batch.machine.run("umount", batch.dir / "out")


def test_a_file_size_limit_loses_nothing(batch):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 10, resource.RLIM_INFINITY))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    done = batch.machine.run(batch.machine.build / "brim", *batch.words(), cwd=batch.dir,
                             preexec_fn=limit)
    if done.returncode != 0:  # the database's log has met the limit
        assert done.returncode == 1 and "batch.db" in done.stderr
    assert batch.run().returncode == 0
    batch.check_complete()


def test_an_output_directory_that_cannot_be_made(batch):
    (batch.dir / "out").write_text("a file")
    done = batch.run()
    assert done.returncode == 1
    assert "the output directory " in done.stderr and "is a file; move it away" in done.stderr


# ---- foreign memory ----

FOREIGN = """
import ctypes, sys
cuda = ctypes.CDLL("libcuda.so.1")
context, pointer = ctypes.c_void_p(), ctypes.c_uint64()
assert cuda.cuInit(0) == 0
assert cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
assert cuda.cuCtxSetCurrent(context) == 0
assert cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(int(sys.argv[1]))) == 0
print("taken", flush=True)
sys.stdin.read()
"""


@pytest.mark.not_sanitized
def test_a_foreign_program_shrinks_the_batch_until_it_is_gone(batch):
    """12 282 MiB hold 5.5 + 2.1 GB and the reserve, but not 5 GB of somebody else's besides."""
    running = batch.start("--burst", "2.1GB", "--workers", "1", env={**batch.lead(), "BURST": "0"})
    batch.open_gate(3)
    for _ in range(4):
        name, _ = batch.next_begin()
    foreign = batch.machine.spawn(sys.executable, "-c", FOREIGN, 5_000_000_000,
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert foreign.stdout.readline() == "taken\n"
    read_until(running.stderr, "ends at the segment's end")
    batch.open_gate()
    line = read_until(running.stderr, "worker 1 waits")
    assert "foreign" in line and name == "000003"
    assert batch.show()["segments_done"] in (3, 4)
    foreign.stdin.close()
    batch.open_gate(60)
    assert running.wait(PATIENCE_S) == 0
    batch.check_complete()
    summary = batch.summary()
    assert summary["workers_min"] == 0 and summary["workers_max"] == 1
    assert summary["segments_retried"] == 0 and summary["refusals"] >= 1


@pytest.mark.not_sanitized
def test_a_worker_killed_while_a_foreign_program_is_there_waits_for_its_successor(batch):
    running = batch.start("--burst", "2.1GB", "--workers", "1", env={**batch.lead(), "BURST": "0"})
    batch.open_gate(3)
    for _ in range(4):
        _, pid = batch.next_begin()
    foreign = batch.machine.spawn(sys.executable, "-c", FOREIGN, 5_000_000_000,
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert foreign.stdout.readline() == "taken\n"
    os.kill(pid, signal.SIGKILL)
    line = read_until(running.stderr, "worker 1 waits")
    assert "foreign" in line
    foreign.stdin.close()
    batch.open_gate(60)
    assert running.wait(PATIENCE_S) == 0
    batch.check_complete()


GROWING = """
import ctypes, json, os, socket
cuda = ctypes.CDLL("libcuda.so.1")
context, pointer = ctypes.c_void_p(), ctypes.c_uint64()
assert cuda.cuInit(0) == 0
assert cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
assert cuda.cuCtxSetCurrent(context) == 0
link = socket.socket(fileno=int(os.environ["BRIM_FD"]))
lines = link.makefile("r", encoding="utf-8")
link.sendall(b'{"ready": true, "flush": true}\\n')
for line in lines:
    request = json.loads(line)
    if "stop" in request:
        break
    if "flush" in request:
        link.sendall(b'{"flushed": true}\\n')
        continue
    with open(os.environ["GATE"], "rb", buffering=0) as gate:
        gate.read(1)
    assert cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(200 << 20)) == 0
    with open(request["out"], "w") as out:
        out.write(request["input"].upper() + "\\n")
    link.sendall(b'{"done": %d}\\n' % request["segment"])
"""


@pytest.mark.not_sanitized
def test_memory_that_creeps_up_over_the_claim_is_told_and_flushed(batch):
    (batch.dir / "brim.yaml").write_text(
        "batches:\n  b:\n"
        f"    command: [{sys.executable}, grow.py]\n"
        "    input: { lines: in.txt }\n    output: out/${SEGMENT}.txt\n"
        "    vram: 1GiB\n    workers: 1\n    flush: { on_growth: 10% }\n")
    (batch.dir / "grow.py").write_text(GROWING)
    batch.write_input(9)
    running = batch.machine.spawn_brim("batch", "run", "b", "--summary", "summary.json",
                                       env=batch.lead(), cwd=batch.dir, stderr=subprocess.PIPE)
    # 256 MiB of context and 200 MiB a segment: over 1.1 GiB from the fifth on, in the driver's eyes
    # when the daemon says so.
    batch.open_gate(6)
    batch.machine.events.wait(kind="overdraft", name="b-1")
    for _ in range(3):
        batch.open_gate()
    assert running.wait(PATIENCE_S) == 0, running.stderr.read()
    batch.check_complete()
