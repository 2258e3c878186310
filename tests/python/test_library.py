# SPDX-License-Identifier: Apache-2.0
"""The ABI as Python sees it, and what is said where the library is missing."""
import ctypes
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import brim
from brim import _library

TREE = Path(__file__).resolve().parents[2]
PACKAGE = TREE / "python"

STRUCTS = {"brim_claim": _library.Claim, "brim_refusal": _library.Refusal,
           "brim_segment": _library.SegmentStruct}


@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")
def test_the_structs_are_those_of_the_header(tmp_path):
    lines = []
    for name, struct in STRUCTS.items():
        lines.append(f'printf("{name} %zu\\n", sizeof(struct {name}));')
        for field, _ in struct._fields_:
            lines.append(f'printf("{name}.{field} %zu %zu\\n", offsetof(struct {name}, {field}), '
                         f"sizeof(((struct {name} *)0)->{field}));")
    source = tmp_path / "layout.c"
    source.write_text("#include <stddef.h>\n#include <stdio.h>\n#include <brim/brim.h>\n"
                      "int main(void)\n{\n" + "\n".join(lines) + "\nreturn 0;\n}\n")
    subprocess.run(["cc", "-I", TREE / "include", source, "-o", tmp_path / "layout"], check=True)
    told = subprocess.run([tmp_path / "layout"], check=True, stdout=subprocess.PIPE, text=True)
    ours = []
    for name, struct in STRUCTS.items():
        ours.append(f"{name} {ctypes.sizeof(struct)}")
        ours += [f"{name}.{field} {getattr(struct, field).offset} {getattr(struct, field).size}"
                 for field, _ in struct._fields_]
    assert told.stdout.splitlines() == ours


def test_every_error_code_of_the_library_is_an_exception_with_its_text(build_dir, monkeypatch):
    from brim._errors import from_code
    monkeypatch.setenv("BRIM_LIB", str(build_dir / "libbrim.so.0"))
    library = _library.load()
    kinds = {library.brim_error_name(-code).decode(): type(from_code(-code, "text")).__name__
             for code in range(1, 16)}
    assert kinds["NEVER_FITS"] == "NeverFits" and kinds["NO_ROOM"] == "Refused"
    assert kinds["FORKED"] == "Forked" and kinds["LOST"] == "Lost"
    assert kinds["DENIED"] == "Denied" and kinds["LIMIT"] == "Refused"
    assert kinds["NO_DAEMON"] == "NoDaemon" and kinds["VERSION"] == "NoLibrary"


def ask(env, text="import brim; brim.lease('a', resident='1GiB').acquire()"):
    return subprocess.run([sys.executable, "-c", text], env={"PYTHONPATH": str(PACKAGE), **env},
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_without_a_library_the_import_works_and_the_lease_says_where_it_looked(tmp_path):
    done = ask({"BRIM_LIB": str(tmp_path / "nowhere.so")})
    assert "brim._errors.NoLibrary: no libbrim.so.0" in done.stderr
    assert "nowhere.so is not there" in done.stderr and "make install" in done.stderr


@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")
@pytest.mark.parametrize("body, said", [
    ('const char *brim_version(void) { return "7.0.0"; }', "has no brim_strerror"),
    ("", "has no brim_version"),
])
def test_another_library_of_that_name_is_refused(tmp_path, body, said):
    (tmp_path / "other.c").write_text(body)
    library = tmp_path / "libbrim.so.0"
    subprocess.run(["cc", "-shared", "-fPIC", tmp_path / "other.c", "-o", library], check=True)
    done = ask({"BRIM_LIB": str(library)})
    assert "NoLibrary" in done.stderr and said in done.stderr
    assert "install both from the same version" in done.stderr


def test_another_version_is_refused(monkeypatch, build_dir):
    monkeypatch.setenv("BRIM_LIB", str(build_dir / "libbrim.so.0"))
    monkeypatch.setattr(_library, "_library", None)
    monkeypatch.setattr(_library, "VERSION", (9, 9))
    with pytest.raises(brim.NoLibrary, match="is version .*this package needs 9.9"):
        _library.load()


def test_importing_is_quick_and_imports_no_torch(python_env):
    """30 ms of a processor, the best of five: the machine may be busy."""
    text = ("import time; began = time.process_time(); import brim; took = time.process_time(); "
            "import sys; assert not {'torch', 'asyncio', 'typing'} & set(sys.modules); "
            "print(took - began)")
    took_s = min(float(subprocess.run([sys.executable, "-c", text], env=python_env, text=True,
                                      stdout=subprocess.PIPE, check=True).stdout)
                 for _ in range(5))
    assert took_s <= 0.030
