"""The queue of a cluster loses no shard, doubles none, and blames the guilty."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sites import shard

from pipeline.errors import ReaderCrashed
from pipeline.execute.queue import Assignment, Queue
from pipeline.types import Shard


def work_off(
    queue: Queue, killers: frozenset[str], chance: st.DataObject, accidents: int = 0
) -> tuple[dict[str, Shard], int]:
    """What is reported in the end, and how many actors died: of killers, and of accidents."""
    found: dict[str, Shard] = {}
    deaths = 0
    while len(queue):
        taken = queue.take(actors=2)
        assert taken is not None
        survives = True
        while taken.shards and survives:
            first = taken.shards[0]
            survives = not any(s.key in killers and s.failure is None for s in first.sources)
            if survives and accidents and chance.draw(st.booleans()):
                accidents -= 1
                survives = False
            if not survives:
                deaths += 1
                queue.lost(taken)
            elif taken.trial:
                queue.survived(taken)
                taken.finish(first.id)
            else:
                assert first.id not in found, "reported twice"
                found[first.id] = first
                taken.finish(first.id)
    return found, deaths


SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=6)


@given(SIZES, st.sets(st.integers(0, 53)), st.integers(0, 4), st.data())
def test_killers_fail_alone_and_every_shard_is_reported_once_whole(
    sizes: list[int], numbers: set[int], accidents: int, data: st.DataObject
) -> None:
    keys = iter(map(str, range(sum(sizes))))
    shards = [shard(f"s{i}", *(next(keys) for _ in range(n))) for i, n in enumerate(sizes)]
    killers = frozenset(map(str, numbers))
    found, _ = work_off(Queue(shards), killers, data, accidents)
    assert sorted(found) == sorted(one.id for one in shards)
    for one in shards:
        sources = found[one.id].sources
        assert [s.key for s in sources] == [s.key for s in one.sources]
        crashed = {s.key for s in sources if s.failure and s.failure.kind == "crashed"}
        guilty = killers & {s.key for s in sources}
        assert crashed == guilty or (accidents > 1 and crashed > guilty), "one accuses nobody"


def test_one_killer_of_64_is_found_in_the_steps_of_a_bisection() -> None:
    one = shard("s", *map(str, range(64)))
    _, deaths = work_off(Queue([one]), frozenset(["40"]), st.nothing())
    assert deaths <= 2 + 6 + 1, "twice as a shard, once a halving, once more on its own"


def test_a_shard_that_no_image_explains_ends_the_run_in_the_end() -> None:
    queue = Queue([shard("s", "a", "b")])

    def die_of_whole_shards() -> None:
        for taken in iter(lambda: queue.take(actors=1), None):
            (queue.survived if taken.trial else queue.lost)(taken)

    with pytest.raises(ReaderCrashed, match="no file by itself is to blame"):
        die_of_whole_shards()


def test_assignments_shrink_towards_the_end_so_that_none_waits_behind_a_slow_one() -> None:
    queue = Queue(shard(str(i), str(i)) for i in range(200))
    sizes = []
    while (taken := queue.take(actors=4)) is not None:
        sizes.append(len(taken.shards))
    assert sizes[0] == 16
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-8:] == [1] * 8


def test_an_actor_that_is_at_fault_itself_accuses_nobody() -> None:
    queue = Queue([shard("s", "a"), shard("t", "b")])
    for _ in range(10):
        taken = queue.take(actors=1)
        assert taken is not None
        queue.give_back(taken)
    assert [taken.trial for taken in iter(lambda: queue.take(actors=1), None)] == [False, False]


def test_a_report_that_is_not_due_is_an_error() -> None:
    taken = Queue([shard("s", "a")]).take(actors=1)
    assert isinstance(taken, Assignment)
    with pytest.raises(ValueError, match="shard t was reported, but s was due"):
        taken.finish("t")
