"""Draws docs/fairness.png from the CSV that tests/sim/shares.rs writes: `make fairness`."""

import csv
import sys
from collections import defaultdict

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

GREEDY = 12
TITLES = {"arrival": "In order of arrival", "turns": "Taking turns (mlxsup)"}


def main(source, target):
    given = {order: defaultdict(list) for order in TITLES}
    waits = {order: {} for order in TITLES}
    with open(source, newline="") as file:
        for row in csv.DictReader(file):
            order, client = row["order"], int(row["client"])
            given[order][client].append((int(row["minute"]), int(row["cost"]) / 1000))
            waits[order][client] = int(row["median_wait_s"])

    figure, panels = plt.subplots(1, 2, figsize=(10, 4.2), sharey=True)
    for panel, (order, title) in zip(panels, TITLES.items()):
        for client, points in given[order].items():
            greedy = client == GREEDY
            panel.plot(
                *zip(*points),
                color="#c1272d" if greedy else "#4a6fa5",
                linewidth=4.5 if greedy else 1.0,
                zorder=1 if greedy else 2,
                label="keeps 60 requests waiting" if greedy else ("eleven that keep one" if client == 1 else None),
            )
        modest = sorted(wait for client, wait in waits[order].items() if client != GREEDY)
        panel.set_title(f"{title}\nmedian wait of the eleven: {modest[len(modest) // 2]} s", fontsize=11)
        panel.set_xlabel("minutes")
        panel.grid(alpha=0.3)
        panel.legend(loc="upper left", fontsize=9, frameon=False)
    panels[0].set_ylabel("given so far, thousand tokens (answers twice)")
    figure.tight_layout()
    figure.savefig(target, dpi=110)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
