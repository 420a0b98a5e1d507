"""The table, its targets, and the files that the picture is drawn from."""

import csv
import platform
import statistics
from pathlib import Path

from machine import MIB
from scenarios import LATER_S, median_first_token
from watch import METRICS, WITNESSED

LESS_COMPRESSED = 0.91
COLD_OF_WARM = 1.2
NOTICE_SLACK_S = 2


def facts(zram, group, settings):
    swappiness = Path("/proc/sys/vm/swappiness").read_text().strip()
    readahead = 1 << int(Path("/proc/sys/vm/page-cluster").read_text())
    return (
        f"Linux {platform.release()}, cgroup v{group.version} limited to {settings.limit_mib} MiB, swap on "
        f"{zram.device} ({zram.algorithm()}), swappiness {swappiness}, {readahead} pages read ahead\n"
        f"neighbour: {settings.neighbour_mib} MiB, touched at {settings.pace_mib} MiB/s"
    )


def mib(values):
    return f"{statistics.median(values) / MIB:,.0f}" if values else "-"


def seconds(answers):
    value = median_first_token(answers)
    return f"{value:.2f}" if value is not None else "-"


def rate(answers):
    rates = [answer.decode_per_s for answer in answers if answer.decode_per_s]
    return f"{statistics.median(rates):.1f}" if rates else "-"


def ratio(logical, used):
    pairs = [before / after for before, after in zip(logical, used) if before and after]
    return f"{statistics.median(pairs):.1f}" if pairs else "-"


def table(measured, settings):
    """Prints everything; the number of missed targets decides the exit status."""
    found = {each.name: each for each in measured}
    idle = [found[name] for name in ("unwired", "wired") if name in found]
    watched = [found[name] for name in ("canary", "restart") if name in found]
    if idle:
        columns = [each.title for each in idle]
        print(f"\n{'idle beside the neighbour, medians':46}" + "".join(f"{title:>30}" for title in columns))
        for label, cell in (
            ("worker footprint, MiB", lambda each: mib(each.footprint)),
            ("of it compressed (kernel), MiB", lambda each: mib(each.compressed)),
            ("of it compressed (mlxsupctl status), MiB", lambda each: mib(each.reported)),
            ("of it wired, MiB", lambda each: mib(each.wired)),
            ("swap used, MiB", lambda each: mib(each.swap)),
            ("RAM the compressor takes, MiB", lambda each: mib(each.zram_bytes)),
            ("compression, to one", lambda each: ratio(each.zram_logical, each.zram_bytes)),
            ("first token, warm and alone, s", lambda each: seconds(each.warm_alone)),
            ("first token, warm beside the neighbour, s", lambda each: seconds(each.warm_beside)),
            (f"first token after {settings.idle_s} s idle, s", lambda each: seconds(each.cold)),
            ("decode after idle, tokens/s", lambda each: rate(each.cold)),
            ("decode warm, tokens/s", lambda each: rate(each.warm_beside)),
            ("requests, failed", lambda each: f"{len(each.answers)}, {len(each.failed)}"),
        ):
            print(f"{label:46}" + "".join(f"{cell(each):>30}" for each in idle))
    if watched:
        columns = [each.title for each in watched]
        print(f"\n{'watched by a rule':46}" + "".join(f"{title:>30}" for title in columns))
        for label, cell in (
            ("noticed and acted, times", lambda each: str(len(each.noticed))),
            ("crossings nothing came of", lambda each: str(len(each.unnoticed))),
            ("from crossing to action, s, longest", lambda each: longest(each)),
            ("compressed before, MiB", lambda each: mib([before for _, before, _ in each.noticed])),
            (f"least compressed within {LATER_S} s after, MiB", lambda each: mib([after for _, _, after in each.noticed])),
            ("first token, warm and alone, s", lambda each: seconds(each.warm_alone)),
            ("first token after it acted, s", lambda each: seconds(each.cold)),
            ("longest pause in a stream, s", lambda each: f"{longest_gap(each):.2f}"),
            ("requests, failed", lambda each: f"{len(each.answers)}, {len(each.failed)}"),
            ("answers with more than one worker", lambda each: str(handed_over(each))),
            ("ledger: restarts, carried, lost", ledger),
        ):
            print(f"{label:46}" + "".join(f"{cell(each):>30}" for each in watched))
    return 1 if targets(found, settings) else 0


