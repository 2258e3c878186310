# SPDX-License-Identifier: Apache-2.0
"""`brim`, `brim ps`, `why`, `events`, `trim` and `stop`, and how they are misused."""
import json
import os
import re
import subprocess

MIB = 1 << 20


def test_ps_without_a_driver_says_so_and_how_to_try(bare):
    done = bare.brim("ps")
    assert done.returncode == 1
    assert "driver" in done.stderr
    assert done.stderr.count("brim emulate --gpu rtx4070ti -- ") == 1
    assert done.stdout == ""


def test_ps_shows_an_emulated_card_and_starts_nothing(emulator):
    done = emulator.brim("ps")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("EMULATED")
    assert "no daemon runs" in lines[1]
    assert "RTX 4070 Ti" in done.stdout and "11.99 GiB" in done.stdout
    assert "reserve 800 MiB" in done.stdout
    assert "next: brim run --vram 11.2GiB -- COMMAND" in done.stdout
    assert not (emulator.runtime_dir / "api.sock").exists()


def test_json_is_the_same_without_a_daemon(emulator):
    status = emulator.ps()
    assert status["daemon"] is None
    assert status["emulated"] is True
    assert status["gpus"][0]["capacity_bytes"] == 12282 * MIB
    assert status["gpus"][0]["free_bytes"] == (12282 - 800) * MIB
    assert status["leases"] == []


def test_brim_alone_names_three_commands(emulator):
    done = emulator.brim()
    assert done.returncode == 0
    after = done.stdout.split("\nnext: ")[1].splitlines()
    assert len(after) == 3 and all(line.strip().startswith("brim ") for line in after)


def test_every_gpu_is_shown(start_emulator):
    done = start_emulator(gpu=["rtx4070ti", "6GiB"]).brim("ps", "--gpus")
    assert "gpu 0" in done.stdout and "gpu 1" in done.stdout
    assert "nobody holds" not in done.stdout


def test_output_is_plain_in_a_plain_locale_and_coloured_on_no_pipe(emulator):
    done = emulator.brim("ps", env={"LC_ALL": "C", "COLUMNS": "60"})
    assert done.stdout.isascii()
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.split("\nnext:")[0].splitlines()[2:])) <= 60


def test_slips_are_told_with_what_was_meant(bare):
    for arguments, meant in ((["pss"], "did you mean `brim ps`?"),
                             (["ps", "--leaes"], "did you mean --leases?"),
                             (["events", "--folow"], "did you mean --follow?"),
                             (["--hepl"], "brim: unknown option --hepl")):
        done = bare.brim(*arguments)
        assert done.returncode == 2, arguments
        assert meant in done.stderr, done.stderr
        assert done.stdout == ""


def test_wrong_usage_says_what_is_right(bare):
    for arguments, words in ((["why", "--fit"], "--fit needs a size"),
                             (["why", "--fit", "--vram", "3"], "3 what? write 3GiB or 3GB"),
                             (["why", "a", "b"], "one name at a time"),
                             (["stop"], "brim ps -q"),
                             (["ps", "--gpus", "--leases"], "exclude each other"),
                             (["events", "--since", "-1"], "not the number of an event")):
        done = bare.brim(*arguments)
        assert (done.returncode, done.stdout) == (2, ""), arguments
        assert words in done.stderr, done.stderr


def test_questions_to_a_daemon_that_is_not_there(bare):
    for arguments in (["why"], ["why", "--fit", "--vram", "1GiB"], ["events"], ["stop", "a"],
                      ["trim", "a"]):
        done = bare.brim(*arguments)
        assert done.returncode == 1, arguments
        assert "no daemon runs" in done.stderr, done.stderr
    done = bare.brim("logs", "daemon")
    assert done.returncode == 1 and "brimd.log: a brimd that" in done.stderr, done.stderr


