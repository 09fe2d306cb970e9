"""Images that wait for a model share its calls: those of one size, up to a number, for a moment at most."""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Outputs = dict[str, NDArray[Any]]
Run = Callable[[NDArray[np.uint8], float | None], Outputs]
_SHARED = ("threshold_applied",)  # outputs of a call, not of an image


class FullError(Exception):
    """As many images wait as may."""


class ClosedError(Exception):
    """This batcher takes no more; another one has taken over."""


@dataclass(frozen=True, eq=False)
class _Job:
    images_NHW3: NDArray[np.uint8]
    threshold: float | None
    arrived: float
    answer: "Future[Outputs]" = field(default_factory=Future)

    @property
    def key(self) -> tuple[int, int, float | None]:
        """Jobs with equal keys can share a call."""
        return (*self.images_NHW3.shape[1:3], self.threshold)


class Batcher:
    """Runs ``run`` in one thread of its own; ``submit`` from any thread. Jobs are taken in the order they came in."""

    def __init__(
        self,
        run: Run,
        *,
        max_batch: int,
        max_delay_s: float,
        max_waiting: int,
        max_pixels: int,
        on_batch: Callable[[int, float], None] = lambda images, seconds: None,
    ) -> None:
        """``on_batch`` is told the images of every call and its seconds; ``max_pixels`` bounds a call of several."""
        self._run, self._on_batch = run, on_batch
        self._max_batch, self._max_pixels = max_batch, max_pixels
        self._max_delay_s, self._max_waiting = max_delay_s, max_waiting
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Images that wait."""
        with self._changed:
            return sum(len(job.images_NHW3) for job in self._jobs)

    def submit(self, images_NHW3: NDArray[np.uint8], threshold: float | None = None) -> "Future[Outputs]":
        """The outputs for these images, once they are there; cancel it where nobody waits any more.

        Raises FullError and ClosedError.
        """
        job = _Job(images_NHW3, threshold, time.monotonic())
        with self._changed:
            if self._is_closed:
                raise ClosedError
            waiting = sum(len(other.images_NHW3) for other in self._jobs)
            if waiting and waiting + len(images_NHW3) > self._max_waiting:
                raise FullError
            self._jobs.append(job)
            self._changed.notify()
        return job.answer

    def close(self) -> None:
        """Take no more jobs, finish those that wait."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while jobs := self._next():
            live = [job for job in jobs if job.answer.set_running_or_notify_cancel()]
            if live:
                self._decide(live)

    def _next(self) -> list[_Job]:
        """The oldest job and those that can share its call; empty once closed and done."""
        with self._changed:
            while not self._jobs and not self._is_closed:
                self._changed.wait()
            if not self._jobs:
                return []
            first = self._jobs[0]
            most = self._most(first.images_NHW3)
            while not self._is_closed:
                left = first.arrived + self._max_delay_s - time.monotonic()
                if left <= 0 or sum(len(job.images_NHW3) for job in self._sharing(first)) >= most:
                    break
                self._changed.wait(left)
            chosen = self._sharing(first)
            for job in chosen:
                self._jobs.remove(job)
            return chosen

    def _most(self, images_NHW3: NDArray[np.uint8]) -> int:
        """Images of this size that one call takes."""
        pixels: int = images_NHW3.shape[1] * images_NHW3.shape[2]
        return max(1, min(self._max_batch, self._max_pixels // pixels))

    def _sharing(self, first: _Job) -> list[_Job]:
        chosen: list[_Job] = []
        images, most = 0, self._most(first.images_NHW3)
        for job in self._jobs:
            if job.key == first.key and (not chosen or images + len(job.images_NHW3) <= most):
                chosen.append(job)
                images += len(job.images_NHW3)
        return chosen

    def _outputs(self, images_NHW3: NDArray[np.uint8], threshold: float | None) -> Outputs:
        """In calls of as many as one takes: a job may have more images, and each takes the memory of a pass."""
        parts, most = [], self._most(images_NHW3)
        for first in range(0, len(images_NHW3), most):
            start, some = time.perf_counter(), images_NHW3[first : first + most]
            parts.append(self._run(some, threshold))
            self._on_batch(len(some), time.perf_counter() - start)
        if len(parts) == 1:
            return parts[0]
        names = parts[0]
        return {n: parts[0][n] if n in _SHARED else np.concatenate([part[n] for part in parts]) for n in names}

    def _decide(self, jobs: list[_Job]) -> None:
        try:
            joined = jobs[0].images_NHW3 if len(jobs) == 1 else np.concatenate([job.images_NHW3 for job in jobs])
            outputs = self._outputs(joined, jobs[0].threshold)
        except Exception as error:  # whatever it is, it belongs to those who wait
            for job in jobs:
                job.answer.set_exception(error)
            return
        first = 0
        for job in jobs:
            end = first + len(job.images_NHW3)
            job.answer.set_result(_rows(outputs, slice(first, end)))
            first = end


def _rows(outputs: Mapping[str, NDArray[Any]], rows: slice) -> Outputs:
    return {name: value if name in _SHARED else value[rows] for name, value in outputs.items()}
