# SPDX-License-Identifier: Apache-2.0
"""Sizes: the C side's rules and sentences."""
import re
from pathlib import Path

import pytest

from brim import format_size, parse_size

TREE = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("text, bytes_", [
    ("5.2GiB", 5583457484), ("12GB", 12 * 10**9), ("800m", 800 << 20), ("1TiB", 1 << 40),
    ("0B", 0), ("1.5kB", 1500), (17, 17), ("16777215TiB", 16777215 << 40), ("3k", 3072),
])
def test_a_size_is_read(text, bytes_):
    assert parse_size(text) == bytes_


@pytest.mark.parametrize("text, said", [
    ("12", "12 what? write 12GiB or 12GB"),
    ("1.5", "1.5 what? write 1.5GiB or 1.5GB"),
    ("", "'' is not a size (write it like 5.2GiB or 800MiB)"),
    ("-1GiB", "'-1GiB' is not a size (write it like 5.2GiB or 800MiB)"),
    ("12 GiB", "'12 GiB' has no known unit (GiB, MiB, GB, MB)"),
    ("12gb", "'12gb' has no known unit (GiB, MiB, GB, MB)"),
    ("99999999999999999999GiB", "'99999999999999999999GiB' has too many digits"),
    ("1.0000000001GiB", "'1.0000000001GiB' has too many digits"),
    ("16777216TiB", "'16777216TiB' is too large"),
    ("9" * 5000 + "B", f"'{'9' * 5000}B' has too many digits"),
])
def test_what_is_no_size_is_said_as_the_commands_say_it(text, said):
    with pytest.raises(ValueError, match="^" + re.escape(said) + "$"):
        parse_size(text)


def test_the_sentences_are_those_of_the_c_side():
    """A sentence that changes there has to change here."""
    source = (TREE / "src/base/size.c").read_text()
    python = (TREE / "python/brim/_size.py").read_text()
    for sentence in re.findall(r'error_set\(err, -E\w+,\s+"([^"]+)"', source):
        parts = [part for part in re.split(r"%s", sentence) if part.strip(" '")]
        assert all(part in python for part in parts), sentence


@pytest.mark.parametrize("wrong", [True, 1.5, None, b"1GiB"])
def test_what_is_no_text_and_no_number_is_a_type_error(wrong):
    with pytest.raises(TypeError):
        parse_size(wrong)


@pytest.mark.parametrize("bytes_, text", [
    (0, "0"), (5, "5 B"), (1536, "2 KiB"), (800 << 20, "800 MiB"), (5583457484, "5.20 GiB")])
def test_a_size_is_written(bytes_, text):
    assert format_size(bytes_) == text


@pytest.mark.parametrize("wrong", [-1, 1 << 64])
def test_a_number_out_of_range_is_refused(wrong):
    with pytest.raises(ValueError):
        parse_size(wrong)
