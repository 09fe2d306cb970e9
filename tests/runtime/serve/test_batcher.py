import threading
import time
from typing import Any

import numpy as np
import pytest

from pangu_runtime.serve.batcher import Batcher, ClosedError, FullError


class Doubling:
    """Says of each image the double of its first pixel, and remembers its calls; waits where it is told to."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, ...]] = []
        self.may_run = threading.Event()
        self.may_run.set()

    def __call__(self, images: np.ndarray, threshold: float | None) -> dict[str, Any]:
        self.may_run.wait(10)
        self.calls.append(images.shape)
        if threshold == -1:
            raise ValueError("broken")
        return {"value": 2.0 * images[:, 0, 0, 0], "threshold_applied": np.array([threshold or 0.0])}


def picture(value: int, *, side: int = 4, count: int = 1) -> np.ndarray:
    return np.full((count, side, side, 3), value, np.uint8)


def batcher(run: Any, **changes: Any) -> Batcher:
    return Batcher(run, **({"max_batch": 4, "max_delay_s": 0.05, "max_waiting": 8, "max_pixels": 1000} | changes))


def test_waiting_images_of_one_size_share_a_call_and_get_their_own_answers() -> None:
    run = Doubling()
    one = batcher(run, max_delay_s=0.5)
    waiting = [one.submit(picture(value, side=4 if value < 4 else 6)) for value in (1, 2, 3, 5)]
    assert [float(job.result(5)["value"][0]) for job in waiting] == [2, 4, 6, 10]
    assert sorted(run.calls) == [(1, 6, 6, 3), (3, 4, 4, 3)]
    one.close()


def test_a_full_batch_does_not_wait() -> None:
    run = Doubling()
    one = batcher(run, max_delay_s=30)
    start = time.monotonic()
    jobs = [one.submit(picture(value, count=2)) for value in (1, 2)]
    assert [job.result(5)["value"].tolist() for job in jobs] == [[2, 2], [4, 4]]
    assert time.monotonic() - start < 5
    assert run.calls == [(4, 4, 4, 3)]
    one.close()


def test_a_call_takes_so_many_pixels_and_always_one_image() -> None:
    run = Doubling()
    one = batcher(run, max_delay_s=0.5, max_pixels=40)
    jobs = [one.submit(picture(value, side=side)) for value, side in ((1, 4), (2, 4), (3, 4), (4, 9))]
    assert [float(job.result(5)["value"][0]) for job in jobs] == [2, 4, 6, 8]
    assert [one.submit(picture(1, count=3)).result(5)["value"].tolist()] == [[2, 2, 2]]
    assert run.calls == [(2, 4, 4, 3), (1, 4, 4, 3), (1, 9, 9, 3), (2, 4, 4, 3), (1, 4, 4, 3)]
    one.close()


def test_more_images_than_a_call_takes_are_cut_into_calls() -> None:
    run = Doubling()
    one = batcher(run, max_batch=4, max_waiting=64)
    images = np.concatenate([picture(value) for value in range(10)])
    found = one.submit(images, 0.5).result(5)
    assert found["value"].tolist() == [2.0 * value for value in range(10)]
    assert found["threshold_applied"].tolist() == [0.5]
    assert [shape[0] for shape in run.calls] == [4, 4, 2]
    one.close()


def test_other_thresholds_do_not_share_a_call() -> None:
    run = Doubling()
    one = batcher(run)
    jobs = [one.submit(picture(1), threshold) for threshold in (None, 0.5, 0.5)]
    assert [float(job.result(5)["threshold_applied"][0]) for job in jobs] == [0, 0.5, 0.5]
    assert sorted(shape[0] for shape in run.calls) == [1, 2]
    one.close()


def test_more_than_may_wait_is_refused_and_a_single_large_request_is_not() -> None:
    run = Doubling()
    one = batcher(run, max_delay_s=0)
    run.may_run.clear()
    first = one.submit(picture(1, count=20))
    while one.waiting:
        time.sleep(0.001)
    jobs = [one.submit(picture(2)) for _ in range(8)]
    with pytest.raises(FullError):
        one.submit(picture(3))
    run.may_run.set()
    assert len(first.result(5)["value"]) == 20
    assert all(float(job.result(5)["value"][0]) == 4 for job in jobs)
    one.close()


def test_an_error_reaches_those_who_wait_and_the_next_call_goes_on() -> None:
    one = batcher(Doubling(), max_delay_s=0)
    with pytest.raises(ValueError, match="broken"):
        one.submit(picture(1), -1.0).result(5)
    assert float(one.submit(picture(4)).result(5)["value"][0]) == 8
    one.close()


def test_what_nobody_waits_for_is_not_decided() -> None:
    run = Doubling()
    one = batcher(run, max_delay_s=0)
    run.may_run.clear()
    first, second = one.submit(picture(1)), None
    while one.waiting:
        time.sleep(0.001)
    second = one.submit(picture(2))
    assert second.cancel()
    run.may_run.set()
    one.close()
    assert first.done()
    assert len(run.calls) == 1


def test_closing_finishes_what_waits_and_takes_no_more() -> None:
    run = Doubling()
    one = batcher(run, max_delay_s=30)
    jobs = [one.submit(picture(value)) for value in (1, 2)]
    one.close()
    assert [float(job.result(0)["value"][0]) for job in jobs] == [2, 4]
    with pytest.raises(ClosedError):
        one.submit(picture(3))
