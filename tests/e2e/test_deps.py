# SPDX-License-Identifier: Apache-2.0
"""scripts/deps on a machine that is made up: its apt-get, dpkg-query, sudo and id only take notes."""
import os
import pty
import shutil
import subprocess
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]
TOOLS = ("bash", "grep", "find", "awk", "sed", "cut", "env", "cat")
FAKES = {
    "dpkg-query": 'case " $MISSING " in *" ${@: -1} "*) exit 1 ;; esac; echo installed',
    "apt-get": 'case "$*" in *--print-uris*) echo "\'http://x/y.deb\' y.deb 2500000 SHA256:0" ;; '
               '*) echo "apt-get $*" >>"$NOTES" ;; esac',
    "sudo": 'echo "sudo" >>"$NOTES"; exec "$@"',
    "id": 'echo "$FAKE_UID"',
}


class Machine:
    def __init__(self, path):
        self.bin = path / "bin"
        self.bin.mkdir()
        self.notes = path / "notes"
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool))
        for name, body in FAKES.items():
            (self.bin / name).write_text(f"#!/bin/bash\n{body}\n")
            (self.bin / name).chmod(0o755)

    def env(self, missing, uid, more):
        return {"PATH": str(self.bin), "NOTES": str(self.notes), "MISSING": missing,
                "FAKE_UID": str(uid), **more}

    def deps(self, purpose="check", missing="", uid=1000, **more):
        return subprocess.run([TREE / "scripts" / "deps", purpose],
                              env=self.env(missing, uid, more), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def deps_on_terminal(self, answer, missing, **more):
        leader, follower = pty.openpty()
        try:
            os.write(leader, answer.encode())
            return subprocess.run([TREE / "scripts" / "deps", "check"],
                                  env=self.env(missing, 1000, more), stdin=follower,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        finally:
            os.close(leader)
            os.close(follower)

    def noted(self):
        return self.notes.read_text() if self.notes.exists() else ""


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_says_and_does_nothing_when_all_is_there(machine):
    done = machine.deps()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert machine.noted() == ""


def test_installs_only_what_is_missing_and_shows_it_first(machine):
    done = machine.deps(missing="meson mandoc")
    assert done.returncode == 0, done.stderr
    assert "meson mandoc" in done.stdout
    assert "3 MB" in done.stdout
    install = [line for line in machine.noted().splitlines() if " install " in line]
    assert len(install) == 1
    assert install[0].endswith("--no-install-recommends meson mandoc")
    assert "sudo" in machine.noted()


def test_root_needs_no_sudo(machine):
    assert machine.deps(missing="meson", uid=0).returncode == 0
    assert "sudo" not in machine.noted()
    assert " install " in machine.noted()


def test_a_purpose_asks_only_for_its_own(machine):
    machine.deps("build", missing="meson mandoc shellcheck")
    assert machine.noted().rstrip().endswith("--no-install-recommends meson")


def test_on_a_terminal_a_no_installs_nothing(machine):
    done = machine.deps_on_terminal("n\n", "meson")
    assert done.returncode == 1
    assert " install " not in machine.noted()


@pytest.mark.parametrize("answer,more", [("y\n", {}), ("\n", {}), ("", {"YES": "1"})])
def test_on_a_terminal_a_yes_goes_ahead(machine, answer, more):
    assert machine.deps_on_terminal(answer, "meson", **more).returncode == 0
    assert " install " in machine.noted()


def test_without_apt_it_says_what_is_needed(machine):
    (machine.bin / "apt-get").unlink()
    done = machine.deps(missing="meson")
    assert done.returncode == 1
    assert "libuv1-dev" in done.stderr
    assert machine.deps(missing="meson", DEPS="skip").returncode == 0


def test_without_sudo_it_says_what_root_must_do(machine):
    (machine.bin / "sudo").unlink()
    done = machine.deps(missing="meson")
    assert done.returncode == 1
    assert "apt-get install --no-install-recommends meson" in done.stderr


def test_an_unknown_purpose_is_a_usage_error(machine):
    assert machine.deps("everything").returncode == 2
