# SPDX-License-Identifier: Apache-2.0
"""brimd ends, dies and comes back: what it finds again."""
import os
import shutil
import signal
import struct

import raw_client as raw
from own_daemon import Daemon

GIB = 1 << 30


def test_sigterm_ends_it_cleanly_and_programs_go_on(daemon):
    client = daemon.client()
    client.acquire(resident=GIB)
    daemon.stop()
    assert not (daemon.runtime_dir / "lease.sock").exists()
    assert not (daemon.runtime_dir / "api.sock").exists()


def test_a_lease_held_by_its_process_outlives_the_connection_and_the_daemon(daemon):
    program = daemon.machine.spawn("sleep", "1000")
    client = daemon.client()
    granted = client.acquire(name="kept", resident=3 * GIB, flags=raw.HELD_BY_PROCESS,
                             pid=program.pid)
    client.close()
    assert daemon.machine.lease("kept")["charge_bytes"] == 3 * GIB
    for end in (daemon.stop, daemon.kill):
        end()
        daemon = Daemon(daemon.machine)
        lease = daemon.machine.lease("kept")
        assert lease["id"] == f"l{granted['lease']}" and lease["charge_bytes"] == 3 * GIB
    program.kill()
    program.wait(20)
    daemon.machine.events.wait(kind="released", name="kept")


def test_a_daemon_whose_starter_has_ended_does_not_come_up_behind_a_stop(daemon):
    """It waited for the first one's lock."""
    ready, their = os.pipe()
    os.close(ready)
    late = daemon.machine.spawn(daemon.machine.build / "brimd", "--ready-fd", their, pass_fds=(their,))
    os.close(their)
    daemon.stop()
    assert late.wait(20) == 1
    assert not (daemon.runtime_dir / "lease.sock").exists()


def test_where_another_start_was_quicker_its_daemon_is_taken(emulator, short_dir):
    """This brimd cannot start, because another one listens by then."""
    brim, brimd = short_dir / "brim", short_dir / "brimd"
    shutil.copy2(emulator.build / "brim", brim)
    brimd.write_text(f"""#!/bin/sh
cd {short_dir} && mkfifo up
{emulator.build}/brimd --ready-fd 4 3>&- 4>up &
read -r line <up
echo "another brimd already works here" >&3
exit 1
""")
    brimd.chmod(0o755)
    done = emulator.run(brim, "run", "--vram", "1GiB", "--", "true")
    assert done.returncode == 0, done.stderr
    assert emulator.ps()["daemon"]["pid"]


def test_a_daemon_unlinks_no_sockets_of_another(daemon):
    daemon.process.send_signal(signal.SIGSTOP)
    shutil.rmtree(daemon.runtime_dir)
    other = Daemon(daemon.machine, env={"BRIM_STATE_DIR": str(daemon.machine.state_dir / "other")})
    assert other.answer == "ready\n"
    daemon.process.send_signal(signal.SIGTERM)
    daemon.process.send_signal(signal.SIGCONT)
    assert daemon.process.wait(20) == 0
    assert daemon.machine.ps()["daemon"]["pid"] == other.process.pid


def test_a_holder_that_comes_back_has_its_lease_and_its_state(daemon):
    client = daemon.client()
    granted = client.acquire(name="back", resident=3 * GIB, burst=GIB)
    client.ask(raw.READY)
    client.burst()
    daemon.stop()
    again = Daemon(daemon.machine)
    restored = again.machine.lease("back")
    assert restored["state"] == "busy" and not restored["connected"]
    client = again.client()
    answer = client.ask(raw.REATTACH,
                        struct.pack("<QIIQ", granted["lease"], raw.BUSY, 0, GIB)
                        + raw.claim(name="back", resident=3 * GIB, burst=GIB,
                                    gpu=granted["gpus"]))
    assert answer["type"] == raw.GRANTED and answer["lease"] == granted["lease"]
    assert again.machine.lease("back")["connected"]
    assert client.ask(raw.BURST_END)["type"] == raw.DONE
    client.close()
    again.machine.events.wait(kind="released", name="back")


def reattach(client, granted, state, taken, **claim):
    return client.ask(raw.REATTACH,
                      struct.pack("<QIIQ", granted["lease"], state, 0, taken)
                      + raw.claim(gpu=granted["gpus"], **claim))


