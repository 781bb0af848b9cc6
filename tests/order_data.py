"""Interactions made by rules, to test what an order of items tells: time, sorting by id, days."""

from __future__ import annotations

import numpy as np


def drift(users: int, items: int, life: float, age: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Ids rise with time: items are released in order of id, users meet mostly recent ones.

    Args:
      life: share of all time in which a user is active.
      age: mean age of an item when it is met, as a share of all time.

    Returns:
      int (n,) items from 0 and int (n,) users, in time order; 8 a user.
    """
    rng = np.random.default_rng(seed)
    user_n = np.repeat(np.arange(users), 8)
    time_n = (rng.random(users) * (1 - life))[user_n] + life * rng.random(len(user_n))
    time_n = time_n[np.lexsort((time_n, user_n))]
    release_n = time_n - rng.exponential(age, len(user_n))
    release_n = np.where(release_n < 0, rng.random(len(user_n)) * time_n, release_n)
    return (release_n * items).astype(np.int64), user_n


def by_days(users: int, items: int, days: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Items at random, each user's in order of day, and of id within a day: items from 0, users, days; 8 a user."""
    rng = np.random.default_rng(seed)
    user_n = np.repeat(np.arange(users), 8)
    item_n = np.concatenate([rng.choice(items, 8, replace=False) for _ in range(users)])
    day_n = rng.integers(0, days, len(user_n))
    place = np.lexsort((item_n, day_n, user_n))
    return item_n[place], user_n, day_n[place]
