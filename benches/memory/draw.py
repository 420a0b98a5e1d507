"""Draws the curves of a run: draw.py FOLDER PICTURE, where FOLDER has curves.csv, marks.csv and answers.csv."""

import csv
import sys
from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

MIB = 1 << 20
# Where the axis of first tokens begins.
FASTEST_S = 0.1
WORKER, NEIGHBOUR, FIRST_TOKEN, RULE = "#c1272d", "#9aa7b8", "#1f4e79", "#2e7d32"
TITLES = {
    "unwired": "1  Nothing wired: the idle worker is compressed",
    "wired": '2  wired_limit = "auto": the same neighbour, the same pauses',
    "canary": "3  Nothing wired, rule with canary: touched before anybody asks",
    "restart": "4  Nothing wired, rule with restart: handed over while clients ask",
}


def read(path):
    rows = defaultdict(list)
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            rows[row["scenario"]].append(row)
    return rows


def spans(rows):
    """Stretches of time in which the service was not plainly serving."""
    begin = None
    for row in rows:
        at = float(row["at_s"])
        if row["state"] != "serving" and begin is None:
            begin = at
        elif row["state"] == "serving" and begin is not None:
            yield begin, at
            begin = None
    if begin is not None:
        yield begin, float(rows[-1]["at_s"])


def draw(panel, rows, marks, answers):
    times = [float(row["at_s"]) for row in rows]
    series = lambda column: [float(row[column] or 0) / MIB for row in rows]
    panel.plot(times, series("kernel.neighbour"), color=NEIGHBOUR, linewidth=1.2, label="neighbour, compressed")
    panel.fill_between(times, series("kernel.workers"), color=WORKER, alpha=0.18, linewidth=0)
    panel.plot(times, series("kernel.workers"), color=WORKER, linewidth=1.8, label="worker, compressed")
    for begin, end in spans(rows):
        panel.axvspan(begin, end, color=RULE, alpha=0.12, linewidth=0, label="the worker is replaced")
    for mark in marks:
        if mark["kind"] == "rule":
            panel.axvline(float(mark["at_s"]), color=RULE, linewidth=1.4, linestyle="--", label="the rule acts")
    panel.set_ylim(0, 650)
    panel.grid(alpha=0.25)
    slow = panel.twinx()
    asked = [row for row in answers if row["asked_at_s"] and row["first_token_s"] and float(row["asked_at_s"]) >= 0]
    slow.vlines(
        [float(row["asked_at_s"]) for row in asked],
        FASTEST_S,
        [float(row["first_token_s"]) for row in asked],
        color=FIRST_TOKEN,
        linewidth=1.2,
    )
    slow.plot(
        [float(row["asked_at_s"]) for row in asked],
        [float(row["first_token_s"]) for row in asked],
        "o",
        color=FIRST_TOKEN,
        markersize=4.5,
        label="first token after, s",
    )
    return slow


def main(folder, picture):
    curves, marks, answers = (read(Path(folder) / name) for name in ("curves.csv", "marks.csv", "answers.csv"))
    names = [name for name in TITLES if curves[name]]
    figure, panels = plt.subplots(len(names), 1, figsize=(10, 2.6 * len(names) + 0.6), squeeze=False)
    slowest = max(
        (float(row["first_token_s"]) for name in names for row in answers[name] if row["first_token_s"]), default=1.0
    )
    legend = {}
    for panel, name in zip(panels[:, 0], names):
        slow = draw(panel, curves[name], marks[name], answers[name])
        slow.set_yscale("log")
        slow.set_ylim(FASTEST_S, slowest * 1.5)
        slow.yaxis.set_major_formatter("{x:g}")
        panel.set_title(TITLES[name], fontsize=11, loc="left")
        panel.set_ylabel("MiB")
        slow.set_ylabel("s", color=FIRST_TOKEN)
        for axis in (panel, slow):
            for handle, label in zip(*axis.get_legend_handles_labels()):
                legend.setdefault(label, handle)
    panels[-1, 0].set_xlabel("seconds")
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.35 / (2.6 * len(names) + 0.6)))
    figure.legend(legend.values(), legend.keys(), loc="upper center", ncols=5, fontsize=9, frameon=False)
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
