# SPDX-License-Identifier: Apache-2.0
"""The demo: its text and its checker."""
import hashlib
import random
import struct
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
