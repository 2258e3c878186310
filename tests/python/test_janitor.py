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
               "ours = __import__('sys').modules['_brim_janitor.torch']\n"
               "print(ours.pool_bytes())\n"
               "own = ours._janitor\n"
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


def janitors(text="", before="import torch\n"):
    """A program that prints how many janitors it has."""
    return (before + text + "import threading\n"
            "print([t.name for t in threading.enumerate()].count('brim janitor'))\n")


def test_asking_whether_torch_is_there_is_not_importing_it(run):
    """As transformers and many others do it before they import torch."""
    done = run(janitors("import importlib.util as u; print(bool(u.find_spec('torch')))\n"
                        "import sys; print('torch' in sys.modules)\nimport torch\n", before=""),
               PYTHONPATH=FAKE)
    assert done.stdout == "True\nFalse\n1\n", done.stderr


def test_a_torch_that_fails_at_first_gets_its_janitor_when_it_works(run, short_dir):
    (short_dir / "torch.py").write_text("import os\nif os.environ.pop('BROKEN', None): 1 / 0\n"
                                        "class cuda:\n    is_initialized = lambda: False\n")
    done = run(janitors("try: import torch\nexcept ZeroDivisionError: print('failed')\n"
                        "import torch\n", before=""), PYTHONPATH=str(short_dir), BROKEN="1")
    assert done.stdout == "failed\n1\n", done.stderr


def test_nothing_can_be_imported_that_could_not_be_without_it(run):
    """Above all not what lies beside the package in another environment."""
    done = run(janitors("import sys\nprint(*sys.path, sep='\\n')\n"
                        "try: import brim\nexcept ModuleNotFoundError: print('none')\n"),
               PYTHONPATH=FAKE)
    bare = run.machine.run(sys.executable, "-c", "import sys\nprint(*sys.path, sep='\\n')",
                           env={"PYTHONPATH": FAKE})
    assert done.stdout == bare.stdout + "none\n1\n", done.stderr


def test_a_program_that_has_brim_shares_it_with_the_janitor(run):
    done = run(janitors("import brim.torch; print(brim.torch._janitor is not None)\n"),
               PYTHONPATH=f"{FAKE}:{TREE / 'python'}")
    assert done.stdout == "True\n1\n", done.stderr