def test_a_burst_that_the_journal_missed_is_not_granted_twice(daemon):
    """The journal is written a moment behind; what is granted and not yet taken shows nowhere."""
    claims = [{"name": name, "resident": 2 * GIB, "burst": 5 * GIB} for name in ("one", "two")]
    clients = [daemon.client(), daemon.client()]
    granted = [client.acquire(**claim) for client, claim in zip(clients, claims)]
    daemon.stop()  # from here on the journal has them, without a burst
    daemon = Daemon(daemon.machine)
    clients = [daemon.client(), daemon.client()]
    for client, lease, claim in zip(clients, granted, claims):
        assert reattach(client, lease, raw.STATE_IDLE, 0, **claim)["type"] == raw.GRANTED
    assert clients[0].burst()["type"] == raw.BURST_GRANTED
    daemon.kill()
    daemon = Daemon(daemon.machine)
    one, two = daemon.client(), daemon.client()
    assert reattach(two, granted[1], raw.STATE_IDLE, 0, **claims[1])["type"] == raw.GRANTED
    asked = two.send(raw.BURST_BEGIN, struct.pack("<QQ", 5 * GIB, raw.FOR_EVER))
    assert reattach(one, granted[0], raw.BUSY, 5 * GIB, **claims[0])["type"] == raw.GRANTED
    assert two.answer(asked)["type"] == raw.QUEUED
    assert one.ask(raw.BURST_END)["type"] == raw.DONE
    assert two.answer(asked)["type"] == raw.BURST_GRANTED


def test_a_burst_that_ended_unseen_gives_way_to_the_one_that_followed_it(daemon):
    claims = [{"name": name, "resident": 2 * GIB, "burst": 5 * GIB} for name in ("one", "two")]
    clients = [daemon.client(), daemon.client()]
    granted = [client.acquire(**claim) for client, claim in zip(clients, claims)]
    for client in clients:
        client.ask(raw.READY)
    assert clients[0].burst()["type"] == raw.BURST_GRANTED
    daemon.stop()
    again = Daemon(daemon.machine)
    assert again.machine.lease("one")["state"] == "busy"
    one, two = again.client(), again.client()
    assert reattach(two, granted[1], raw.BUSY, 5 * GIB, **claims[1])["type"] == raw.GRANTED
    assert reattach(one, granted[0], raw.STATE_IDLE, 0, **claims[0])["type"] == raw.GRANTED
    assert again.machine.lease("two")["state"] == "busy"
    assert again.machine.lease("one")["state"] == "idle"


def test_a_holder_that_the_journal_does_not_know_is_believed(daemon):
    client = daemon.client()
    granted = client.acquire(name="lost", resident=3 * GIB)
    daemon.kill()
    for path in daemon.machine.state_dir.glob("brimd.sqlite*"):
        path.unlink()
    again = Daemon(daemon.machine)
    client = again.client()
    answer = client.ask(raw.REATTACH,
                        struct.pack("<QIIQ", granted["lease"], raw.STATE_IDLE, 0, 0)
                        + raw.claim(name="lost", resident=3 * GIB, gpu=granted["gpus"]))
    assert answer["type"] == raw.GRANTED and answer["charge"] == 3 * GIB
    assert again.machine.lease("lost")["state"] == "idle"


def test_ids_go_on_after_a_restart(daemon):
    first = daemon.client().acquire(resident=GIB)
    daemon.stop()
    second = Daemon(daemon.machine).client().acquire(resident=GIB)
    assert second["lease"] > first["lease"]


def test_a_refusal_can_be_explained_after_a_restart(daemon):
    refused = daemon.client().acquire(name="greedy", resident=20 * GIB)
    daemon.stop()
    Daemon(daemon.machine)
    why = daemon.machine.brim("why", f"r{refused['refusal']}")
    assert why.returncode == 0 and "greedy" in why.stdout and "20.0" in why.stdout


def test_a_broken_journal_is_moved_aside(daemon):
    daemon.kill()
    for path in daemon.machine.state_dir.glob("brimd.sqlite*"):
        path.unlink()
    journal = daemon.machine.state_dir / "brimd.sqlite"
    journal.write_bytes(b"this is no database at all" * 100)
    again = Daemon(daemon.machine)
    assert again.answer == "ready\n"
    assert (daemon.machine.state_dir / "brimd.sqlite.broken").exists()
    assert again.client().acquire(resident=GIB)["type"] == raw.GRANTED
