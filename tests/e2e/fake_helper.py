#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A brim-helper that says what the file $BRIM_STATE_DIR/facts.json says: for what no emulated card
does. {"gpus": [{"uuid": …, "capacity": N, "used": N, "processes": [[pid, bytes or null], …]}],
"status": 0, "problem": "", "noise": "hex"}; the file is read anew for every question. With "once"
in it, that is said to one question, and the rest from then on. With "gate" it says its facts only
when somebody has opened that FIFO and closed it again."""
import json
import os
import socket
import struct
from pathlib import Path

FACTS_GPU, FACTS_END = 2, 3


def take_facts(path):
    facts = json.loads(path.read_text(encoding="utf-8"))
    once = facts.pop("once", None)
    if once is None:
        return facts
    rest = path.with_suffix(".rest")
    rest.write_text(json.dumps(facts), encoding="utf-8")
    rest.rename(path)
    return once


def main():
    link = socket.socket(fileno=0)
    path = Path(os.environ["BRIM_STATE_DIR"]) / "facts.json"
    while request := link.recv(64):
        _, seq = struct.unpack("<II", request)
        facts = take_facts(path)
        if "gate" in facts:
            Path(facts["gate"]).read_bytes()
        if "noise" in facts:
            link.send(bytes.fromhex(facts["noise"]))
            continue
        gpus = facts.get("gpus", [])
        for index, gpu in enumerate(gpus):
            processes = gpu.get("processes", [])
            has_bytes = all(used is not None for _, used in processes)
            link.send(struct.pack("<IIII48s64sQQII", FACTS_GPU, seq, index, has_bytes,
                                  gpu["uuid"].encode(), b"Made-up", gpu["capacity"], gpu["used"],
                                  len(processes), 0)
                      + b"".join(struct.pack("<IIQ", pid, used is not None, used or 0)
                                 for pid, used in processes))
        link.send(struct.pack("<IIIi256s80s", FACTS_END, seq, len(gpus), facts.get("status", 0),
                              facts.get("problem", "").encode(), b"1.0"))


main()
