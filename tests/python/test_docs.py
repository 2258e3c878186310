# SPDX-License-Identifier: Apache-2.0
"""The Python of docs/python.md and of the README, as it is printed, on an emulated card with the
FAKE torch. What the page takes for granted (a model, requests) stands before each block, what must
hold after it. A block that is not known here fails: what is printed has been run."""
import json
import re
import sys
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)

BEFORE = """
import json, os, subprocess, sys
import brim, torch

def held():  # by the card itself
    told = subprocess.run(["brim", "emulate", "--stats"], stdout=subprocess.PIPE, check=True)
    return json.loads(told.stdout)["gpus"][0]["used_bytes"] >> 20

class Model:  # of so many GiB
    def __init__(self, gib=1):
        self.weights = [torch.zeros(1 << 28) for _ in range(gib)]
        self.moves = []
    def __call__(self, *inputs):
        states.append(brim.current().state)
        return self
    def cpu(self):
        self.moves.append("cpu")
        for weight in self.weights:
            weight.cpu()
        return self
    def cuda(self):
        self.moves.append("cuda")
        return self
    def parameters(self):
        return iter([self])
    device = "cuda"
    def to(self, device):
        return self.cuda()
    def speak(self, text, out):
        (open(out, "w") if isinstance(out, str) else out).write(text.upper())

load, requests, states = Model, range(3), []
def answer(model, request):
    return model(request)
def peak_of(text):
    return "1GiB"
"""

# A block's own words -> (before it, after it, what is printed last: as it is, or a pattern)
PROGRAMS = {
    'with brim.lease("llm", resident="5.2GiB", burst="2.1GiB", max_wait=600) as lease:\n'
    "    model = load()\n    lease.ready()": (
        "", "print(states, lease.state)", "['busy', 'busy', 'busy'] released"),
    'with brim.lease("llm", resident="5.2GiB", burst="2.1GiB", max_wait=600) as lease:\n'
    "    model = load()\n    brim.torch": (
        "", "print(states, brim.torch._janitor is not None)", "['busy', 'busy', 'busy'] True"),
    'resident="6GiB", max_wait=0': (
        "first = brim.lease('first', resident='8GiB').acquire()\n"
        "def serve(): raise AssertionError('there is no room')\n", "", r"6442450944 \d+ r\d+"),
    "def on_connect(client):": (
        "class Client(list):\n"
        "    def send(self, answer): states.append(brim._session.session_count())\n"
        "def serve(on_connect): on_connect(Client(requests))\n",
        "print(states, brim._session.session_count(), lease.on_failure is not None)",
        "['busy', 1, 'busy', 1, 'busy', 1] 0 True"),
    'brim.stage("encoder", resident="24GiB")': (
        "load_encoder = lambda: Model(23)\nload_transformer = lambda: Model(37)\n"
        "load_decoder = lambda: Model(11)\n"
        "say, lines = brim.stage, []\n"
        "brim.stage = lambda *a, **k: say(*a, say=lines.append, **k)\n",
        "execute(1, 2, 3)\n"
        "print([line.rsplit(', ', 1)[0] for line in lines], held() < 1024)",
        "['encoder: released 23.00 GiB, 0 left', 'transformer: released 37.00 GiB, 0 left', "
        "'decoder: released 11.00 GiB, 0 left'] True"),
    # What the page says of it: the peak is the sum, and an exception leaves all of it behind.
    "class Orchestrator:": (
        "class Pipeline:\n"
        "    def stage_1(self, *inputs): self.encoder = Model(23); return self\n"
        "    def stage_2(self, latent): self.transformer = Model(37); return self\n"
        "    def decode(self, refined):\n"
        "        states.append(held() >> 10)\n"
        "        if failing: raise ValueError('no frames')\n"
        "failing = True\n",
        "by_hand = Orchestrator(Pipeline())\n"
        "try: by_hand.execute(1, 2, 3)\n"
        "except ValueError: states.append(held() >> 10)\n"
        "print(states)", "[60, 60]"),
}
# Those of a batch, with how it is run; and the worker by hand, alone.
WORKERS = ["model.speak(segment.input, segment.out)", "segment.burst(peak_of(segment.input))"]
BY_HAND = "free, _ = torch.cuda.mem_get_info()"
SEGMENTS = [f"sentence {number}\n" for number in range(4)]


def blocks():
    found = BLOCK.findall((TREE / "docs/python.md").read_text(encoding="utf-8"))
    return found + BLOCK.findall((TREE / "README.md").read_text(encoding="utf-8"))


def block(words):
    found = [text for text in blocks() if words in text]
    assert len(found) == 1, f"{len(found)} blocks say {words!r}"
    return found[0]


