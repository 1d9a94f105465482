"""The fair queue: order, bounds, what is dropped."""

import threading

import numpy as np
import pytest

from rankdistil.serve.batching import ClosedError, FairQueue, FullError, Share


def filled(queue: FairQueue, **items: list[int]) -> FairQueue:
    """Let items wait, each with the tokens of its pairs."""
    for item, lengths in items.items():
        queue.admit(len(lengths))
        queue.put(item, lengths)
    return queue


def test_ten_passages_do_not_wait_for_a_thousand() -> None:
    queue = filled(FairQueue(2000), large=[100] * 1000)
    assert queue.take(2000) == [Share("large", 0, 20)]
    filled(queue, small=[100] * 10)
    assert queue.take(2000) == [Share("small", 0, 10), Share("large", 20, 30)]


def test_a_thousand_passages_do_not_wait_for_ever_beside_tens() -> None:
    queue, taken = filled(FairQueue(2000), large=[100] * 1000), []
    while sum(stop - start for item, start, stop in taken if item == "large") < 1000:
        filled(queue, **{f"small{len(taken)}": [100] * 8})
        taken += queue.take(1000)
    assert len({item for item, *_ in taken}) <= 501  # others have eight tenths of each step, and it needs a hundred steps


def test_requests_of_one_size_end_in_the_order_in_which_they_came() -> None:
    queue = filled(FairQueue(100), a=[10] * 4, b=[10] * 4, c=[10] * 4)
    assert [share for _ in range(3) for share in queue.take(40)] == [Share(item, 0, 4) for item in "abc"]


def ends_with_equal_shares(arrivals: list[tuple[float, int]]) -> list[float]:
    """Say when each would end if all that are there had equal shares, event by event."""
    now, left, ends = 0.0, {}, [0.0] * len(arrivals)
    coming = [(when, number) for number, (when, _) in enumerate(arrivals)]
    while coming or left:
        until = coming[0][0] if coming else np.inf
        if left:
            first = min(left, key=left.get)
            until = min(until, now + left[first] * len(left))
        left = {number: size - (until - now) / len(left) for number, size in left.items()}
        now = until
        for number in [number for number, size in left.items() if size < 1e-6]:
            ends[number] = now
            del left[number]
        while coming and coming[0][0] <= now:
            number = coming.pop(0)[1]
            left[number] = arrivals[number][1]
    return ends


@pytest.mark.parametrize("seed", range(5))
def test_no_request_ends_later_than_with_equal_shares_but_for_one_step(seed: int) -> None:
    random, step = np.random.default_rng(seed), 20
    sizes = random.choice([10, 30, 100, 1000], 60)
    arrivals = list(zip(np.sort(random.uniform(0, 8000, 60)).tolist(), sizes.tolist(), strict=True))
    queue, now, coming, ends = FairQueue(10**6), 0.0, list(enumerate(arrivals)), {}
    while len(ends) < 60:
        if not queue.waiting:
            now = max(now, coming[0][1][0])
        while coming and coming[0][1][0] <= now:
            number, (_, size) = coming.pop(0)
            queue.admit(size)
            queue.put(number, [1] * size)
        for number, start, stop in queue.take(step):
            now += stop - start  # a token takes one unit of time
            if stop == sizes[number]:
                ends[number] = now
    fair = ends_with_equal_shares(arrivals)
    assert max(ends[number] - fair[number] for number in range(60)) <= step
    assert sum(ends.values()) < sum(fair)


def test_a_step_has_so_many_tokens_at_most_but_one_pair_at_least() -> None:
    queue = filled(FairQueue(100), long=[600], a=[100, 150, 200], b=[90])
    assert queue.take(300) == [Share("b", 0, 1), Share("a", 0, 1)]
    assert queue.take(300) == [Share("a", 1, 2)]
    assert queue.take(300) == [Share("a", 2, 3)]
    assert queue.take(300) == [Share("long", 0, 1)]


def test_the_last_tokens_are_shared_out_among_the_workers() -> None:
    queue = filled(FairQueue(100, workers=2), a=[100] * 12)
    assert [queue.take(2000) for _ in range(4)] == [
        [Share("a", 0, 6)], [Share("a", 6, 9)], [Share("a", 9, 11)], [Share("a", 11, 12)],
    ]  # fmt: skip


def test_a_full_queue_says_how_many_have_to_go_first() -> None:
    queue = filled(FairQueue(10), a=[5] * 12)
    with pytest.raises(FullError) as caught:
        queue.admit(5)
    assert caught.value.excess == 3
    queue.take(15)
    queue.admit(5)
    assert queue.waiting == 14
    queue.leave(5)
    assert queue.waiting == 9


def test_a_large_item_is_admitted_as_soon_as_a_small_one_would_be() -> None:
    queue = filled(FairQueue(10), a=[5] * 9)
    queue.admit(1000)
    with pytest.raises(FullError):
        queue.admit(1)
    assert queue.waiting == 1009


def test_what_is_dropped_is_never_taken_and_makes_room() -> None:
    queue = filled(FairQueue(10), a=[10] * 4, b=[10] * 3)
    assert queue.take(20) == [Share("b", 0, 2)]
    queue.drop("b")
    queue.drop("b")
    queue.drop("never there")
    assert queue.waiting == 4
    assert queue.take(1000) == [Share("a", 0, 4)]
    assert queue.waiting == 0


def test_a_closed_queue_gives_back_what_waits_and_lets_workers_go() -> None:
    queue, found = FairQueue(10), []
    worker = threading.Thread(target=lambda: found.append(queue.take(10)))
    worker.start()
    assert queue.close() == []
    worker.join(60)
    assert found == [[]]
    with pytest.raises(ClosedError):
        queue.admit(1)
    with pytest.raises(ClosedError):
        queue.put("a", [1])
    waiting = filled(FairQueue(10), a=[1], b=[1])
    assert waiting.close() == ["a", "b"]
    assert waiting.take(10) == []


def test_several_workers_take_every_pair_once() -> None:
    queue, lock, taken = FairQueue(10**6, 4), threading.Lock(), []

    def work() -> None:
        while shares := queue.take(300):
            with lock:
                taken.extend((item, row) for item, start, stop in shares for row in range(start, stop))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for item in range(50):
        queue.admit(40)
        queue.put(item, [7] * 40)
    while queue.waiting:
        pass
    queue.close()
    for worker in workers:
        worker.join(60)
    assert sorted(taken) == [(item, row) for item in range(50) for row in range(40)]