def longest(each):
    return f"{max(delay for delay, _, _ in each.noticed):.1f}" if each.noticed else "-"


def longest_gap(each):
    return max((gap for answer in each.answers for gap in answer.gaps), default=0.0)


def handed_over(each):
    return sum("," in answer.generations for answer in each.answers)


def ledger(each):
    return ", ".join(str(each.ledger.get(key)) for key in ("restarts", "carried", "lost"))


def targets(found, settings):
    lines = []
    if "unwired" in found and "wired" in found:
        unwired = statistics.median(found["unwired"].compressed)
        wired = statistics.median(found["wired"].compressed)
        less = 1 - wired / unwired if unwired else 0.0
        lines.append((f"≥ {LESS_COMPRESSED:.0%} less compressed when wired", f"{less:.1%}", less >= LESS_COMPRESSED))
    if "wired" in found:
        each = found["wired"]
        cold = median_first_token(each.cold)
        # The neighbour takes processor time too; warm and alone is in the table.
        warm = median_first_token(each.warm_beside)
        times = cold / warm if cold and warm else float("inf")
        lines.append((f"first token ≤ {COLD_OF_WARM} × warm, wired", f"{times:.2f}", times <= COLD_OF_WARM))
    for name in ("canary", "restart"):
        if name in found:
            each = found[name]
            limit = settings.dwell_s + NOTICE_SLACK_S
            met = bool(each.noticed) and not each.unnoticed and max(delay for delay, _, _ in each.noticed) <= limit
            lines.append((f"noticed within dwell + {NOTICE_SLACK_S} s = {limit} s, {name}", f"{longest(each)} s", met))
    failed = sum(len(each.failed) for each in found.values())
    asked = sum(len(each.answers) for each in found.values())
    lines.append(("failed requests: 0", f"{failed} of {asked}", failed == 0))
    print(f"\n{'target':56}{'measured':>14}")
    for label, value, met in lines:
        print(f"{label:56}{value:>14}  {'ok' if met else 'MISSED'}")
    for each in found.values():
        for answer in each.failed:
            print(f"failed, {each.name}: {answer.failure}")
    return sum(not met for *_, met in lines)


def save(measured, work):
    """curves.csv and marks.csv, times in seconds since the watch began; answers.csv; the events as text."""
    work.mkdir(parents=True, exist_ok=True)
    columns = METRICS + WITNESSED
    with open(work / "curves.csv", "w", newline="") as curves, open(work / "marks.csv", "w", newline="") as marks:
        curve, mark = csv.writer(curves), csv.writer(marks)
        curve.writerow(["scenario", "at_s", "state", *columns])
        mark.writerow(["scenario", "at_s", "kind", "label"])
        for each in measured:
            begin = each.rows[0]["at"] if each.rows else 0
            for row in each.rows:
                values = ["" if row[column] is None else row[column] for column in columns]
                curve.writerow([each.name, f"{row['at'] - begin:.2f}", row["state"], *values])
            for at, kind, label in sorted(each.marks):
                mark.writerow([each.name, f"{at - begin:.2f}", kind, label])
    with open(work / "answers.csv", "w", newline="") as file:
        answers = csv.writer(file)
        answers.writerow(["scenario", "when", "asked_at_s", "first_token_s", "total_s", "tokens", "longest_gap_s", "generations", "failure"])
        for each in measured:
            begin = each.rows[0]["at"] if each.rows else 0
            kinds = {id(answer): kind for kind in ("warm_alone", "cold", "warm_beside") for answer in getattr(each, kind)}
            for answer in each.answers:
                answers.writerow(
                    [
                        each.name,
                        kinds.get(id(answer), "other"),
                        f"{answer.asked_at - begin:.2f}",
                        "" if answer.first_token_s is None else f"{answer.first_token_s:.3f}",
                        f"{answer.total_s:.3f}",
                        answer.tokens,
                        f"{max(answer.gaps, default=0):.3f}",
                        answer.generations,
                        answer.failure or "",
                    ]
                )
    with open(work / "events.txt", "w") as file:
        for each in measured:
            file.write(f"== {each.name}\n")
            file.writelines(f"{event['at']} {event['kind']} {event['message']}\n" for event in each.events)
