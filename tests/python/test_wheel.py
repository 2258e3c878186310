# SPDX-License-Identifier: Apache-2.0
"""The wheel: what is in it, its name, and a life of its own away from the tree."""
import shutil
import subprocess
import sys
import tempfile
import venv
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


@pytest.fixture(scope="module")
def environment(build_dir):
    """A virtual environment that has the wheel and knows no tree."""
    with tempfile.TemporaryDirectory(prefix="brim-") as path, pytest.MonkeyPatch.context() as patch:
        directory = Path(path)
        patch.setenv("BRIM_BUILD", str(build_dir))
        venv.create(directory / "venv", with_pip=False)
        pip("--python", directory / "venv/bin/python", "install", "--no-index",
            directory / backend.build_wheel(directory))
        yield directory / "venv"


@pytest.fixture
def fresh(environment, bare):
    """fresh(program, …): runs in that environment, with a home of its own."""
    for name in [name for name in bare.env if name.startswith(("BRIM_", "PYTHON"))]:
        del bare.env[name]
    bare.env["PATH"] = f"{environment}/bin:/usr/bin:/bin"

    def run(program, *arguments, **options):
        return bare.run(environment / "bin" / program, *arguments, **options)

    run.bin = next((environment / "lib").glob("python3*/site-packages/brim/_bin"))
    yield run
    run("brim", "daemon", "stop")


def test_its_brim_starts_its_brimd(fresh):
    done = fresh("brim", "ps")
    assert done.returncode == 0 or "no NVIDIA driver" in done.stderr, done.stderr
    done = fresh("python", "-c", "import brim, os\ntold = brim.ps()\n"
                 "print(os.readlink(f\"/proc/{told['daemon']['pid']}/exe\"))\n"
                 "print(brim._library.load()._name)")
    assert done.stdout == f"{fresh.bin}/brimd\n{fresh.bin}/libbrim.so.0\n", done.stderr


def test_who_has_no_gpu_tries_it_on_an_emulated_card(fresh):
    done = fresh("brim", "emulate", "--gpu", "rtx4070ti", "--", "python", "-c",
                 "import brim, os, shutil\n"
                 "with brim.lease('a', resident='1GiB', burst='1GiB') as lease, lease.burst():\n"
                 "    told = brim.ps()\n"
                 "    print(told['leases'][0]['state'], told['gpus'][0]['name'])\n"
                 "print(os.readlink(f\"/proc/{told['daemon']['pid']}/exe\"))\n")
    assert done.stdout == f"busy NVIDIA GeForce RTX 4070 Ti\n{fresh.bin}/brimd\n", done.stderr
    done = fresh("brim", "emulate", "--gpu", "rtx4070ti", "--", "brim", "run", "--vram", "1GiB",
                 "--python-janitor", "--", "python", "-c", "import sys; print(sys.meta_path[0])")
    assert "_TorchFinder" in done.stdout, done.stderr


def test_its_library_starts_its_brimd(fresh):
    """Without any brim in reach but the wheel's own."""
    done = fresh("brim", "emulate", "--gpu", "rtx4070ti", "--", fresh.bin.parents[4] / "bin/python",
                 "-c", "import os; os.environ['PATH'] = '/nowhere'\n"
                 "import brim\nwith brim.lease('a', resident='1GiB') as lease: print(lease.state)")
    assert done.stdout == "loading\n", done.stderr


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
