# SPDX-License-Identifier: Apache-2.0
"""`brim`, `brim ps` and how commands are misused, without a daemon."""
import json
import os
import subprocess

MIB = 1 << 20


def test_ps_without_a_driver_says_so_and_how_to_try(bare):
    done = bare.brim("ps")
    assert done.returncode == 1
    assert "driver" in done.stderr
    assert "brim emulate --gpu rtx4070ti -- brim ps" in done.stderr
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


def test_every_command_has_help(bare):
    listed = [line.split()[0] for line in bare.brim("--help").stdout.splitlines()
              if line.startswith("  ") and not line.startswith("   ")]
    assert {"ps", "why", "events", "trim", "stop"} <= set(listed)
    for name in listed:
        done = bare.brim(name, "--help")
        assert done.returncode == 0 and done.stdout.startswith("usage: brim " + name), name
        assert bare.brim("help", name).stdout == done.stdout


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