def test_no_block_is_printed_that_is_not_run():
    known = [block(words) for words in [*PROGRAMS, *WORKERS, BY_HAND]]
    assert sorted(known) == sorted(blocks())


@pytest.mark.parametrize("words", PROGRAMS, ids=range(len(PROGRAMS)))
def test_a_program_does_what_the_page_says(start_emulator, python_env, words):
    before, after, printed = PROGRAMS[words]
    machine = start_emulator(gpu="rtxpro6000" if "Orchestrator" in words or "stage" in words
                             else "rtx4070ti")
    path = f"{python_env['PYTHONPATH']}:{TREE / 'tests/python/fake'}"
    done = machine.run(sys.executable, "-c", BEFORE + before + block(words) + after,
                       env={**python_env, "PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert last == printed or re.fullmatch(printed, last), done.stdout + done.stderr


@pytest.mark.parametrize("words", WORKERS)
def test_a_worker_does_its_batch(torch_script, short_dir, words):
    (short_dir / "book.txt").write_text("".join(SEGMENTS))
    (short_dir / "worker.py").write_text(
        BEFORE + block(words) + "open('moves', 'a').write(' '.join(model.moves) + '\\n')\n")
    done = torch_script.machine.brim(
        "batch", "run", "--name", "narrate", "--lines", "book.txt", "--out", "out/${SEGMENT}.wav",
        "--vram", "5.5GB", "--burst", "2.1GB", "--flush-every", "2", "--workers", "1", "--",
        sys.executable, "worker.py", cwd=short_dir)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [path.read_text() for path in sorted((short_dir / "out").iterdir())] \
        == [line.strip().upper() for line in SEGMENTS]
    assert (short_dir / "moves").read_text() == "cpu cuda\n"  # one flush, between the two halves


def test_the_worker_by_hand_works_where_there_is_room_and_looks_once(torch_script, short_dir):
    (short_dir / "book.txt").write_text("".join(SEGMENTS))
    (short_dir / "out").mkdir()
    program = BEFORE + "torch.cuda.mem_get_info = lambda: (int(os.environ['FREE']), 0)\n"
    (short_dir / "worker.py").write_text(program + block(BY_HAND))
    machine = torch_script.machine
    done = machine.run(sys.executable, "worker.py", cwd=short_dir, env={"FREE": str(7 * 10**9)})
    assert done.returncode == 0, done.stderr
    assert len(list((short_dir / "out").iterdir())) == len(SEGMENTS)
    done = machine.run(sys.executable, "worker.py", cwd=short_dir, env={"FREE": str(6 * 10**9)})
    assert done.returncode == 1 and "not enough VRAM" in done.stderr


def test_the_table_of_what_a_lease_has_is_whole():
    """Each name of the page's table is there; each public name of the package is on the page."""
    import brim
    page = (TREE / "docs/python.md").read_text(encoding="utf-8")
    names = set(re.findall(r"lease\.(\w+)", page))
    assert names and all(hasattr(brim.Lease, name) or name in ("on_failure", "in_burst")
                         for name in names), names
    missing = [name for name in brim.__all__
               if not re.search(rf"\b{name}\b", page) and name not in ("Burst", "Lease", "Segment")]
    assert missing == [], missing
    assert json.dumps(sorted(brim.__all__)) == json.dumps(brim.__all__)


def public():
    """(name, thing) of all that a program may use."""
    import brim
    import brim.torch
    for name in brim.__all__:
        thing = getattr(brim, name)
        yield name, thing
        if isinstance(thing, type):
            yield from ((f"{name}.{member}", found) for member, found in vars(thing).items()
                        if not member.startswith("_") and (callable(found) or
                                                           isinstance(found, property)))
    yield "torch", brim.torch
    yield from ((f"torch.{name}", thing) for name, thing in vars(brim.torch).items()
                if not name.startswith("_") and getattr(thing, "__module__", None) == "brim.torch")


def test_help_has_something_to_say_of_every_public_name():
    found = dict(public())
    assert {"lease", "Lease.burst", "Lease.gpu", "Refused", "stage", "torch.attach"} <= set(found)
    silent = [name for name, thing in found.items()
              if not (thing.__doc__ or "").strip() or thing.__doc__ == type(thing).__doc__]
    assert silent == [], silent
    import pydoc

    import brim
    first_screen = pydoc.plain(pydoc.render_doc(brim)).split("PACKAGE CONTENTS")[0]
    assert first_screen.count("\n") <= 40 and max(map(len, first_screen.splitlines())) <= 106
    missing = [name for name in brim.__all__ if name[0].islower() and name not in first_screen
               and not name.endswith("_size")]
    assert missing == [], missing