def test_another_package_of_the_name_brim_is_left_alone(run, short_dir):
    (short_dir / "brim.py").write_text("raise RuntimeError('not this one')\n")
    done = run(janitors(), PYTHONPATH=f"{short_dir}:{FAKE}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


def test_a_failure_of_the_janitor_is_an_event_and_nothing_the_program_sees(run, short_dir):
    """A torch that has nothing that the janitor asks for, which its thread finds out."""
    (short_dir / "torch.py").write_text("class cuda:\n    is_initialized = lambda: 1 / 0\n")
    done = run("import sys, threading, torch\n"
               "sys.modules['_brim_janitor.torch']._janitor.idle_s = 0\nprint('program')\n"
               "[t.join() for t in threading.enumerate() if 'janitor' in t.name]",
               PYTHONPATH=str(short_dir))
    assert (done.returncode, done.stdout, done.stderr) == (0, "program\n", "")
    event = run.machine.events.wait(kind="noted")
    assert "gave up: ZeroDivisionError" in event["text"]


def test_a_janitor_that_cannot_start_is_an_event_too(run):
    done = run(janitors("import threading\nreal = threading.Thread.start\n"
                        "def start(self):\n    raise RuntimeError('no more threads')\n"
                        "threading.Thread.start = start\nimport torch\n"
                        "threading.Thread.start = real\n", before=""), PYTHONPATH=FAKE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")
    event = run.machine.events.wait(kind="noted")
    assert "did not start: start: RuntimeError: no more threads" in event["text"]


@pytest.mark.parametrize("flags, named", [
    (("-S",), "S"), (("-E",), "E"), (("-I",), "I"), (("-B", "-I"), "I"),
    (("-W", "ignore", "-ES"), "E"),
])
def test_a_python_that_looks_at_no_sitecustomize_runs_without_a_janitor(run, flags, named):
    done = run("print('program')", python=flags)
    assert done.stdout == "program\n"
    assert done.stderr == \
        f"brim run: there will be no janitor: python -{named} does not look for it\n"


@pytest.mark.parametrize("command", [("-c", "print('program')", "-I"), ("-Bc", "print('program')"),
                                     ("-X", "dev", "-c", "print('program')")])
def test_flags_of_the_program_are_not_the_interpreters(run, command):
    done = run("", command=(sys.executable, *command))
    assert (done.stdout, done.stderr) == ("program\n", "")


def test_a_virtual_environment_keeps_its_own_startup(run, short_dir):
    """Its sitecustomize, its .pth files and its sys.prefix; $PYTHONSTARTUP is for a prompt."""
    import venv
    venv.create(short_dir / "venv", with_pip=False)
    site = next((short_dir / "venv/lib").glob("python3*")) / "site-packages"
    (site / "sitecustomize.py").write_text("print('its own')\n")
    (site / "torch.pth").write_text(FAKE + "\n")
    (short_dir / "startup.py").write_text("print('a prompt')\n")
    done = run("", command=(short_dir / "venv/bin/python", "-c", janitors(
        "import sys; print(sys.prefix)\n")), PYTHONSTARTUP=str(short_dir / "startup.py"))
    assert done.stdout == f"its own\n{short_dir / 'venv'}\n1\n", done.stderr


def test_worker_processes_get_their_own(run, short_dir):
    (short_dir / "program.py").write_text(
        "import multiprocessing, threading, torch\n"
        "def count(_):\n"
        "    import torch\n"
        "    return [t.name for t in threading.enumerate()].count('brim janitor')\n"
        "if __name__ == '__main__':\n"
        "    for method in ('spawn', 'forkserver', 'fork'):\n"
        "        with multiprocessing.get_context(method).Pool(1) as pool:\n"
        "            print(method, pool.map(count, [0]))\n")
    done = run("", command=(sys.executable, short_dir / "program.py"), PYTHONPATH=FAKE)
    assert done.stdout == "spawn [1]\nforkserver [1]\nfork [0]\n", done.stderr


SHOW = ("import os\n"
        "print(os.environ.get('PYTORCH_CUDA_ALLOC_CONF'), os.environ.get('PYTORCH_ALLOC_CONF'))")


def test_expandable_segments_are_set_under_both_names(run):
    assert run(SHOW).stdout == "expandable_segments:True expandable_segments:True\n"


@pytest.mark.parametrize("name", ["PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"])
def test_the_operators_setting_stays_and_that_is_said(run, name):
    done = run(SHOW, **{name: "backend:native"})
    assert sorted(done.stdout.split()) == ["None", "backend:native"]
    assert f"{name}=backend:native is yours and stays" in done.stderr


@pytest.mark.parametrize("words", [
    ("vllm", "--enable-sleep-mode"), ("/opt/vllm/serve", "--enable_sleep_mode=true"),
    ("-m", "sglang.launch_server", "--enable-memory-saver"),
])
def test_an_engine_that_refuses_them_is_left_alone(run, words):
    done = run("", command=(sys.executable, "-c", SHOW, *words))
    assert done.stdout == "None None\n" and "refuses them" in done.stderr


@pytest.mark.parametrize("words", [("vllm", "--enable-sleep-modes"), ("--enable-sleep-mode",),
                                   ("vllm", "--enable-memory-saver"), ("vllm", "serve")])
def test_other_engines_and_options_are_not_mistaken_for_them(run, words):
    done = run("", command=(sys.executable, "-c", SHOW, *words))
    assert done.stdout.startswith("expandable_segments:True") and done.stderr == ""


@pytest.mark.parametrize("line", ["pool = torch.cuda.MemPool()", "LLM(enable_sleep_mode=True)",
                                  "import torch_memory_saver", "Engine(enable_memory_saver=True)"])
def test_a_script_that_makes_a_pool_of_its_own_is_left_alone(run, short_dir, line):
    (short_dir / "app.py").write_text(SHOW + f"\n# {line}\n")
    done = run("", command=(sys.executable, "app.py"))
    assert done.stdout == "None None\n" and "app.py uses " in done.stderr
    (short_dir / "app.py").write_text(SHOW)
    assert run("", command=(sys.executable, "app.py")).stdout.startswith("expandable_segments")


def test_a_program_that_may_be_checkpointed_is_left_alone(run):
    done = run(SHOW, BRIM_PARK="checkpoint")
    assert done.stdout == "None None\n" and "a checkpoint may not take them along" in done.stderr
    assert run(SHOW, BRIM_PARK="").stdout.startswith("expandable_segments")


def test_it_is_not_for_a_program_that_runs_already(run):
    done = run.machine.brim("run", "--python-janitor", "--pid", "1")
    assert done.returncode == 125 and "not for --pid" in done.stderr
