"""Calls that are under way at once and never run at the same time: after an update, the next one goes on.

A machine is slow for seconds at a time, and whole calls one after the other meet different seconds. Here every call of
a round gets a step out of each of them, so that the ratio of two calls is known several times better from as many
steps. It needs a loop that leaves nothing running while others have their turn: no GPU, no worker processes.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

from torch.optim.optimizer import register_optimizer_step_post_hook

__all__ = ["SHORTEST", "in_turns"]

SHORTEST = 0.02  # seconds of a turn: with the caches of the one before, the first updates of a small model are slow


class _Player:
    """A call, its thread, and the seconds it had."""

    def __init__(self, call: Callable[[], object], run: Callable[[_Player], None]) -> None:
        self.call = call
        self.seconds = 0.0
        self.begun = 0.0
        self.error: BaseException | None = None
        self.go = threading.Semaphore(0)
        self.thread = threading.Thread(target=run, args=(self,), daemon=True)


class _Turns:
    def __init__(self, calls: dict[str, Callable[[], object]], clock: Callable[[], float], lot: random.Random) -> None:
        self.players = {name: _Player(call, self._play) for name, call in calls.items()}
        self._clock = clock
        self._lot = lot
        self._playing = list(self.players.values())
        self._coming: list[_Player] = []
        self._over = threading.Semaphore(0)

    def run(self) -> None:
        hook = register_optimizer_step_post_hook(self._after_update)
        try:
            for player in self.players.values():
                player.thread.start()
            self._next().go.release()
            self._over.acquire()
        finally:
            hook.remove()
        for player in self.players.values():
            player.thread.join()
            if player.error is not None:
                raise player.error

    def _next(self) -> _Player:
        """By lot, and nobody twice before everybody had a turn."""
        if not self._coming:
            self._coming = self._lot.sample(self._playing, len(self._playing))
        return self._coming.pop()

    def _play(self, player: _Player) -> None:
        player.go.acquire()
        player.begun = self._clock()
        try:
            player.call()
        except BaseException as error:  # raised again by run(): the others wait for their turn
            player.error = error
        player.seconds += self._clock() - player.begun
        self._playing.remove(player)
        if player in self._coming:
            self._coming.remove(player)
        if self._playing:
            self._next().go.release()
        else:
            self._over.release()

    def _after_update(self, *_: object) -> None:
        now = self._clock()
        thread = threading.current_thread()
        player = next(player for player in self._playing if player.thread is thread)
        if now - player.begun < SHORTEST:
            return
        player.seconds += now - player.begun
        following = self._next()
        if following is not player:
            following.go.release()
            player.go.acquire()
        player.begun = self._clock()


def in_turns(
    calls: dict[str, Callable[[], object]], clock: Callable[[], float], lot: random.Random
) -> dict[str, float]:
    """Seconds of each call, start to end, without those of the others.

    Args:
        calls: by name; each makes updates with optimizers of torch, and changes over after one of them.
        clock: seconds, rising.
        lot: draws who comes next.

    Raises:
        Whatever a call raised, when the others are through.
    """
    turns = _Turns(calls, clock, lot)
    turns.run()
    return {name: player.seconds for name, player in turns.players.items()}
