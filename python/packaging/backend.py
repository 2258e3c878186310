# SPDX-License-Identifier: Apache-2.0
"""Makes the wheel of python/brim: `pip install .`, `make wheel`. A PEP 517 and 660 backend of the
tree's own, because a package without a compiler needs no build system from the network.

Where the tree is built ($BRIM_BUILD, else build/), the library, the programs and the emulator go
into the wheel and are found there first. Then it carries a platform: manylinux_2_NN where
everything in it needs no library but glibc's, of that version; linux_ARCH otherwise, which says
that the libraries that the programs need have to be on the machine (as pip names it, and as PyPI
refuses it). Without a build the wheel is py3-none-any and finds an installed libbrim.
"""
import base64
import hashlib
import io
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
PACKAGE = TREE / "python" / "brim"
PROGRAMS = ("libbrim.so.0", "brim", "brimd", "brim-helper", "brim-emulator", "emu/libcuda.so.1",
            "emu/libnvidia-ml.so.1")
GLIBC = re.compile(r"(libc|libm|libdl|libpthread|librt|ld-linux-[\w-]+)\.so\.\d+")


def version():
    return re.search(r'^__version__ = "(.*)"$', (PACKAGE / "__init__.py").read_text(), re.M)[1]


def build_dir():
    return TREE / os.environ.get("BRIM_BUILD", "build")


def programs():
    """What a build has of ours: all or nothing."""
    paths = [build_dir() / name for name in PROGRAMS]
    return paths if all(path.exists() for path in paths) else []


def needs(path):
    """(libraries that are not glibc's, the newest glibc version that is asked for)."""
    told = subprocess.run(["objdump", "-p", path], check=True, stdout=subprocess.PIPE,
                          encoding="utf-8").stdout
    foreign = {name for name in re.findall(r"NEEDED\s+(\S+)", told) if not GLIBC.fullmatch(name)}
    versions = [tuple(map(int, found.split(".")))[:2]
                for found in re.findall(r"\bGLIBC_(\d+\.\d+)", told)]
    return foreign, max(versions, default=(2, 17))


def platform_tag(paths):
    arch = platform.machine()
    if not shutil.which("objdump"):
        return f"linux_{arch}"
    found = [needs(path) for path in paths]
    foreign = sorted(set().union(*(libraries for libraries, _ in found)))
    if foreign:
        print(f"wheel: linux_{arch}, not manylinux: its programs need {', '.join(foreign)}",
              file=sys.stderr)
        return f"linux_{arch}"
    major, minor = max(glibc for _, glibc in found)
    return f"manylinux_{major}_{minor}_{arch}"


def stripped(path):
    """The file's bytes without debugging symbols, where strip is there."""
    if not shutil.which("strip"):
        return path.read_bytes()
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory) / path.name
        subprocess.run(["strip", "--strip-unneeded", "-o", copy, path], check=True)
        return copy.read_bytes()


def package_files():
    for path in sorted(PACKAGE.rglob("*")):
        inside = path.relative_to(PACKAGE)
        if path.is_file() and not {"__pycache__", "_bin"} & set(inside.parts):
            yield f"brim/{inside}", path.read_bytes()


def metadata():
    return (f"Metadata-Version: 2.1\nName: brim\nVersion: {version()}\n"
            "Summary: Ask for GPU memory before you take it\n"
            "License: Apache-2.0\nRequires-Python: >=3.9\n"
            "Classifier: Operating System :: POSIX :: Linux\nClassifier: Typing :: Typed\n"
            "Description-Content-Type: text/markdown\n\n"
            + (TREE / "docs" / "python.md").read_text(encoding="utf-8"))


class Wheel:
    def __init__(self, path):
        self.path = path
        self._zip = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED)
        self._record = []

    def add(self, name, data, mode=0o644):
        # The same tree gives the same file: no times of day.
        info = zipfile.ZipInfo(name)
        info.external_attr = (0o100000 | mode) << 16
        info.compress_type = zipfile.ZIP_DEFLATED
        self._zip.writestr(info, data)
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        self._record.append(f"{name},sha256={digest},{len(data)}")

    def close(self, tag):
        info = f"brim-{version()}.dist-info"
        is_pure = "true" if tag.endswith("any") else "false"
        self.add(f"{info}/METADATA", metadata().encode())
        self.add(f"{info}/WHEEL", (f"Wheel-Version: 1.0\nGenerator: brim\n"
                                   f"Root-Is-Purelib: {is_pure}\nTag: {tag}\n").encode())
        self.add(f"{info}/entry_points.txt", b"[console_scripts]\nbrim = brim.__main__:main\n")
        self.add(f"{info}/LICENSE", (TREE / "LICENSE").read_bytes())
        self._record.append(f"{info}/RECORD,,")
        self._zip.writestr(zipfile.ZipInfo(f"{info}/RECORD"), "\n".join(self._record) + "\n")
        self._zip.close()


def make(directory, tag, fill):
    name = f"brim-{version()}-{tag}.whl"
    wheel = Wheel(Path(directory) / name)
    fill(wheel)
    wheel.close(tag)
    return name


# -- the hooks that pip calls

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    found = programs()
    if not found:
        print(f"wheel: nothing is built in {build_dir()}: without libbrim and the programs",
              file=sys.stderr)

    def fill(wheel):
        for name, data in package_files():
            wheel.add(name, data)
        for path in found:
            name = path.relative_to(build_dir())
            wheel.add(f"brim/_bin/{name}", stripped(path), 0o755)

    return make(wheel_directory, f"py3-none-{platform_tag(found) if found else 'any'}", fill)


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    return make(wheel_directory, "py3-none-any",
                lambda wheel: wheel.add("brim.pth", f"{PACKAGE.parent}\n".encode()))


def build_sdist(sdist_directory, config_settings=None):
    base = f"brim-{version()}"
    with tarfile.open(Path(sdist_directory) / f"{base}.tar.gz", "w:gz") as archive:
        for name in ("pyproject.toml", "LICENSE", "docs/python.md", "python/packaging/backend.py"):
            archive.add(TREE / name, f"{base}/{name}")
        for name, data in package_files():
            entry = tarfile.TarInfo(f"{base}/python/{name}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        entry = tarfile.TarInfo(f"{base}/PKG-INFO")
        entry.size = len(metadata().encode())
        archive.addfile(entry, io.BytesIO(metadata().encode()))
    return f"{base}.tar.gz"


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    print(target / build_wheel(target))
