# SPDX-License-Identifier: Apache-2.0
"""A worker of the worker protocol, in whatever mood the environment asks for.

TELL       a FIFO: gets "begin ID PID" at each segment's beginning
GATE       a FIFO: a segment goes on when it has read one byte from it
BURST      bytes to ask for at each segment ("0": the whole of the claim's)
DIE_AT     ID: dies there by SIGKILL, the first time (DIE_ALWAYS: each time)
FAIL_AT    ID: answers failed there
SILENT_AT  ID: never answers there
SAY_AT     ID: answers SAY there, as it is
READY      the first line; default {"ready": true}; "" for none
STDIO      talks on standard input and output
"""
import json
import os
import signal
import socket
import sys
from pathlib import Path

env = os.environ.get


def flood(out):
    try:
        while True:
            out.write("x" * (1 << 16))
    except OSError:
        sys.exit(1)


def main():
    if env("STDIO"):
        lines, out = sys.stdin, sys.stdout
    else:
        link = socket.socket(fileno=int(os.environ["BRIM_FD"]))
        lines = link.makefile("r", encoding="utf-8", newline="\n")
        out = link.makefile("w", encoding="utf-8", newline="\n")
    print("worker", env("BRIM_WORKER"), "of", env("BRIM_BATCH"), "on", env("CUDA_VISIBLE_DEVICES"),
          file=sys.stderr, flush=True)

    def say(text):
        out.write(text + "\n")
        out.flush()

    if env("START_DEATH"):
        sys.exit("no model here")
    if env("READY", '{"ready": true}'):
        say(env("READY", '{"ready": true}'))
    for line in lines:
        request = json.loads(line)
        if "stop" in request:
            return
        if "flush" in request:
            Path("flushed").touch()
            say(json.dumps({"flushed": env("FLUSH", "good") == "good"}))
            continue
        work(request, say, lines, out)


def work(request, say, lines, out):
    name = request["id"]
    if env("TELL"):
        with open(env("TELL"), "w", encoding="utf-8") as tell:
            tell.write(f"begin {name} {os.getpid()}\n")
    if env("GATE"):
        with open(env("GATE"), "rb", buffering=0) as gate:
            gate.read(1)
    if env("BURST"):
        say(json.dumps({"burst": int(env("BURST"))}))
        answer = json.loads(lines.readline())
        if "granted" not in answer:
            if "stop" in answer:
                sys.exit(0)
            say(json.dumps({"failed": request["segment"], "reason": answer["refused"]}))
            return
    if env("DIE_AT") == name and (env("DIE_ALWAYS") or not Path("died").exists()):
        Path("died").touch()
        Path(request["out"]).write_text("half", encoding="utf-8")
        os.kill(os.getpid(), signal.SIGKILL)
    if env("SILENT_AT") == name:
        signal.pause()
    if env("SAY_AT") == name:
        if env("SAY") == "flood":
            flood(out)
        say(env("SAY"))
        return
    if env("FAIL_AT") == name:
        say(json.dumps({"failed": request["segment"], "reason": "no speech in it"}))
        return
    text = request["input"]
    text = text if isinstance(text, str) else json.dumps(text)
    Path(request["out"]).write_text(text.upper() + "\n", encoding="utf-8")
    say(json.dumps({"done": request["segment"]}))


if __name__ == "__main__":
    main()
