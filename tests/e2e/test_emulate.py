# SPDX-License-Identifier: Apache-2.0
"""`brim emulate`: what a person types, how commands end, what stays behind (nothing)."""
import json
import os
import signal
import subprocess

import pytest

MIB = 1 << 20


def stats(path):
    return json.loads(path.read_text())["gpus"]


def hog(build, *args):
    return [build / "tests" / "hog", *args]


def test_the_status_is_the_commands(emulated):
    assert emulated("true").returncode == 0
    assert emulated("sh", "-c", "exit 7").returncode == 7
    assert emulated("sh", "-c", "kill -KILL $$").returncode == 128 + signal.SIGKILL
    missing = emulated("no-such-command")
    assert missing.returncode == 127 and "no-such-command" in missing.stderr
    assert emulated("/etc/passwd").returncode == 126


def test_list_shows_every_card(bare):
    shown = bare.brim("emulate", "--list")
    assert shown.returncode == 0
    for word in ("rtx3060", "rtx4070ti", "12282 MiB", "rtxpro6000", "97251 MiB", "a100-80g", "h200"):
        assert word in shown.stdout


@pytest.mark.parametrize("arguments, said", [
    (["--gpu", "rtx4070to", "--", "true"], "did you mean rtx4070ti?"),
    (["--gpu", "voodoo2", "--", "true"], "unknown gpu 'voodoo2'"),
    (["--gpu", "6", "--", "true"], "6 what?"),
    (["--", "true"], "no gpu"),
    (["--gpu", "h200"], "no command"),
    (["--gpu", "6GiB", "--leave", "6GiB", "--", "true"], "at most 5.75 GiB"),
    (["--gpu", "6GiB", "--leave", "lots", "--", "true"], "--leave: 'lots' is not a size"),
    (["--gpu", "6GiB", "--free-lag", "5", "--", "true"], "--free-lag: 5 what?"),
    (["--gpu", "6GiB", "--async", "soon", "--", "true"], "late or eager"),
    (["--gpu", "6GiB", "--driver", "500", "--", "true"], "570, 580, 595 or 610"),
    (["--gpu", "6GiB", "--at", "1h:dance", "--", "true"], "--at dance: no such order"),
    (["--gpus", "6GiB"], "--help"),
    (["--gpu", "6GiB"] * 17 + ["--", "true"], "more than 16 gpus"),
])
def test_bad_input_gets_a_clear_error(bare, arguments, said):
    done = bare.brim("emulate", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stdout == ""


def test_the_command_has_directories_of_its_own(emulated, short_dir):
    done = emulated("env")
    inside = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert inside["BRIM_EMULATED"] == "rtx4070ti"
    for name in ("BRIM_RUNTIME_DIR", "BRIM_STATE_DIR", "BRIM_LOCK_DIR", "BRIM_EMU_SOCKET"):
        assert inside[name].startswith(str(short_dir / "brim-emu-"))
    assert not list(short_dir.glob("brim-emu-*"))  # all of it is gone


def test_stats_outside_say_where_they_work(bare):
    done = bare.brim("emulate", "--stats")
    assert done.returncode == 2 and "inside `brim emulate`" in done.stderr


def test_state_is_kept_where_it_was_asked_for(emulated, short_dir):
    kept = short_dir / "kept"
    done = emulated("sh", "-c", 'echo mine > "$BRIM_STATE_DIR/note"', options=("--state", str(kept)))
    assert done.returncode == 0
    assert (kept / "note").read_text() == "mine\n"


def test_leave_is_what_is_left_beside_a_program_with_a_name(emulated, build_dir, short_dir):
    file = short_dir / "stats.json"
    done = emulated(build_dir / "brim-helper", "facts", "--once",
                    options=("--leave", "5.9GiB", "--stats-file", str(file)))
    gpu = json.loads(done.stdout)["gpus"][0]
    left = gpu["capacity_bytes"] - gpu["used_bytes"]
    assert 0 <= left - int(5.9 * 1024 * MIB) <= 2 * MIB
    assert [process["used_bytes"] for process in gpu["processes"]] == [gpu["used_bytes"]]
    assert stats(file)[0]["oom_count"] == 0
    named = emulated("sh", "-c", "for p in /proc/[0-9]*; do cat $p/comm; done 2>/dev/null",
                     options=("--leave", "5.9GiB"))
    assert "foreign" in named.stdout.split()


def test_an_allocation_that_does_not_fit_is_counted(emulated, build_dir, short_dir):
    file = short_dir / "stats.json"
    done = emulated(*hog(build_dir, "--bytes", "12GiB"), options=("--stats-file", str(file)))
    assert done.returncode == 3
    assert done.stdout == f"oom asked {12 << 30} free {(12282 - 256) * MIB}\n"
    counted = stats(file)[0]
    assert counted["oom_count"] == 1
    assert counted["peak_bytes"] == 256 * MIB and counted["used_bytes"] == 0
    assert counted["capacity_bytes"] == 12282 * MIB


def test_two_cards_are_two_cards(emulated, build_dir, short_dir):
    file = short_dir / "stats.json"
    done = emulated(*hog(build_dir, "--bytes", "100GiB", "--gpu", "1"), gpu="rtx4070ti",
                    options=("--gpu", "h200", "--stats-file", str(file)))
    assert done.stdout == f"holding {100 << 30}\n"
    first, second = stats(file)
    assert first["peak_bytes"] == 0
    assert second["peak_bytes"] == (100 << 30) + 512 * MIB


def test_everything_ends_with_the_command(emulated):
    """Also what left its session, and what ignores SIGTERM."""
    done = emulated("sh", "-c", "setsid sleep 1000 & echo $!; "
                                "setsid sh -c 'trap \"\" TERM; exec sleep 1000' & echo $!")
    pids = [int(word) for word in done.stdout.split()]
    assert done.returncode == 0 and len(pids) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_keep_lets_the_rest_go_on_and_then_ends(emulated, short_dir):
    os.mkfifo(short_dir / "go")
    with subprocess.Popen(["sh", "-c", "echo line > go"], cwd=short_dir):
        done = emulated("sh", "-c", "(read line < go; echo went on) & echo left; exit 5",
                        options=("--keep",))
    assert done.returncode == 5
    assert sorted(done.stdout.splitlines()) == ["left", "went on"]


def test_terminate_is_passed_on(emulator):
    process = emulator.spawn_brim("emulate", "--gpu", "6GiB", "--", "sh", "-c",
                                  'trap "exit 9" TERM; echo ready; while :; do read -r l || :; done',
                                  stdout=subprocess.PIPE, stdin=subprocess.PIPE)
    assert process.stdout.readline() == "ready\n"  # an emulator inside an emulator
    process.terminate()
    process.stdin.close()
    assert process.wait(30) == 9


def test_an_emulator_inside_an_emulator_has_its_own_card(emulator, build_dir):
    done = emulator.brim("emulate", "--gpu", "6GiB", "--", build_dir / "brim-helper", "facts",
                         "--once")
    assert [gpu["capacity_bytes"] for gpu in json.loads(done.stdout)["gpus"]] == [6 << 30]
