# SPDX-License-Identifier: Apache-2.0
"""The lease socket spoken by hand: for what a well-behaved library never says."""
import socket
import struct

MAGIC, VERSION, HEAD = 0x4D42, 1, "<HHHHII"
HELLO, ACQUIRE, REATTACH, READY, BIND, IDLE = 1, 2, 3, 4, 5, 6
BURST_BEGIN, BURST_END, RESIZE, RELEASE, TRIMMED = 7, 8, 9, 10, 11
WELCOME, GRANTED, QUEUED, REFUSED, BURST_GRANTED, DONE, TRIM, STOP, LOST = range(64, 73)
NEVER_FITS, NO_ROOM, VERSION_REFUSED, STATE, DENIED, LIMIT, INVALID, NO_GPU = range(1, 9)
FOR_EVER = 2**64 - 1
HELD_BY_PROCESS, ALWAYS_BUSY, ADOPT, LOAD_ALONE = 1, 2, 4, 8
LOADING, STATE_IDLE, BUSY = 2, 3, 4


def packet(kind, body=b"", seq=1, version=VERSION):
    return struct.pack(HEAD, MAGIC, version, kind, 0, seq, len(body)) + body


def claim(name="raw", resident=1 << 30, burst=0, wait_ms=0, flags=0, gpu="", pid=0):
    return struct.pack("<QQQQIIII64s384s", resident, burst, 0, wait_ms, pid, 0, flags, 0,
                       name.encode(), gpu.encode())


class RawClient:
    """One connection. Every call waits for what the daemon says, at most 20 s."""

    def __init__(self, runtime_dir, is_greeted=True):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(20)
        self.socket.connect(str(runtime_dir / "lease.sock"))
        self.seq = 0
        if is_greeted:
            assert self.ask(HELLO, struct.pack("<II64s", 1, 0, b"raw"))["type"] == WELCOME

    def send(self, kind, body=b""):
        self.seq += 1
        self.socket.send(packet(kind, body, self.seq))
        return self.seq

    def receive(self):
        """The next message, or None at the end of the connection."""
        try:
            data = self.socket.recv(4096)
        except ConnectionResetError:
            return None
        if not data:
            return None
        _, _, kind, _, seq, _ = struct.unpack_from(HEAD, data)
        message = {"type": kind, "seq": seq}
        body = data[16:]
        if kind == GRANTED:
            lease, charge, state, _ = struct.unpack_from("<QQII", body)
            message.update(lease=lease, charge=charge, state=state,
                           gpus=body[24:].rstrip(b"\0").decode())
        elif kind in (REFUSED, QUEUED):
            numbers = struct.unpack_from("<QQQQQQQII", body)
            message.update(refusal=numbers[0], asked=numbers[1], free=numbers[2], code=numbers[7],
                           position=numbers[8], text=body[64:].rstrip(b"\0").decode())
        elif kind in (BURST_GRANTED, TRIM):
            message["bytes"] = struct.unpack_from("<Q", body)[0]
        elif kind in (STOP, LOST):
            message["text"] = body.rstrip(b"\0").decode()
        return message

    def wait(self, kind, seq=None):
        """The next message of this kind; what comes before it is passed over."""
        while True:
            message = self.receive()
            assert message is not None, f"the connection ended before {kind}"
            if message["type"] == kind and (seq is None or message["seq"] == seq):
                return message

    def answer(self, seq):
        """The next message about this request: the second one is what became of a queued one."""
        while True:
            message = self.receive()
            assert message is not None, f"the connection ended, request {seq} was not answered"
            if message["seq"] == seq:
                return message

    def ask(self, kind, body=b""):
        return self.answer(self.send(kind, body))

    def acquire(self, **terms):
        return self.ask(ACQUIRE, claim(**terms))

    def burst(self, size=0, wait_ms=0):
        return self.ask(BURST_BEGIN, struct.pack("<QQ", size, wait_ms))

    def is_closed(self):
        """Waits for the end of the connection, whatever comes before it."""
        while self.receive() is not None:
            pass
        return True

    def close(self):
        self.socket.close()
