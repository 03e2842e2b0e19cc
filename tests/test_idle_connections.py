"""Which connections are closed: told from what the kernel says of each, look by look."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from app.server.idle_connections import MIN_BYTES_A_SECOND, Judge, Limits
from app.server.sockets import Connection

SILENT_S = 60.0
IDLE = Connection("socket:[1]", 1, "10.0.0.1", received_s=5, sent_s=4, acked=9, unread=0, has_asked=True)


def idle(number: int, quiet_s: float = 5, peer: str = "10.0.0.1") -> Connection:
    return replace(IDLE, inode=f"socket:[{number}]", peer=peer, received_s=quiet_s + 0.1, sent_s=quiet_s)


def judge(connections: int = 100, per_address: int = 0) -> Judge:
    return Judge(Limits(SILENT_S, connections, per_address))


@pytest.mark.parametrize(
    "sight",
    [
        replace(IDLE, received_s=61, sent_s=61),
        replace(IDLE, received_s=61, sent_s=61, has_asked=False),
        replace(IDLE, received_s=61, sent_s=100),  # half a request
    ],
    ids=["answered", "never asked", "half a request"],
)
def test_a_client_that_is_silent_for_too_long_is_closed(sight: Connection) -> None:
    assert judge().condemned([sight], 1000) == [sight]


@pytest.mark.parametrize("sight", [replace(IDLE, received_s=59), replace(IDLE, received_s=1000, sent_s=59)])
def test_a_client_that_has_sent_or_read_something_meanwhile_is_not(sight: Connection) -> None:
    assert judge().condemned([sight], 1000) == []


def test_a_client_that_waits_while_its_request_is_worked_on_is_kept() -> None:
    waiting = replace(IDLE, received_s=61, sent_s=100)
    began = 1000 - 61 + 0.01
    assert judge().condemned([waiting], 1000, [("10.0.0.1", began)]) == []
    assert judge().condemned([replace(waiting, peer="2001:0db8:0000:0001")], 1000, [("2001:db8:0:1::7", began)]) == []
    assert judge().condemned([waiting], 1000, [("10.0.0.2", began)]) == [waiting], "the request of somebody else"
    assert judge().condemned([waiting], 1000, [("10.0.0.1", began + 20)]) == [waiting], "a request on another one"


@pytest.mark.parametrize("acked_a_look", [0, 1], ids=["one request", "a request between any two looks"])
def test_a_request_that_comes_byte_by_byte_is_closed_at_last(acked_a_look: int) -> None:
    course, closed = judge(), []
    for look in range(100):
        sight = replace(IDLE, received_s=0.1, sent_s=1 + 5 * look, acked=IDLE.acked + look * acked_a_look)
        closed += [5 * look for _ in course.condemned([sight], 1000 + 5 * look)]
    assert closed[:1] == ([] if acked_a_look else [3 * SILENT_S + 5])


def looks_until_closed(bytes_a_second: float, step_s: float = 5.0) -> int | None:
    """A client that goes on sending, and reads its answer so fast; looks are taken for half an hour."""
    course = judge()
    for look in range(360):
        acked = int(bytes_a_second * look * step_s)
        sight = replace(IDLE, received_s=0.1, sent_s=0.1, unread=100_000, acked=acked)
        if course.condemned([sight], 1000 + look * step_s):
            return look
    return None


@pytest.mark.parametrize("bytes_a_second", [0, 0.5, MIN_BYTES_A_SECOND * 0.9])
def test_a_client_that_reads_too_slowly_is_closed_whatever_it_sends(bytes_a_second: float) -> None:
    look = looks_until_closed(bytes_a_second)
    assert look is not None
    assert look * 5.0 <= SILENT_S + 5.0


def test_a_client_that_reads_fast_enough_may_read_for_longer_than_it_may_be_silent() -> None:
    assert looks_until_closed(MIN_BYTES_A_SECOND * 1.1) is None


def test_a_client_that_has_read_all_of_an_answer_begins_anew_with_the_next() -> None:
    course = judge()
    for now in range(0, 600, 50):
        unread = replace(IDLE, received_s=0, unread=10, acked=now)
        assert course.condemned([unread], now) == []
        assert course.condemned([replace(unread, unread=0, acked=now + 10)], now + 25) == []


def test_as_many_as_there_may_be_are_left_alone() -> None:
    assert judge(connections=10).condemned([idle(n, 50) for n in range(10)], 1000) == []


def test_beyond_the_limit_those_go_that_are_idle_for_longest() -> None:
    connections = [idle(n, n / 10) for n in range(20)]
    random.Random(1).shuffle(connections)
    gone = judge(connections=15).condemned(connections, 1000)
    assert sorted(connection.sent_s for connection in gone) == [1.5, 1.6, 1.7, 1.8, 1.9]


def test_beyond_the_limit_the_address_that_has_most_gives_way() -> None:
    greedy = [idle(n, 1) for n in range(30)]
    others = [idle(100 + n, 50, peer=f"10.0.1.{n}") for n in range(5)]
    gone = judge(connections=20).condemned(greedy + others, 1000)
    assert len(gone) == 15
    assert {connection.peer for connection in gone} == {"10.0.0.1"}


def test_a_new_connection_is_kept_rather_than_requests_that_come_byte_by_byte() -> None:
    """A byte now and then makes none of them look younger."""
    course, slow = judge(connections=10), [replace(idle(n), received_s=0.1, sent_s=30) for n in range(10)]
    assert course.condemned(slow, 1000) == []
    new = replace(idle(99), received_s=0, sent_s=0, has_asked=False)
    (gone,) = course.condemned([*slow, new], 1010)
    assert gone in slow


def test_a_first_request_is_under_way_in_the_same_moment_as_its_connection() -> None:
    asking = replace(IDLE, received_s=3, sent_s=3, acked=0)
    assert not asking.is_idle
    assert replace(asking, has_asked=False).is_idle
    assert replace(asking, acked=1).is_idle


def test_a_request_that_has_just_come_is_kept_rather_than_idle_connections() -> None:
    course, asking = judge(connections=10), replace(idle(99, 40))
    others = [idle(n, 2) for n in range(10)]
    course.condemned([*others[1:], asking], 1000)
    asking = replace(asking, received_s=0.01, sent_s=40)
    (gone,) = course.condemned([*others, asking], 1000)
    assert gone in others


def test_an_address_may_have_a_limit_of_its_own_but_for_this_machine() -> None:
    theirs, ours = [idle(n, n) for n in range(10)], [idle(100 + n, n, peer="127.0.0.1") for n in range(10)]
    gone = judge(per_address=8).condemned(theirs + ours, 1000)
    assert {connection.inode for connection in gone} == {"socket:[8]", "socket:[9]"}


def test_closed_connections_are_forgotten() -> None:
    course = judge()
    for n in range(1000):
        course.condemned([idle(n)], n)
    assert len(course._courses) == 1
