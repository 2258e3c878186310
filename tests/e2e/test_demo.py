# SPDX-License-Identifier: Apache-2.0
"""The demo: its text, its checker, its narrator, and a short form of all of it."""
import hashlib
import json
import os
import random
import struct
import subprocess
import sys
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TREE / "demo"))

import audio  # noqa: E402
import check  # noqa: E402
import text  # noqa: E402

GPL = text.LICENSES / "GPL-3"


# -- the text

def test_a_heading_and_a_clause_number_end_no_sentence():
    assert text.split("TERMS\n\n  0. Definitions.\n\nOne ends\nhere. Two (of Foo, Inc. or so) here.") == [
        "TERMS", "0. Definitions.", "One ends here.", "Two (of Foo, Inc. or so) here."]


def test_a_long_sentence_is_read_in_several_breaths_and_no_word_is_lost():
    sentence = "This is a clause that goes on and on and on, " * 12 + "and ends."
    parts = text.split(sentence)
    assert len(parts) > 2
    assert all(len(part) <= text.BREATH for part in parts)
    assert " ".join(parts) == sentence


@pytest.mark.skipif(not GPL.exists(), reason="no /usr/share/common-licenses here")
def test_the_default_text_has_over_600_segments():
    segments = text.read(text.DEFAULT_TEXT)
    assert len(segments) > 600
    assert not any("\n" in segment or segment != segment.strip() for segment in segments)


def test_a_text_that_is_not_there_is_named(tmp_path):
    with pytest.raises(text.TextError, match="nowhere.txt.*TEXT="):
        text.read([tmp_path / "nowhere.txt"])


# -- the checker

class Book:
    """Made-up segments as a narrator leaves them: WAV files and a log."""

    def __init__(self, directory, count=6):
        self.directory = directory
        self.log = directory / "workers.log"
        self.flac = directory / "book.flac"
        noise = random.Random(1)
        self.samples = [noise.randbytes(2 * (2000 + 10 * number)) for number in range(count)]
        for number in range(count):
            self.begin(number, f"{number}.attempt-1")
            self.done(number, f"{number}.attempt-1")

    def _append(self, *fields):
        with self.log.open("a", encoding="utf-8") as file:
            file.write("\t".join(map(str, fields)) + "\n")

    def begin(self, number, out):
        self._append("begin", number, 4711, 0, "-", out)

    def done(self, number, out):
        samples = self.samples[number]
        self._append("done", number, 4711, len(samples), hashlib.sha256(samples).hexdigest(), out)

    def check(self, order):
        paths = []
        for place, number in enumerate(order):
            samples = number if isinstance(number, bytes) else self.samples[number]
            head = struct.pack("<4sI8sIHHIIHH4sI", b"RIFF", len(samples) + 36, b"WAVEfmt ", 16, 1, 1,
                               audio.RATE_HZ, 2 * audio.RATE_HZ, 2, 16, b"data", len(samples))
            paths.append(self.directory / f"{place}.wav")
            paths[-1].write_bytes(head + samples)
        audio.join(paths, self.flac)
        return check.check(self.log, self.flac, len(self.samples))


@pytest.fixture
def book(tmp_path):
    return Book(tmp_path)


def counts(result):
    return tuple(result["segments_" + what] for what in ("done", "lost", "twice"))


def test_a_whole_book_is_found_whole(book):
    result = book.check(range(6))
    assert counts(result) == (6, 0, 0)
    assert result["is_in_order"] and result["stray_at"] is None
    assert result["audio_sha256"] == hashlib.sha256(b"".join(book.samples)).hexdigest()


def test_a_segment_that_is_missing_in_the_audio_is_lost(book):
    assert counts(book.check([0, 1, 2, 4, 5])) == (5, 1, 0)


def test_missing_segments_at_the_end_are_lost(book):
    assert counts(book.check([0, 1, 2])) == (3, 3, 0)


def test_a_segment_that_stands_twice_in_the_audio_is_found(book):
    assert counts(book.check([0, 1, 2, 2, 3, 4, 5])) == (6, 0, 1)
    assert counts(book.check([0, 1, 2, 3, 4, 5, 0])) == (6, 0, 1)


def test_a_segment_that_was_finished_twice_by_the_log_is_found(book):
    book.done(3, "3.attempt-2")
    assert counts(book.check(range(6))) == (6, 0, 1)


