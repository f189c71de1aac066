"""What every distribution that is pushed and popped has to do: its intervals cover all slots, and slots find them."""

import numpy as np
from numpy.typing import NDArray

from nvae_codec.coding.ans import Distribution


def check_distribution(distribution: Distribution, sizes: NDArray[np.integer] | int, seed: int, least: int = 1) -> None:
    """Symbols 0 to ``sizes`` - 1, (n,) or one number, have frequencies of at least ``least``, which sum to 2^bits.

    Intervals follow each other, modulo 2^bits. A slot finds the symbol whose interval holds it, in slices too.
    """
    rng, count, full = np.random.default_rng(seed), distribution.count, 1 << distribution.bits
    sizes = np.broadcast_to(sizes, count)
    first = distribution.interval(np.zeros(count, np.int32))[0].astype(np.int64)
    total = np.zeros(count, np.int64)
    for symbol in range(int(sizes.max())):
        start, frequency = distribution.interval(np.minimum(symbol, sizes - 1).astype(np.int32))
        inside = symbol < sizes
        assert ((start - first - total) % full == 0)[inside].all()
        assert (frequency >= least)[inside].all()
        total += np.where(inside, frequency, 0)
    assert (total == full).all()

    given = np.minimum(rng.choice(np.r_[0, 10**6, rng.integers(0, int(sizes.max()), 9)], count), sizes - 1)
    start, frequency = distribution.interval(given.astype(np.int32))
    sound = frequency > 0
    for slots in (start, start + frequency - 1, start + rng.integers(0, np.maximum(frequency, 1))):
        found = distribution.find((slots % full).astype(np.int32))
        assert np.array_equal(found[0][sound], given[sound])
    for slot in (np.zeros(count), np.full(count, full - 1), rng.integers(0, full, count)):
        slots = slot.astype(np.int32)
        symbols, start, frequency = found = distribution.find(slots)
        assert ((slots - start) % full < frequency).all()
        for at in (slice(None), slice(count // 8, count // 2)):
            again = (
                distribution.find(slots[at], at),
                (symbols[at], *distribution.interval(symbols[at], at)),
            )
            assert all(np.array_equal(one[at], other) for each in again for one, other in zip(found, each, strict=True))
