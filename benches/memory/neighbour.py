"""A greedy neighbour: fills memory, then touches all of it, round after round, at a known pace, until its input ends.

    neighbour.py MEBIBYTES MEBIBYTES_PER_SECOND

Half of every page is random, so that it compresses about two to one, as memory of ordinary programs does.
"""

import os
import select
import sys
import time

MIB = 1 << 20
PAGE = 4096
STRETCH = 4 * MIB


def ended():
    """The one who started us is gone, or has had enough."""
    return bool(select.select([sys.stdin], [], [], 0)[0])


def main(size, pace):
    pages = b"".join(os.urandom(PAGE // 2) + bytes(PAGE // 2) for _ in range(STRETCH // PAGE))
    memory = bytearray(size)
    fill_pace = max(pace, 400 * MIB)
    stroke = bytes(range(256)) * (STRETCH // PAGE // 256)
    filled = False
    while True:
        for begin in range(0, size, STRETCH):
            due = time.monotonic() + STRETCH / (pace if filled else fill_pace)
            if filled:
                memory[begin : begin + STRETCH : PAGE] = stroke
            else:
                memory[begin : begin + STRETCH] = pages
            if ended():
                return
            time.sleep(max(0.0, due - time.monotonic()))
        if not filled:
            filled = True
            print("full", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) * MIB // STRETCH * STRETCH, int(sys.argv[2]) * MIB)
