#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The demo's director: `make demo`. docs/demo.md tells what is shown and how it is checked.

Three runs of the same program over the same text on the same kind of card: without Brim, with Brim
and disturbed, with Brim and left alone (in the background; it gives the audio to compare with).
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import audio
import check
import screen
import stage
import text
from stage import DemoError, Plan

HERE = Path(__file__).resolve().parent
MODEL_BYTES = 5_200_000_000
CONTEXT_BYTES = 256 << 20  # what the emulator's consumer cards take for a process
RESIDENT, BURST = "5.5GB", "2.1GB"
FLUSH_EVERY = 50
FOREIGN_BYTES = 5_000_000_000
LEAST_SEGMENTS = 600
DEFAULT_PROFILE = "rtx4070ti"
SUMMARY_KEYS = ("segments_total segments_done segments_lost segments_twice oom naive_failed_at "
                "flushes workers_max workers_min refusals peak_bytes capacity_bytes audio_sha256 "
                "audio_sha256_undisturbed wall_s").split()


class Stage:
    """One run's machine: a real card, or an emulated one of its own, and a half that runs on it."""

    def __init__(self, options, base, half, name, **members):
        self.name = name
        self._result = base.path(name + ".json")
        self._stats = base.path(name + "-stats.json") if not options.is_real else None
        plan_path = base.path(name + "-plan.json")
        Plan(**{**base.__dict__, "name": name, **members}).save(plan_path)
        command = [sys.executable, str(HERE / half), str(plan_path), str(self._result)]
        if not options.is_real:
            command = [base.brim, "emulate", "--gpu", options.gpu_profile,
                       "--stats-file", str(self._stats), "--", *command]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def wait(self):
        status = self._process.wait()
        if status != 0:
            raise DemoError(f"the run '{self.name}' ended with {status}")
        result = json.loads(self._result.read_text(encoding="utf-8"))
        if self._stats:
            result.update(json.loads(self._stats.read_text(encoding="utf-8"))["gpus"][0])
        return result

    def end(self):
        """brim-emulator ends all that it started when it is asked to end."""
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait()


def card(options, brim):
    """(name, capacity) of the card that the demo runs on."""
    if options.is_real:
        gpu = stage.read_json(output([brim, "ps", "--json"]), "brim ps --json")["gpus"]
        if not gpu:
            raise DemoError("no GPU here; `make demo` without GPU=real runs on an emulated one")
        return gpu[0]["name"], gpu[0]["capacity_bytes"]
    listed = [line.split() for line in output([brim, "emulate", "--list"]).splitlines()]
    row = next((row for row in listed if row and row[0] == options.gpu_profile), None)
    if row is None:
        raise DemoError(f"there is no card {options.gpu_profile}; `brim emulate --list` shows them")
    stats = output([brim, "emulate", "--gpu", options.gpu_profile, "--",
                    str(Path(brim).parent / "brim-emulator"), "--stats"])
    capacity = stage.read_json(stats, "brim-emulator --stats")["gpus"][0]["capacity_bytes"]
    return " ".join(row[1:row.index("MiB") - 1]), capacity


def output(command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          encoding="utf-8")
    if done.returncode != 0:
        raise DemoError(f"{' '.join(command[:3])} ended with {done.returncode}")
    return done.stdout