def test_segments_out_of_order_are_seen(book):
    result = book.check([0, 2, 1, 3, 4, 5])
    assert not result["is_in_order"]


def test_samples_that_no_worker_made_are_seen(book):
    result = book.check([0, 1, 2, b"\x01\x02" * 3000, 3, 4, 5])
    assert result["stray_at"] == sum(len(samples) for samples in book.samples[:3])
    assert counts(result) == (3, 3, 0)


def test_an_attempt_that_was_cut_off_counts_for_nothing(book):
    book.begin(2, "2.attempt-0")
    result = book.check(range(6))
    assert counts(result) == (6, 0, 0)
    assert result["cut_off"] == 1


# -- the narrator

@pytest.fixture
def narrator(build_dir):
    program = build_dir / "examples/narrator/narrator"
    if not program.exists():
        pytest.skip("built without espeak-ng")
    return program


def narrate(emulated, narrator, directory, lines, *, stride=1, offset=0):
    """{segment: hash of its samples}"""
    directory.mkdir()
    (directory / "lines.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = emulated(narrator, "--naive", "--list", directory / "lines.txt", "--out", directory,
                    "--stride", stride, "--offset", offset, "--log", directory / "log")
    assert done.returncode == 0, done.stderr
    entries = [line.split("\t") for line in (directory / "log").read_text().splitlines()]
    return {int(entry[1]): entry[4] for entry in entries if entry[0] == "done"}


LINES = ["You can apply it to your programs, too.", "Preamble", "0. Definitions.",
         "Each licensee is addressed as you.", "You can apply it to your programs, too."]


def test_a_sentence_sounds_the_same_whatever_was_said_before(emulated, narrator, short_dir):
    every = narrate(emulated, narrator, short_dir / "a", LINES)
    some = narrate(emulated, narrator, short_dir / "b", LINES, stride=2, offset=0)
    assert sorted(every) == [0, 1, 2, 3, 4] and sorted(some) == [0, 2, 4]
    assert every[0] == every[4] != every[1]
    assert some.items() <= every.items()


def test_a_narrator_that_does_not_ask_is_refused_by_the_card(emulated, narrator, short_dir):
    lines = short_dir / "lines.txt"
    lines.write_text("It is very long, " * 20 + "\n", encoding="utf-8")
    command = (f"mkfifo in out; {narrator.parent}/foreign --bytes 6GB <in >out & exec 3>in; "
               f"read holding <out; "
               f"{narrator} --naive --list {lines} --out . --stride 1 --offset 0")
    done = emulated("sh", "-c", command, cwd=short_dir)
    assert done.returncode == 3, done.stderr
    refusal = json.loads(done.stdout)
    assert refusal["refused_at"] == 0
    assert refusal["asked_bytes"] > refusal["free_bytes"] > 0


# -- all of it, with forty sentences

@pytest.mark.skipif(not GPL.exists(), reason="no /usr/share/common-licenses here")
@pytest.mark.parametrize("worker", ["c", "python"])
def test_the_demo_in_short(build_dir, narrator, home_env, short_dir, worker, is_sanitized):
    if worker == "python" and is_sanitized:
        pytest.skip("a sanitized library does not load into a program that is not sanitized")
    book = short_dir / "book.txt"
    book.write_text("\n\n".join(text.read([GPL])[:40]), encoding="utf-8")
    directory = short_dir / "demo"
    done = subprocess.run(
        [sys.executable, TREE / "demo/run.py", "--build", build_dir, "--directory", directory,
         "--text", book, "--worker", worker], env=home_env, cwd=TREE, timeout=240, encoding="utf-8",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    assert "EMULATED" in done.stdout.splitlines()[0]
    summary = json.loads((directory / "summary.json").read_text())
    wanted = {"segments_total": 40, "segments_done": 40, "segments_lost": 0, "segments_twice": 0,
              "oom": 0, "workers_max": 1, "workers_min": 0}
    assert wanted.items() <= summary.items()
    assert summary["naive_failed_at"] > 0 and summary["refusals"] >= 1
    assert summary["audio_sha256"] == summary["audio_sha256_undisturbed"]
    assert summary["peak_bytes"] + 800 * 2**20 <= summary["capacity_bytes"] == 12282 * 2**20
    assert os.stat(directory / "narration.flac").st_size > 0
