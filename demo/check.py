#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What was really done: the workers' own log and the joined audio, and nothing of Brim's.

    python3 demo/check.py --log build/demo/workers.log --audio build/demo/narration.flac --segments 650

A worker appends to the log when it begins a segment and when it has finished one, with the number of
bytes of its samples and their hash (examples/narrator/diary.h). The audio is decoded and walked from
its start: at each place stands the segment that is due, or another one, or something unknown.

    done    finished by the log, and its samples stand in the audio
    lost    all others
    twice   finished more than once by the log, or standing more than once in the audio

An attempt that was cut off (its worker was killed) has a beginning and no end: it is counted apart,
and it counts for nothing.
"""
import argparse
import hashlib
import json
import sys
from collections import Counter, defaultdict
from pathlib import Path

import audio


class Log:
    """The workers' log, read."""

    def __init__(self, path):
        self.finished = defaultdict(list)  # segment -> [(bytes, sha256)]
        self.flushes = 0
        begun = Counter()
        for line in path.read_text(encoding="utf-8").splitlines():
            what, number, pid, size, sha256, out = line.split("\t", 5)
            if what == "begin":
                begun[pid, number, out] += 1
            elif what == "done":
                begun[pid, number, out] -= 1
                self.finished[int(number)].append((int(size), sha256))
            elif what == "flush":
                self.flushes += 1
        self.cut_off = sum(count for count in begun.values() if count > 0)


class Walk:
    """Which segments stand in the audio, in the order in which they stand there."""

    def __init__(self, log, path, total):
        self._log = log
        self._total = total
        self._audio = audio.Decoder(path)
        self.found = []
        self.stray_at = None  # byte offset of samples that are no segment's
        self._walk()
        self.sha256 = self._audio.close()

    def _size_here(self, segment):
        """The segment's bytes, if its samples stand here; None if not."""
        for size, sha256 in self._log.finished.get(segment, ()):
            here = self._audio.peek(size)
            is_match = len(here) == size and hashlib.sha256(here).hexdigest() == sha256
            here.release()
            if is_match:
                return size
        return None

    def _nearest_first(self, due):
        yield due
        yield from sorted(range(self._total), key=lambda segment: abs(segment - due))

    def _what_stands_here(self, due):
        """(segment, bytes), the nearest to the one that is due; None for unknown samples."""
        for segment in self._nearest_first(due):
            size = self._size_here(segment)
            # Nothing can stand anywhere; it counts only where it is due.
            if size or (size == 0 and segment == due):
                return segment, size
        return None

    def _walk(self):
        due = 0
        while due < self._total or self._audio.peek(1):
            here = self._what_stands_here(due)
            if here is None:
                if self._audio.peek(1):
                    self.stray_at = self._audio.offset
                return
            segment, size = here
            self._audio.take(size)
            self.found.append(segment)
            due = max(due, segment + 1)


def check(log_path, audio_path, total):
    """A dict of counts; see the top of this file."""
    log = Log(Path(log_path))
    walk = Walk(log, Path(audio_path), total)
    times = Counter(walk.found)
    done = {segment for segment in range(total) if log.finished.get(segment) and times[segment]}
    twice = {segment for segment in set(log.finished) | set(times)
             if len(log.finished.get(segment, ())) > 1 or times[segment] > 1}
    return {"segments_total": total, "segments_done": len(done),
            "segments_lost": total - len(done), "segments_twice": len(twice),
            "is_in_order": walk.found == sorted(walk.found), "stray_at": walk.stray_at,
            "cut_off": log.cut_off, "flushes": log.flushes, "audio_sha256": walk.sha256}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--log", required=True, type=Path)
    parser.add_argument("--audio", required=True, type=Path)
    parser.add_argument("--segments", required=True, type=int)
    options = parser.parse_args()
    try:
        result = check(options.log, options.audio, options.segments)
    except (OSError, ValueError, audio.AudioError) as error:
        print(f"check: {error}", file=sys.stderr)
        return 1
    print(json.dumps(result, indent=2))
    is_good = (result["segments_lost"] == result["segments_twice"] == 0 and result["is_in_order"]
               and result["stray_at"] is None)
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