def prepare(options):
    """An empty directory and the plan that all runs share."""
    segments = text.read(options.text or text.DEFAULT_TEXT)
    directory = (options.directory or options.build / "demo").resolve()
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    plan = Plan(build=str(options.build), directory=str(directory), total=len(segments),
                segments=str(directory / "segments.txt"), resident=RESIDENT, burst=BURST,
                flush_every=FLUSH_EVERY, foreign_bytes=FOREIGN_BYTES,
                model_bytes=MODEL_BYTES, context_bytes=CONTEXT_BYTES,
                is_real=options.is_real)
    Path(plan.segments).write_text("\n".join(segments) + "\n", encoding="utf-8")
    if not Path(plan.narrator).exists():
        raise DemoError(f"{plan.narrator} is not built: install libespeak-ng-dev and run "
                        "`meson setup --wipe build && make`")
    plan.card, plan.capacity_bytes = card(options, plan.brim)
    plan.naive_workers = max(2, plan.capacity_bytes // (MODEL_BYTES + CONTEXT_BYTES))
    return plan


def join(plan, disturbed, undisturbed):
    """The audio book, and whether it is the one that nobody disturbed."""
    paths = {name: [plan.path(name, f"{number:06}.wav") for number in range(plan.total)]
             for name in ("out", "out-undisturbed")}
    target = plan.path("narration.flac")
    audio.join(paths["out"], target)
    checked = check.check(plan.path("workers.log"), target, plan.total)
    checked["audio_sha256_undisturbed"] = audio.digest(paths["out-undisturbed"])
    checked["seconds"] = sum(path.stat().st_size - audio.HEADER_BYTES
                             for path in paths["out"]) / 2 / audio.RATE_HZ
    return checked


def play(options, plan):
    """All runs: (naive or None, disturbed, undisturbed)."""
    started = []

    def start(half, name, **members):
        started.append(Stage(options, plan, half, name, **members))
        return started[-1]

    brim_half = {"batch": "narrate", "is_disturbed": True, "is_shown": True, "log": "workers.log",
                 "outputs": "out", "worker": options.worker}
    # Always the C narrator's: one in Python has to give the same audio.
    alone_half = {**brim_half, "worker": "c", "is_disturbed": False, "is_shown": False,
                  "log": "workers-undisturbed.log", "outputs": "out-undisturbed"}
    try:
        if options.is_real:
            # One card: the undisturbed run comes after, not beside.
            screen.heading("With Brim")
            disturbed = start("with_brim.py", "brim", **brim_half).wait()
            screen.say("   Once more, undisturbed, to compare the audio.")
            alone = start("with_brim.py", "undisturbed", **{**alone_half, "batch": "alone"}).wait()
            return None, disturbed, alone
        alone_run = start("with_brim.py", "undisturbed", **alone_half)
        screen.heading("1. Without Brim")
        naive = start("without_brim.py", "naive").wait()
        screen.heading("2. With Brim: same program, same text, same card")
        disturbed = start("with_brim.py", "brim", **brim_half).wait()
        return naive, disturbed, alone_run.wait()
    finally:
        for run in started:
            run.end()


def show_result(plan, naive, disturbed, checked):
    def both(label, without, with_brim):
        return (label, without if naive else "-", with_brim)

    naive = naive or {}
    screen.heading("Result")
    total = plan.total
    peak = disturbed.get("peak_bytes")
    screen.table(("", "without Brim", "with Brim"), [
        both("segments", total, total),
        both("  done", naive.get("done"), checked["segments_done"]),
        both("  lost", total - naive.get("done", 0), checked["segments_lost"]),
        both("  done twice", "-", checked["segments_twice"]),
        both("out of memory", naive.get("oom_count"), disturbed.get("oom_count", "-")),
        both("peak", screen.mib(naive.get("peak_bytes", 0)), screen.mib(peak) if peak else "-"),
        both("of", screen.mib(plan.capacity_bytes), screen.mib(plan.capacity_bytes)),
        both("workers", plan.naive_workers,
             f"{disturbed['workers_min']}..{disturbed['workers_max']}"),
        both("refusals", "-", disturbed["refusals"]),
        both("flushes", "-", checked["flushes"]),
    ])
    screen.say()
    screen.say(f"  {plan.path('narration.flac')}: {screen.duration(checked['seconds'])} of audio, "
               + ("sample for sample that of an undisturbed run."
                  if checked["audio_sha256"] == checked["audio_sha256_undisturbed"]
                  else "NOT that of an undisturbed run."))


def summarize(plan, naive, disturbed, checked, wall_s):
    found = {**checked, "oom": disturbed.get("oom_count"), "wall_s": round(wall_s, 1),
             "naive_failed_at": naive["failed_at"] if naive else 0,
             "workers_max": disturbed["workers_max"], "workers_min": disturbed["workers_min"],
             "refusals": disturbed["refusals"], "peak_bytes": disturbed.get("peak_bytes"),
             "capacity_bytes": plan.capacity_bytes}
    return {key: found[key] for key in SUMMARY_KEYS}


def broken_laws(options, summary, disturbed, checked):
    """What was promised and is not so, as lines."""
    laws = [
        ("every segment is done", summary["segments_done"] == summary["segments_total"]),
        ("no segment is lost", summary["segments_lost"] == 0),
        ("no segment is done twice", summary["segments_twice"] == 0),
        ("the audio has the segments in order, and nothing else",
         checked["is_in_order"] and checked["stray_at"] is None),
        ("the audio is that of an undisturbed run",
         summary["audio_sha256"] == summary["audio_sha256_undisturbed"]),
        ("a worker was refused while the foreign program held memory", summary["refusals"] >= 1),
        (f"as many workers as `brim why` says fit ({disturbed['expected_workers']})",
         summary["workers_max"] == disturbed["expected_workers"]),
    ]
    if not options.text:
        laws.append((f"the text has {LEAST_SEGMENTS} segments",
                     summary["segments_total"] >= LEAST_SEGMENTS))
    if not options.is_real:
        laws += [
            ("nobody ran out of memory", summary["oom"] == 0),
            ("peak and reserve stay within the card",
             summary["peak_bytes"] + disturbed["reserve_bytes"] <= summary["capacity_bytes"]),
        ]
    if not options.is_real and options.gpu_profile == DEFAULT_PROFILE:
        laws += [
            ("two hard-coded workers fail", summary["naive_failed_at"] > 0),
            ("there is room for one worker", summary["workers_max"] == 1),
            ("and for none while the foreign program holds memory", summary["workers_min"] == 0),
        ]
    return [law for law, holds in laws if not holds]


def has_real_gpu():
    return any(os.path.exists(path) for path in ("/dev/nvidiactl", "/dev/dxg"))


def direct(options):
    started = time.monotonic()
    plan = prepare(options)
    what = "" if options.is_real else "EMULATED "
    screen.say(f"{what}{plan.card}, {screen.mib(plan.capacity_bytes)}: {plan.total} segments to read "
               "aloud, one a sentence.")
    screen.say("A worker holds 5.2 GB of its memory, and takes up to 2.1 GB more for a segment.")
    naive, disturbed, alone = play(options, plan)
    checked = join(plan, disturbed, alone)
    summary = summarize(plan, naive, disturbed, checked, time.monotonic() - started)
    plan.path("summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    show_result(plan, naive, disturbed, checked)
    screen.say(f"  {plan.path('summary.json')}: these figures. It took {summary['wall_s']} s.")
    if not options.keeps:
        for name in ("out", "out-undisturbed", "naive"):
            shutil.rmtree(plan.path(name), ignore_errors=True)
    broken = broken_laws(options, summary, disturbed, checked)
    for law in broken:
        print(f"demo: this does not hold: {law}", file=sys.stderr)
    if not options.is_real and has_real_gpu():
        screen.heading("And this machine's own GPU, looked at and left alone: brim ps")
        subprocess.run([plan.brim, "ps"], stdin=subprocess.DEVNULL, check=False)
    return 1 if broken else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=Path, default=Path("build"))
    parser.add_argument("--directory", type=Path, help="for what it makes; BUILD/demo")
    parser.add_argument("--gpu-profile", default=DEFAULT_PROFILE, help="brim emulate --list")
    parser.add_argument("--worker", choices=("c", "python"), default="c",
                        help="which narrator the batch runs")
    parser.add_argument("--real", dest="is_real", action="store_true",
                        help="this machine's GPU instead; only the half with Brim")
    parser.add_argument("--text", nargs="+", help="files to read, instead of three licenses")
    parser.add_argument("--keep", dest="keeps", action="store_true", help="keep the WAV files")
    options = parser.parse_args()
    options.build = options.build.resolve()
    try:
        return direct(options)
    except (DemoError, text.TextError, audio.AudioError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
