# SPDX-License-Identifier: Apache-2.0
"""Fixtures: real programs of Brim on an emulated GPU.

A test never sleeps: it waits for an event, for a process, or for a descriptor. Every process that
is started here is ended here. Each test has a home of its own, so neither the user's daemon nor
another test's is ever seen.

    def test_ps_names_the_holder(emulator):
        emulator.spawn_brim("run", "--vram", "1GiB", "--name", "first", "--", "cat", stdin=PIPE)
        emulator.events.wait(kind="granted", name="first")
        assert "first" in emulator.brim("ps").stdout
"""
import json
import os
import queue
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from own_daemon import Daemon

TREE = Path(__file__).resolve().parents[2]
SANITIZER_REPORT = re.compile(
    r"ERROR: (Address|Leak)Sanitizer|WARNING: ThreadSanitizer|: runtime error: ")
# A sanitized build is several times slower; a wait that never ends must still end.
PATIENCE_S = 60.0

# The command of `brim emulate` in the emulator fixture: hands its environment to the test, then
# stays until the test closes the connection or dies.
HOLDER = """
import json, os, socket, sys
link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
link.connect(sys.argv[1])
link.sendall(json.dumps(dict(os.environ)).encode() + b"\\n")
link.recv(1)
"""


def pytest_configure(config):
    config.addinivalue_line("markers", "not_sanitized: loads emulated libraries into a program "
                                       "that is not ours; skipped in a sanitized build")
    # A shell starts what it puts in the background with these ignored, and so would every program
    # that a test interrupts.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def build_option(build, name):
    options = json.loads((build / "meson-info" / "intro-buildoptions.json").read_text())
    return next(option["value"] for option in options if option["name"] == name)


@pytest.fixture(scope="session")
def build_dir():
    """The build under test: $BRIM_BUILD, else build/."""
    build = Path(os.environ.get("BRIM_BUILD", "build"))
    build = build if build.is_absolute() else TREE / build
    if not (build / "brim").exists():
        pytest.exit(f"{build}/brim is not there: run make first", returncode=1)
    return build


@pytest.fixture(scope="session")
def is_sanitized(build_dir):
    return build_option(build_dir, "b_sanitize") != "none"


@pytest.fixture(autouse=True)
def _skip_foreign_programs(request, is_sanitized):
    if is_sanitized and request.node.get_closest_marker("not_sanitized"):
        pytest.skip("a sanitized library does not load into a program that is not sanitized")


