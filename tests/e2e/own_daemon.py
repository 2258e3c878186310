# SPDX-License-Identifier: Apache-2.0
"""A brimd that a test starts, ends and kills itself, instead of letting the first command do it."""
import os

from raw_client import RawClient


class Daemon:
    """A brimd of the test's own, on an emulated machine."""

    def __init__(self, machine, program=None, options=(), env=None, before=()):
        self.machine = machine
        ready, their = os.pipe()
        self.process = machine.spawn(*before, program or machine.build / "brimd", "--log-level", "debug",
                                     "--ready-fd", their, *options, env=env,
                                     stderr=(machine.state_dir / "brimd-test.log").open("ab"),
                                     pass_fds=(their,))
        os.close(their)
        with os.fdopen(ready) as stream:
            self.answer = stream.readline()  # to its end: but a tracer keeps its end open
        self.runtime_dir = machine.runtime_dir

    def client(self, **options):
        return RawClient(self.runtime_dir, **options)

    def kill(self):
        self.process.kill()
        self.process.wait(20)

    def stop(self):
        self.process.terminate()
        assert self.process.wait(20) == 0
