# SPDX-License-Identifier: Apache-2.0
"""`meson install` into a package's root: what is there, and that it runs from there."""
import os
import subprocess

import pytest


@pytest.fixture
def installed(build_dir, short_dir):
    if not os.access(build_dir / "meson-logs", os.W_OK):
        pytest.skip("meson install writes a log into the build, which is another user's")
    root = short_dir / "root"
    subprocess.run(["meson", "install", "-C", build_dir, "--no-rebuild", "--destdir", root],
                   check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return root / "usr" / "local"


def test_what_is_installed_runs_from_where_it_lies(installed, bare):
    for path in ("bin/brim", "bin/brimd", "libexec/brim/brim-helper", "libexec/brim/brim-emulator",
                 "include/brim/brim.h", "share/man/man1/brim.1", "share/man/man3/libbrim.3",
                 "share/man/man8/brimd.8"):
        assert (installed / path).exists(), path
    libraries = [path.name for path in installed.rglob("*.so*")]
    assert "libbrim.so.0" in libraries and "libcuda.so.1" in libraries
    bare.env["PATH"] = f"{installed}/bin:/usr/bin:/bin"
    done = bare.run("brim", "emulate", "--gpu", "6GiB", "--",
                    "brim", "run", "--vram", "1GiB", "--name", "first", "--", "brim", "ps")
    assert done.returncode == 0, done.stderr
    assert "first" in done.stdout


def test_every_command_has_a_manual_page(installed, bare):
    help_text = bare.brim("--help").stdout
    commands = [line.split()[0] for line in help_text.splitlines() if line.startswith("  ")]
    assert "ps" in commands and "emulate" in commands
    pages = os.listdir(installed / "share" / "man" / "man1")
    assert [name for name in commands if f"brim-{name}.1" not in pages] == []
