"""Signals that ask a run to save and stop. Needs no TensorFlow."""

import contextlib
import signal

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Interruption:
    """Notes SIGTERM, SIGHUP and Ctrl-C, for the loop to save before it leaves; a second one ends the process."""

    def __init__(self):
        self.signal = None

    def __enter__(self):
        self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number, _):
        self.signal = number
        signal.signal(number, signal.SIG_DFL)
        with contextlib.suppress(OSError, RuntimeError):  # a terminal that has closed, or a print within a print
            print(f"\n{signal.Signals(number).name}: saving, then stopping (once more to stop at once)", flush=True)
