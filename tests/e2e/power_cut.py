# SPDX-License-Identifier: Apache-2.0
"""A disk whose power is cut: what a directory may look like when it is on again.

strace records the calls by which programs changed files; replayed here, each file and each
directory knows what of it is on the disk for certain and what is still on its way. A cut after any
call then takes an arbitrary part of the latter:

  - a write is kept or lost by sectors of 512 bytes, each on its own, in any order; where the file
    has grown over a lost sector, zeros are there
  - the entries of a directory (made, renamed, removed) are kept or lost on their own until the
    *directory* is synced; a rename is one entry's change
  - fsync and fdatasync keep everything that was written to that file, and no name of it

which is what POSIX allows, and more than most filesystems do. After Pillai et al., "All File
Systems Are Not Created Equal" (OSDI 2014), whose tool ALICE records by strace too, and Mohan et al.,
"Finding Crash-Consistency Bugs with Bounded Black-Box Crash Testing" (OSDI 2018; CrashMonkey). That
a write does not harm the sector's other bytes is what SQLite takes for granted ("powersafe
overwrite").
"""
import os
import random
import re
import shutil
from pathlib import Path

SECTOR = 512
CALLS = ("open", "openat", "creat", "write", "pwrite64", "ftruncate", "fsync", "fdatasync", "rename",
         "renameat", "renameat2", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir")
# These would change files unseen; the programs here make none of them.
UNSEEN = ("link", "linkat", "symlink", "symlinkat", "truncate", "writev", "pwritev", "pwritev2",
          "copy_file_range", "sendfile", "fallocate")
HEX = re.compile(r"(?:\\x[0-9a-f]{2})+")
LINE = re.compile(r"(?:(\d+) +)?(\w+)\((.*)\) += (-?\d+)(.*)$")
BEGUN = re.compile(r"(\d+) +(.*) <unfinished \.\.\.>$")
RESUMED = re.compile(r"(\d+) +<\.\.\. \w+ resumed>(.*)$")
PATH = r"(?:(?:AT_FDCWD|\d+)<([^>]*)>, )?\"([^\"]*)\""


def strace(trace, *more):
    """The words that run a command and record what it, and all that it starts, does to files."""
    return ("strace", "-f", "-qq", "-y", "-xx", "-s", 1 << 20, "-E",
            "ASAN_OPTIONS=abort_on_error=0:detect_leaks=0", "-e", "trace=" + ",".join(CALLS + UNSEEN),
            "-o", trace, *more)


def lines_of(trace):
    """The lines of a trace, those that another process's line has cut in two joined again."""
    begun = {}
    for line in trace.read_text().splitlines():
        first, second = BEGUN.match(line), RESUMED.match(line)
        if first:
            begun[first[1]] = line.removesuffix(" <unfinished ...>")
        elif second:
            yield begun.pop(second[1]) + second[2]
        else:
            yield line


def plain(text):
    return HEX.sub(lambda found: bytes.fromhex(found[0].replace("\\x", "")).decode("latin-1"), text)


def utf8(text):
    return text.encode("latin-1").decode()


def absolute(place, path):
    return os.path.normpath(os.path.join(utf8(plain(place)), utf8(plain(path))))


def operations(trace, roots, cwd):
    """(name, path, more) for each call that succeeded below the roots, in their order; `cwd` is what
    a path is relative to where the call does not say it."""
    inside = tuple(str(root) + "/" for root in roots)
    for line in lines_of(trace):
        call = LINE.match(line)
        if not call or call[4].startswith("-"):
            continue
        _, name, words, result, _ = call.groups()
        for step in operation(name, words, result, str(cwd)):
            if step[1].startswith(inside) or step[1] in map(str, roots):
                assert name not in UNSEEN, line[:200]
                yield step


def operation(name, words, result, cwd):
    held = re.match(r"\d+<([^>]*)>", words)
    if held and name != "openat" and not name.endswith("at"):
        paths, file = [], absolute("/", held[1])
    else:
        paths, file = [absolute(place or cwd, path)
                       for place, path in re.findall(PATH, words)], None
    if name in ("open", "openat", "creat"):
        if "O_CREAT" in words or name == "creat":
            yield "make", paths[0], None
        if "O_TRUNC" in words or name == "creat":
            yield "size", paths[0], 0
    elif name == "write":
        data = plain(words.split(", ")[1].strip('"')).encode("latin-1")
        yield "write", file, (None, data[:int(result)])
    elif name == "pwrite64":
        data, _, offset = words.split(", ")[1:]
        yield "write", file, (int(offset), plain(data.strip('"')).encode("latin-1")[:int(result)])
    elif name == "ftruncate":
        yield "size", file, int(words.split(", ")[1])
    elif name in ("fsync", "fdatasync"):
        yield "sync", file, None
    elif name.startswith("rename"):
        yield "rename", paths[0], paths[1]
    elif name in ("unlink", "unlinkat", "rmdir"):
        yield "remove", paths[0], None
    elif name.startswith("mkdir"):
        yield "mkdir", paths[0], None
    else:
        yield "unseen", paths[0] if paths else file, None


class File:
    def __init__(self, data=b""):
        self.kept = bytearray(data)  # on the disk for certain
        self.coming = []  # ("size", n) and (offset, data), in order
        self.live = bytearray(data)

    def change(self, change):
        apply(self.live, change)
        self.coming.append(change)

    def sync(self):
        self.kept = bytearray(self.live)
        self.coming = []


class Folder:
    def __init__(self):
        self.kept = {}
        self.coming = []  # a list of (name, inode or None) for each change
        self.live = {}

    def change(self, change):
        self.live = entries_after(self.live, [change])
        self.coming.append(change)

    def sync(self):
        self.kept = dict(self.live)
        self.coming = []


def apply(data, change):
    if change[0] == "size":
        size = change[1]
        del data[size:]
        data.extend(bytes(size - len(data)))
        return
    offset, piece = change
    data.extend(bytes(max(0, offset - len(data))))
    data[offset:offset + len(piece)] = piece


def entries_after(entries, changes):
    entries = dict(entries)
    for change in changes:
        for name, inode in change:
            if inode is None:
                entries.pop(name, None)
            else:
                entries[name] = inode
    return entries


class Disk:
    """The roots, which are on the disk with what lies in them, and what is done below them."""

    def __init__(self, roots):
        self.roots = {str(root): self._scan(Path(root)) for root in roots}

    def _scan(self, path):
        if not path.is_dir():
            return File(path.read_bytes())
        folder = Folder()
        folder.live = {each.name: self._scan(each) for each in path.iterdir()
                       if each.is_dir() or each.is_file()}
        folder.sync()
        return folder

    def _find(self, path):
        root = next(root for root in self.roots if (path + "/").startswith(root + "/"))
        inode = self.roots[root]
        for name in Path(path).relative_to(root).parts:
            inode = inode.live.get(name) if isinstance(inode, Folder) else None
        return inode

    def _folder(self, path):
        return self._find(os.path.dirname(path)), os.path.basename(path)

    def step(self, name, path, more):
        """Whether the call changed anything or made anything durable."""
        inode = self._find(path)
        if name in ("make", "mkdir"):
            if inode is None:
                folder, own = self._folder(path)
                folder.change([(own, File() if name == "make" else Folder())])
            return inode is None
        if name == "none" or inode is None:  # it has no name any more
            return False
        if name == "sync":
            inode.sync()
        elif name == "size":
            inode.change(("size", more))
        elif name == "write":
            inode.change((len(inode.live) if more[0] is None else more[0], more[1]))
        elif name == "remove":
            folder, own = self._folder(path)
            folder.change([(own, None)])
        elif name == "rename":
            folder, own = self._folder(path)
            other, new = self._folder(more)
            assert folder is other, "a rename from one directory to another"
            folder.change([(own, None), (new, inode)])
        return True

    def after_cut(self, fate):
        """{path: bytes, or None for a directory}, as `fate` has it."""
        state = {}
        for root, inode in self.roots.items():
            self._collect(root, inode, fate, state)
        return state

    def _collect(self, path, inode, fate, state):
        if isinstance(inode, File):
            state[path] = bytes(fate.content(inode))
            return
        state[path] = None
        for name, child in sorted(fate.entries(inode).items()):
            self._collect(f"{path}/{name}", child, fate, state)


class Fate:
    """What a cut leaves of names and of contents: 1.0 all, 0.0 nothing, between: by chance."""

    def __init__(self, names, contents, seed=0):
        self.names = names
        self.contents = contents
        self.chance = random.Random(seed)

    def entries(self, folder):
        return entries_after(folder.kept, [change for change in folder.coming
                                           if self.chance.random() < self.names])

    def content(self, file):
        data = bytearray(file.kept)
        for change in file.coming:
            self._keep(data, change)
        return data

    def _keep(self, data, change):
        if change[0] == "size":
            if self.chance.random() < self.contents:
                apply(data, change)
            return
        offset, piece = change
        at = 0
        while at < len(piece):
            size = min(SECTOR - (offset + at) % SECTOR, len(piece) - at)
            if self.chance.random() < self.contents:
                apply(data, (offset + at, piece[at:at + size]))
            at += size


def fates(seed, mixed_count):
    """The corners, and some of what lies between them."""
    yield Fate(1.0, 1.0)
    yield Fate(0.0, 0.0)
    yield Fate(1.0, 0.0)
    yield Fate(0.0, 1.0)
    for number in range(mixed_count):
        yield Fate(0.5, (0.5, 0.9, 1.0)[number % 3], seed * 1000 + number)


def cuts(steps, disk, mixed_count=3):
    """(number of calls before the cut, state) for every call and fate, each state once."""
    seen = set()
    for number, step in enumerate([None, *steps]):
        if step is not None and not disk.step(*step):
            continue
        for fate in fates(number, mixed_count):
            state = disk.after_cut(fate)
            key = hash(frozenset(state.items()))
            if (number, key) not in seen:
                seen.add((number, key))
                yield number, state


def put(state, roots):
    """Makes the roots what the cut has left."""
    for root in roots:
        for path in Path(root).iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.is_file():
                path.unlink()
    for path, data in state.items():
        if data is None:
            Path(path).mkdir(mode=0o700, exist_ok=True)
        else:
            Path(path).touch(mode=0o600)
            Path(path).write_bytes(data)