def test_every_command_has_help(bare):
    listed = [line.split()[0] for line in bare.brim("--help").stdout.splitlines()
              if line.startswith("  ") and not line.startswith("   ")]
    assert {"ps", "why", "events", "trim", "stop"} <= set(listed)
    for name in listed:
        done = bare.brim(name, "--help")
        assert done.returncode == 0 and done.stdout.startswith("usage: brim " + name), name
        assert bare.brim("help", name).stdout == done.stdout
        assert max(map(len, done.stdout.splitlines())) <= 80, name
    assert max(map(len, bare.brim("--help").stdout.splitlines())) <= 80
    assert max(map(len, bare.brim("batch", "run", "--help").stdout.splitlines())) <= 80


def test_version(bare):
    done = bare.brim("--version")
    assert done.returncode == 0 and done.stdout.startswith("brim 0.")


def test_a_reader_that_went_away_is_no_failure_to_speak_of(emulator):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        process = emulator.spawn_brim("ps", stdout=writer, stderr=subprocess.PIPE)
    finally:
        os.close(writer)
    assert process.stderr.read() == ""
    process.wait()


def test_a_full_disk_is_told(emulator):
    with open("/dev/full", "w", encoding="utf-8") as full:
        process = emulator.spawn_brim("ps", stdout=full, stderr=subprocess.PIPE)
    assert "writing the output: No space left on device" in process.stderr.read()
    assert process.wait() == 1


def test_closed_descriptors_do_no_harm(emulator):
    done = emulator.run("sh", "-c", "brim ps --json >&- 2>&- <&-; echo $?")
    assert done.stdout.strip() == "0"
    assert json.loads(emulator.brim("ps", "--json").stdout)["gpus"]

