# SPDX-License-Identifier: Apache-2.0
"""brim.ps(), brim.why(), brim.events() as data."""
import threading

import pytest

import brim


def test_ps_starts_a_daemon_and_says_what_brim_ps_says(machine):
    told = brim.ps()
    assert told["emulated"] is True and told["leases"] == []
    assert told["gpus"][0]["uuid"] == machine.ps()["gpus"][0]["uuid"]


def test_why(machine):
    with brim.lease("a/b c?", resident="1GiB") as lease:
        assert brim.why("a/b c?")["kind"] == brim.why(lease.id)["kind"] == "holding"
    with pytest.raises(brim.Error, match="nothing is known of nobody"):
        brim.why("nobody")


def test_events_so_far_and_as_they_come(machine):
    with brim.lease("a", resident="1GiB"):
        seen = list(brim.events())
        assert [event["name"] for event in seen if event["kind"] == "granted"] == ["a"]
        last = seen[-1]["n"]
        assert list(brim.events(since=last)) == []
        follower, got = brim.events(since=last, follow=True), []
        thread = threading.Thread(target=lambda: got.append(next(
            event for event in follower if event["kind"] == "released")))
        thread.start()
    thread.join(60)
    assert got[0]["name"] == "a" and got[0]["n"] > last


def test_the_end_of_the_daemon_ends_the_following(machine):
    follower = brim.events(follow=True)
    next(follower)
    machine.brim("daemon", "stop")
    try:
        rest = list(follower)
    except brim.NoDaemon:
        rest = []
    assert all("kind" in event for event in rest)


def test_an_answer_that_is_an_error_is_its_text(machine):
    from brim import _client
    with pytest.raises(brim.Error, match="nobody"):
        _client.request("/v1/stop", "POST", {"name": "nobody"})
