# SPDX-License-Identifier: Apache-2.0
"""What simulating costs, in processor time of one core.

  sim_events_per_s  events a second under Brim's policy, the median of some runs of 300 000 arrivals;
                    reference: the same arrivals under `fcfs` in the same runs, whose policy is next to
                    nothing, so that what is left is the simulator itself
  sim_10m_cpu_s     all that `brim plan --arrivals 10000000` does: 10 million arrivals with their
                    deaths and bursts, through all three policies
  sim_10m_rss_mb    the most memory that it had meanwhile; reference: with 1 million
"""
import json
import os
import statistics
import subprocess
from pathlib import Path

BRIM = Path(__file__).resolve().parents[1] / os.environ.get("BUILD", "build") / "brim"
RUNS, ARRIVALS = 7, 300_000


def plan(arrivals):
    done = subprocess.run([BRIM, "plan", "--arrivals", str(arrivals), "--json"], check=True,
                          stdout=subprocess.PIPE, encoding="utf-8")
    return json.loads(done.stdout)


def show(key, value, unit, reference, n):
    ratio = round(value / reference, 4) if reference else None
    print(json.dumps({"key": key, "value": round(value, 4), "unit": unit, "reference": reference,
                      "ratio": ratio, "n": n}), flush=True)


def main():
    runs = [[policy["events_per_s"] for policy in plan(ARRIVALS)["policies"][:2]]
            for _ in range(RUNS)]
    brim, fcfs = (statistics.median(column) for column in zip(*runs))
    show("sim_events_per_s", brim, "1/s", round(fcfs), RUNS)
    million, most = plan(1_000_000), plan(10_000_000)
    show("sim_10m_cpu_s", sum(policy["cpu_s"] for policy in most["policies"]), "s", None, 1)
    show("sim_10m_rss_mb", most["peak_rss_bytes"] / 1e6, "MB",
         round(million["peak_rss_bytes"] / 1e6, 3), 1)


if __name__ == "__main__":
    main()