@pytest.fixture
def short_dir():
    """A private directory whose path is short enough for a socket, gone after the test."""
    path = Path(tempfile.mkdtemp(prefix="brim-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def home_env(short_dir, build_dir):
    """An environment with its own home; nothing of Brim's or of a desktop's leaks into it."""
    env = {name: value for name, value in os.environ.items()
           if not name.startswith(("BRIM_", "XDG_")) and name != "LD_LIBRARY_PATH"}
    home = short_dir / "home"
    runtime = short_dir / "run"
    for path in (home, runtime):
        path.mkdir(mode=0o700)
    env.update(HOME=str(home), XDG_RUNTIME_DIR=str(runtime), TMPDIR=str(short_dir),
               PATH=f"{build_dir}:{env.get('PATH', '/usr/bin:/bin')}",
               LANG="C.UTF-8", LC_ALL="C.UTF-8",
               ASAN_OPTIONS="abort_on_error=0", UBSAN_OPTIONS="print_stacktrace=1")
    env.pop("NO_COLOR", None)
    return env


class Programs:
    """Starts programs in one environment and ends what is left of them."""

    def __init__(self, build, env, cwd):
        self.build = build
        self.env = env
        self.cwd = cwd
        self._started = []
        self.stderr_texts = []

    def run(self, *argv, timeout=PATIENCE_S, env=None, **options):
        """Runs to the end; a CompletedProcess with text. Never raises for the status."""
        options.setdefault("stdin", subprocess.DEVNULL)
        if "input" in options:
            del options["stdin"]
        done = subprocess.run([str(word) for word in argv], env={**self.env, **(env or {})},
                              cwd=options.pop("cwd", self.cwd), timeout=timeout,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              encoding="utf-8", errors="replace", **options)
        self.stderr_texts.append(done.stderr)
        return done

    def brim(self, *args, **options):
        return self.run(self.build / "brim", *args, **options)

    def spawn(self, *argv, env=None, **options):
        """Starts and returns a Popen in a session of its own; killed after the test."""
        options.setdefault("stdin", subprocess.DEVNULL)
        process = subprocess.Popen([str(word) for word in argv], env={**self.env, **(env or {})},
                                   cwd=options.pop("cwd", self.cwd), start_new_session=True,
                                   encoding="utf-8", errors="replace", **options)
        self._started.append(process)
        return process

    def spawn_brim(self, *args, **options):
        return self.spawn(self.build / "brim", *args, **options)

    def end(self):
        for process in reversed(self._started):
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait(PATIENCE_S)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream:
                    try:
                        stream.close()
                    except BrokenPipeError:
                        pass


class Events:
    """Follows `brim events -f --json`; remembers all, so nothing that came early is missed."""

    def __init__(self, programs):
        self._process = programs.spawn_brim("events", "-f", "--json", stdout=subprocess.PIPE)
        self._queue = queue.Queue()
        self.seen = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self._process.stdout:
            if line.strip().startswith("{"):
                self._queue.put(json.loads(line))
        self._queue.put(None)

    def wait(self, timeout=PATIENCE_S, after=0, **wanted):
        """The first event, of those numbered above `after`, whose members are as wanted."""
        deadline = time.monotonic() + timeout
        position = 0
        while True:
            for event in self.seen[position:]:
                if event["n"] > after and all(event.get(k) == v for k, v in wanted.items()):
                    return event
            position = len(self.seen)
            try:
                event = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no event {wanted} within {timeout} s; seen: "
                                     + "\n".join(map(str, self.seen))) from None
            assert event is not None, f"brim events ended before {wanted}; seen: {self.seen}"
            self.seen.append(event)


class Emulator(Programs):
    """One emulated machine that stays up for a test: run many commands in it."""

    def __init__(self, build, env, directory, gpu="rtx4070ti", options=()):
        super().__init__(build, env, directory)
        self._events = None
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        address = str(directory / f"holder-{os.urandom(4).hex()}")
        listener.bind(address)
        listener.listen(1)
        gpus = [gpu] if isinstance(gpu, str) else list(gpu)
        arguments = [word for name in gpus for word in ("--gpu", name)]
        self._server = subprocess.Popen(
            [str(build / "brim"), "emulate", *arguments, *options, "--",
             sys.executable, "-c", HOLDER, address],
            env=env, cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True, encoding="utf-8", errors="replace")
        ended = os.pidfd_open(self._server.pid)
        try:
            ready, _, _ = select.select([listener, ended], [], [], PATIENCE_S)
            if listener not in ready:
                self._server.kill()
                raise AssertionError(f"brim emulate did not come up: {self._server.stdout.read()}")
            self._link, _ = listener.accept()
        finally:
            os.close(ended)
            listener.close()
        with self._link.makefile("r", encoding="utf-8") as stream:
            self.env = json.loads(stream.readline())
        self.state_dir = Path(self.env["BRIM_STATE_DIR"])
        self.runtime_dir = Path(self.env["BRIM_RUNTIME_DIR"])

    @property
    def events(self):
        if self._events is None:
            self._events = Events(self)
        return self._events

    def ps(self):
        done = self.brim("ps", "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def daemon_pid(self):
        return self.ps()["daemon"]["pid"]

    def lease(self, name):
        return next((lease for lease in self.ps()["leases"] if lease["name"] == name), None)

    def sanitizer_reports(self):
        texts = list(self.stderr_texts)
        for log in self.state_dir.rglob("*.log"):
            texts.append(log.read_text(errors="replace"))
        return [text for text in texts if SANITIZER_REPORT.search(text)]

    def end(self):
        super().end()
        # Not the emulator's child: whatever the test ran from outside has started it. Only now: a
        # holder that still lived would start the next one.
        if (Path(self.env["BRIM_RUNTIME_DIR"]) / "api.sock").exists():
            self.brim("daemon", "stop")
        reports = self.sanitizer_reports()
        self._link.close()
        try:
            self._server.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._server.kill()
            raise AssertionError("brim emulate does not end with its command") from None
        finally:
            self._server.stdout.close()
        assert not reports, "\n".join(reports)


@pytest.fixture
def emulated(build_dir, home_env, short_dir):
    """emulated(*argv, gpu=…, options=(…)): one command under `brim emulate`, to its end."""
    programs = Programs(build_dir, home_env, short_dir)

    def run(*argv, gpu="rtx4070ti", options=(), **more):
        return programs.brim("emulate", "--gpu", gpu, *options, "--", *argv, **more)

    yield run
    programs.end()
    reports = [text for text in programs.stderr_texts if SANITIZER_REPORT.search(text)]
    assert not reports, "\n".join(reports)


@pytest.fixture
def start_emulator(build_dir, home_env, short_dir):
    """start_emulator(gpu=…, options=(…)): as many emulated machines as a test wants."""
    started = []

    def start(gpu="rtx4070ti", options=()):
        started.append(Emulator(build_dir, home_env, short_dir, gpu, options))
        return started[-1]

    yield start
    failures = []
    for emulator in started:
        try:
            emulator.end()
        except AssertionError as failure:
            failures.append(str(failure))
    assert not failures, "\n".join(failures)


@pytest.fixture
def emulator(start_emulator):
    """One emulated RTX 4070 Ti (12 282 MiB) that stays up for the test."""
    return start_emulator()


@pytest.fixture
def bare(build_dir, home_env, short_dir):
    """A machine without a GPU driver, with a home of its own."""
    programs = Programs(build_dir, home_env, short_dir)
    yield programs
    # A daemon that a command started goes with the test.
    if (short_dir / "run" / "brim" / "api.sock").exists():
        programs.brim("daemon", "stop")
    programs.end()


@pytest.fixture
def daemon(emulator):
    """A brimd on the emulated machine that the test ends, kills and starts again as it likes."""
    daemon = Daemon(emulator)
    assert daemon.answer == "ready\n"
    return daemon
