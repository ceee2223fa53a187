"""Which object comes when: shuffled passes without replacement, as a pure function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from ..errors import DataError

#: Shares of a mix hold exactly in every run of this many samples.
BLOCK = 1000


class ShuffledOrder:
    """The object of every sample of a run.

    sources: of each object. mix: shares by source; None sees all objects equally often.
    Each source is gone through in shuffled passes: no object comes again before all others
    of its source have come. Raises DataError on a mix that does not fit the sources.
    """

    def __init__(self, sources: Sequence[str], mix: Mapping[str, float] | None = None) -> None:
        if mix is None:
            groups, quotas = [np.arange(len(sources))], [BLOCK]
        else:
            groups, quotas = _groups(sources, mix)
        self._groups = groups
        self._quotas = np.array(quotas)
        # Caches hold permutations only: the answers do not depend on what was asked before.
        self._pass = lru_cache(maxsize=2 * len(groups))(self._shuffled_pass)
        self._block = lru_cache(maxsize=4)(self._shuffled_block)

    def __call__(self, seed: int, number: int) -> int:
        """The object of sample `number` (from 0) in the run with this seed."""
        block, place = divmod(number, BLOCK)
        groups, earlier = self._block(seed, block)
        group = int(groups[place])
        nth = block * int(self._quotas[group]) + int(earlier[place])
        turn, position = divmod(nth, len(self._groups[group]))
        return int(self._pass(seed, group, turn)[position])

    def _shuffled_pass(self, seed: int, group: int, turn: int) -> np.ndarray:
        return np.random.default_rng([seed, 0, group, turn]).permutation(self._groups[group])

    def _shuffled_block(self, seed: int, block: int) -> tuple[np.ndarray, np.ndarray]:
        """The group at each place of a block, and how many of that group came before in it."""
        groups = np.repeat(np.arange(len(self._quotas)), self._quotas)
        groups = np.random.default_rng([seed, 1, block]).permutation(groups)
        earlier = np.empty(BLOCK, dtype=np.int64)
        for group in range(len(self._quotas)):
            here = groups == group
            earlier[here] = np.arange(here.sum())
        return groups, earlier


def _groups(sources: Sequence[str], mix: Mapping[str, float]) -> tuple[list[np.ndarray], list[int]]:
    labels = np.array(sources)
    missing = [name for name in mix if name not in sources]
    if missing:
        raise DataError(
            f"the mix names the source '{missing[0]}', which no object has; "
            f"the data has: {', '.join(sorted(set(sources)))}"
        )
    shares = np.array([float(share) for share in mix.values()])
    if not (np.isfinite(shares).all() and (shares >= 0).all() and shares.sum() > 0):
        raise DataError(f"a mix needs shares of at least 0 and not all 0, got {dict(mix)}")
    exact = shares / shares.sum() * BLOCK
    quotas = np.floor(exact).astype(int)
    # Largest remainders first, so that the quotas add up.
    for group in np.argsort(quotas - exact, kind="stable")[: BLOCK - quotas.sum()]:
        quotas[group] += 1
    return [np.flatnonzero(labels == name) for name in mix], quotas.tolist()