def hold(emulator, name, *claim):
    """A holder that runs, and ends when its standard input does."""
    process = emulator.spawn_brim("run", "--name", name, *claim, "--", "sh", "-c", "echo; exec cat",
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == "\n"
    emulator.events.wait(kind="granted", name=name)
    return process


def wait_in_queue(emulator, name, *claim):
    process = emulator.spawn_brim("run", "--name", name, *claim, "--", "true",
                                  stderr=subprocess.DEVNULL)
    emulator.events.wait(kind="queued", name=name)
    return process


def test_ps_shows_who_holds_and_who_waits_for_what(emulator):
    hold(emulator, "first", "--vram", "4GiB", "--burst", "2.1GiB")
    wait_in_queue(emulator, "second", "--vram", "6GiB", "--priority", "background")
    done = emulator.brim("ps")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("EMULATED")
    assert re.search(r"^  first +busy +6\.10 GiB +2\.10 GiB +normal +\d+ ", done.stdout, re.M)
    waiting = done.stdout.split("WAITS")[1]
    assert re.search(r"^  second +6\.00 GiB +- +background ", waiting, re.M)
    assert "free 5.11 GiB" in waiting
    assert "next: brim why second" in done.stdout
    assert emulator.brim("ps", "-q").stdout.split() == ["first", "second"]
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_why_tells_of_holders_waiters_and_refusals(emulator):
    hold(emulator, "first", "--vram", "8GiB")
    assert "first" in emulator.brim("why", "first").stdout
    wait_in_queue(emulator, "second", "--vram", "6GiB")
    newest = emulator.brim("why")
    assert newest.returncode == 0 and "second" in newest.stdout and "first" in newest.stdout
    assert emulator.brim("run", "--max-wait", "0", "--vram", "13GiB", "--", "true").returncode == 123
    refused = emulator.brim("why", "--json")
    assert json.loads(refused.stdout)["kind"] == "refusal"
    by_id = emulator.brim("why", json.loads(refused.stdout)["refusal"]["id"])
    assert "can never fit" in by_id.stdout
    unknown = emulator.brim("why", "nobody")
    assert unknown.returncode == 1 and "first" in unknown.stderr


def test_why_fit_counts_and_its_status_answers_for_scripts(emulator):
    emulator.brim("daemon", "start")
    fits = emulator.brim("why", "--fit", "--vram", "3GiB")
    assert fits.returncode == 0 and fits.stdout.startswith("3 such leases fit now")
    assert json.loads(emulator.brim("why", "--fit", "--vram", "3GiB", "--json").stdout)["count"] == 3
    assert emulator.brim("why", "--fit", "--vram", "20GiB").returncode == 3
    hold(emulator, "first", "--vram", "8GiB")
    waits = emulator.brim("why", "--fit", "--vram", "6GiB")
    assert waits.returncode == 4 and "first" in waits.stdout
    assert emulator.brim("why", "--fit", "--vram", "1GiB", "--gpu", "7").returncode == 1


def test_as_many_fit_as_why_says(emulator):
    emulator.brim("daemon", "start")
    claim = ("--vram", "2GiB")
    count = json.loads(emulator.brim("why", "--fit", *claim, "--json").stdout)["count"]
    for number in range(count):
        hold(emulator, f"worker-{number}", *claim)
    assert emulator.brim("run", "--max-wait", "0", *claim, "--", "true").returncode == 124


def test_events_are_shown_from_a_number_on(emulator):
    process = hold(emulator, "first", "--vram", "1GiB")
    number = emulator.events.wait(kind="granted", name="first")["n"]
    process.stdin.close()
    emulator.events.wait(kind="released", name="first")
    lines = [json.loads(line) for line in
             emulator.brim("events", "--json", "--since", str(number)).stdout.splitlines()]
    assert all(event["n"] > number for event in lines)
    assert any(event["kind"] == "released" for event in lines)
    shown = emulator.brim("events").stdout
    assert re.search(r"^ +\d+  \d\d:\d\d:\d\d\.\d{3}  granted +first ", shown, re.M)


def test_a_follower_goes_on_after_the_daemon_was_killed(emulator):
    process = hold(emulator, "first", "--vram", "1GiB")
    number = emulator.events.wait(kind="granted", name="first")["n"]
    os.kill(emulator.daemon_pid(), 9)
    emulator.brim("daemon", "start")
    restored = emulator.events.wait(kind="restored", name="first")
    assert restored["n"] > number
    process.stdin.close()
    emulator.events.wait(kind="released", name="first", after=restored["n"])


def test_stop_ends_a_program_under_run(emulator):
    process = hold(emulator, "first", "--vram", "1GiB")
    done = emulator.brim("stop", "first")
    assert done.returncode == 0 and "first" in done.stdout
    assert process.wait(30) == -15
    emulator.events.wait(kind="released", name="first")
    gone = emulator.brim("stop", "first")
    assert gone.returncode == 1 and "first" in gone.stderr


def test_trim_asks_the_holder(emulator):
    hold(emulator, "first", "--vram", "1GiB")
    done = emulator.brim("trim", "first", "--json")
    assert done.returncode == 0 and "asked" in json.loads(done.stdout)
    assert emulator.brim("trim", "nobody").returncode == 1


def test_ps_shows_a_batch_that_runs_and_stop_ends_it(emulator, short_dir):
    gate = short_dir / "gate"
    os.mkfifo(gate)
    (short_dir / "lines").write_text("one\ntwo\n", encoding="utf-8")
    batch = emulator.spawn_brim(
        "batch", "run", "--name", "narrate", "--lines", "lines", "--out", "out/${SEGMENT}",
        "--vram", "1GiB", "--workers", "1", "--each", "--",
        "sh", "-c", f'read word < {gate}; echo "$word" > "$0"', "${OUT}",
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    emulator.events.wait(kind="granted")
    shown = emulator.brim("ps").stdout
    assert re.search(rf"^  narrate +0 +2 +0 +{batch.pid}$", shown, re.M), shown
    assert "ends when the segments in work" in emulator.brim("stop", "narrate").stdout
    with open(gate, "w", encoding="utf-8") as writer:
        writer.write("done\n")
    assert batch.wait(30) == 143
    assert (short_dir / "out" / "000000").read_text(encoding="utf-8") == "done\n"
    assert "BATCH" not in emulator.brim("ps").stdout
