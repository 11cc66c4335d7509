"""Data that are fetched before they are asked for. Needs no TensorFlow."""

import queue
import threading

_DEEP = 2  # calls whose data are there before they are asked for
_LOOK_S = 0.1


class Ahead:
    """An iterator over `put` of `count` elements of `source` at a time, which a thread keeps some calls ahead.

    What `source` or `put` raises is raised where it is asked for.
    """

    def __init__(self, source, count, put):
        self._queue, self._closed = queue.Queue(_DEEP), threading.Event()
        self._thread = threading.Thread(target=self._fetch, args=(source, count, put), daemon=True)
        self._thread.start()

    def __iter__(self):
        return self

    def __next__(self):
        error, element = self._queue.get()
        if error is not None:
            raise error
        return element

    def close(self):
        """Ends the thread."""
        self._closed.set()
        self._thread.join()

    def _fetch(self, source, count, put):
        while not self._closed.is_set():
            try:
                item = None, put([next(source) for _ in range(count)])
            except BaseException as error:  # whatever it is, the loop that waits for the element must hear of it
                item = error, None
            while not self._closed.is_set():
                try:
                    self._queue.put(item, timeout=_LOOK_S)
                    break
                except queue.Full:
                    continue
            if item[0] is not None:
                return
