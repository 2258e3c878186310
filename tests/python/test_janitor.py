# SPDX-License-Identifier: Apache-2.0
"""brim run --python-janitor: programs that know nothing of Brim."""
import sys
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]

FAKE = str(TREE / "tests/python/fake")


@pytest.fixture
def run(emulator):
    """brim run --python-janitor -- python3 -c TEXT, with an environment that knows no brim."""
    def run(text, *options, python=(), command=None, **env):
        return emulator.brim("run", "--vram", "3GiB", "--python-janitor", *options, "--",
                             *(command or (sys.executable, *python, "-c", text)), env=env)
    run.machine = emulator
    return run


def test_a_program_that_imports_torch_gets_a_janitor_and_is_trimmed(run):
    done = run("import threading, torch\n"
               "work = torch.zeros(256 << 20); del work\n"
               "janitor = next(t for t in threading.enumerate() if t.name == 'brim janitor')\n"
               "import brim.torch\n"
               "print(brim.torch.pool_bytes())\n"
               "own = brim.torch._janitor\n"
               "print([own.look(5.0) for _ in range(3)])\n", PYTHONPATH=FAKE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(1 << 30), str([0, 1 << 30, 0])], done.stderr


def test_one_that_does_not_import_torch_notices_nothing(run):
    done = run("import sys, threading\n"
               "print(threading.active_count(), 'brim' in sys.modules, 'torch' in sys.modules)")
    assert done.stdout == "1 False False\n", done.stderr


def test_without_torch_its_import_fails_as_ever(run):
    done = run("try:\n    import torch\nexcept ModuleNotFoundError as error:\n    print(error)")
    assert done.stdout == "No module named 'torch'\n", done.stderr


def test_the_programs_own_sitecustomize_runs_too(run, short_dir):
    (short_dir / "sitecustomize.py").write_text("print('its own')\n")
    done = run("import sitecustomize; print('program')", PYTHONPATH=str(short_dir))
    assert done.stdout == "its own\nprogram\n", done.stderr
    # One that raises does so as it would have without us: Python says it and goes on.
    (short_dir / "sitecustomize.py").write_text("raise RuntimeError('its own')\n")
    done = run("print('program')", PYTHONPATH=str(short_dir))
    assert done.stdout == "program\n" and "its own" in done.stderr


def test_a_failure_of_the_janitor_is_an_event_and_nothing_the_program_sees(run, short_dir):
    (short_dir / "brim.py").write_text("raise RuntimeError('not this one')\n")
    (short_dir / "torch.py").write_text("print('torch')\n")
    done = run("import torch; print('program')", PYTHONPATH=str(short_dir))
    assert (done.returncode, done.stdout, done.stderr) == (0, "torch\nprogram\n", "")
    # This torch has nothing that brim.torch asks for, which its thread finds out.
    (short_dir / "brim.py").unlink()
    (short_dir / "torch.py").write_text("class cuda:\n    is_initialized = lambda: 1 / 0\n")
    done = run("import torch, brim.torch\nbrim.torch._janitor._end.wait(0)\n"
               "brim.torch._janitor.idle_s = 0\nprint('program')\n"
               "[t.join() for t in __import__('threading').enumerate() if 'janitor' in t.name]",
               PYTHONPATH=str(short_dir))
    assert (done.returncode, done.stdout, done.stderr) == (0, "program\n", "")
    event = run.machine.events.wait(kind="noted")
    assert "gave up: ZeroDivisionError" in event["text"]


SHOW = ("import os\n"
        "print(os.environ.get('PYTORCH_CUDA_ALLOC_CONF'), os.environ.get('PYTORCH_ALLOC_CONF'))")


def test_expandable_segments_are_set_under_both_names(run):
    assert run(SHOW).stdout == "expandable_segments:True expandable_segments:True\n"


@pytest.mark.parametrize("name", ["PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"])
def test_the_operators_setting_stays_and_that_is_said(run, name):
    done = run(SHOW, **{name: "backend:native"})
    assert sorted(done.stdout.split()) == ["None", "backend:native"]
    assert f"{name}=backend:native is yours and stays" in done.stderr


@pytest.mark.parametrize("words", [("vllm", "--enable-sleep-mode"),
                                   ("-m", "sglang.launch_server", "--enable-memory-saver")])
def test_an_engine_that_refuses_them_is_left_alone(run, words):
    done = run("", command=(sys.executable, "-c", SHOW, *words))
    assert done.stdout == "None None\n" and "refuses them" in done.stderr


def test_it_is_not_for_a_program_that_runs_already(run):
    done = run.machine.brim("run", "--python-janitor", "--pid", "1")
    assert done.returncode == 125 and "not for --pid" in done.stderr
