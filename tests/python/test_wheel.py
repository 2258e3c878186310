# SPDX-License-Identifier: Apache-2.0
"""The wheel: what is in it, its name, and a life of its own away from the tree."""
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]

sys.path.insert(0, str(TREE / "python/packaging"))
import backend  # noqa: E402


@pytest.fixture
def wheel(build_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("BRIM_BUILD", str(build_dir))
    return tmp_path / backend.build_wheel(tmp_path)


def pip(*arguments, **options):
    return subprocess.run([sys.executable, "-m", "pip", "-q", "--disable-pip-version-check",
                           *arguments], check=True, **options)


def test_an_installed_wheel_needs_nothing_of_the_tree(wheel, emulator, tmp_path):
    pip("install", "--no-index", "--target", tmp_path / "site", wheel)
    env = {"PYTHONPATH": str(tmp_path / "site"), "PATH": "/usr/bin:/bin"}
    done = emulator.run(sys.executable, "-c", "import brim\n"
                        "with brim.lease('a', resident='1GiB', burst='1GiB') as l, l.burst():\n"
                        "    print(brim._library.load()._name, brim.ps()['leases'][0]['state'])",
                        env=env)
    path, state = done.stdout.split()
    assert path == str(tmp_path / "site/brim/_bin/libbrim.so.0") and state == "busy", done.stderr
    done = emulator.run(sys.executable, "-m", "brim", "run", "--vram", "1GiB", "--python-janitor",
                        "--", sys.executable, "-c", "import sys; print(sys.meta_path[0])", env=env)
    assert "_TorchFinder" in done.stdout, done.stderr


def test_its_name_says_what_it_needs(wheel):
    with zipfile.ZipFile(wheel) as files:
        assert files.testzip() is None
        names = files.namelist()
        tag = files.read("brim-0.1.0.dist-info/WHEEL").decode()
    assert "brim/py.typed" in names and "brim/_janitor/sitecustomize.py" in names
    assert [name for name in names if "/_bin/" in name] \
        == [f"brim/_bin/{name}" for name in backend.PROGRAMS]
    assert not [name for name in names if "__pycache__" in name]
    # brimd needs libuv: manylinux would be a lie.
    assert wheel.name.endswith("-linux_x86_64.whl") and "Tag: py3-none-linux_x86_64" in tag


def test_the_library_alone_would_be_manylinux(build_dir):
    tag = backend.platform_tag([build_dir / "libbrim.so.0", build_dir / "brim-helper"])
    assert tag.startswith("manylinux_2_") and tag.endswith("_x86_64")


def test_without_a_build_it_is_python_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("BRIM_BUILD", str(tmp_path / "nothing"))
    assert backend.build_wheel(tmp_path) == "brim-0.1.0-py3-none-any.whl"
    assert "nothing is built" in capsys.readouterr().err


def test_pip_installs_the_tree_without_a_network(build_dir, tmp_path):
    pip("install", "--no-index", "--target", tmp_path / "site", TREE,
        env={"BRIM_BUILD": str(build_dir), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)})
    assert (tmp_path / "site/brim/_bin/brimd").exists()
    shutil.rmtree(tmp_path / "site")
    pip("install", "--no-index", "--target", tmp_path / "site", "-e", TREE,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)})
    assert (tmp_path / "site/brim.pth").read_text().strip() == str(TREE / "python")
    assert list((TREE / "python").rglob("*egg-info")) == []


def test_the_same_tree_gives_the_same_wheel(build_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("BRIM_BUILD", str(build_dir))
    made = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        made.append((tmp_path / folder / backend.build_wheel(tmp_path / folder)).read_bytes())
    assert made[0] == made[1]
