"""Work on many items at a time, in threads that never keep the process from ending."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Item = TypeVar("Item")
Result = TypeVar("Result")


class Parallel(Generic[Item, Result]):
    """Does `work` on each item, by several threads.

    Unlike those of `concurrent.futures`, they are daemons: an exit does not wait for a server that hangs.
    """

    def __init__(self, work: Callable[[Item], Result], items: Sequence[Item], workers: int) -> None:
        self._work = work
        self._items = items
        self._next = iter(range(len(items)))
        self._taking = threading.Lock()
        self._stopped = False
        self._done: queue.SimpleQueue[tuple[int, Result | None, Exception | None]] = queue.SimpleQueue()
        count = min(workers, len(items))
        self._threads = [threading.Thread(target=self._run, name=f"worker-{n}", daemon=True) for n in range(count)]

    def results(self, progress: Callable[[int, int], object]) -> list[Result]:
        """Return the results in the order of the items, or raise the first error once all threads have stopped."""
        found: dict[int, Result] = {}
        for thread in self._threads:
            thread.start()
        for _ in self._items:
            index, result, error = self._done.get()
            if error is not None:
                self._stop()
                raise error
            found[index] = result  # type: ignore[assignment]  # there is a result where there is no error
            progress(len(found), len(self._items))
        return [found[index] for index in range(len(self._items))]

    def _stop(self) -> None:
        self._stopped = True
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._stopped:
            with self._taking:
                index = next(self._next, None)
            if index is None:
                return
            try:
                self._done.put((index, self._work(self._items[index]), None))
            except Exception as error:  # noqa: BLE001 - raised again where the results are awaited
                self._done.put((index, None, error))
