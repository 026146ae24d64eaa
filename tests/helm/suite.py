"""suite.py LAGGARD HELM... [--bless] [--quick]: runs every row and says which pass."""

import argparse
import sys
import time

import mutations

# Importing them registers their rows, in this order.
import rows_rendered, rows_values, rows_reach, rows_queries, rows_around  # noqa: E401, F401, I001
from rows import ROWS, Context

# The golden renders of T6 would notice everything, so that a mutation counts only where another row does. Those that notice
# most come first, for a mutation is done with when one has noticed it.
FOR_MUTATIONS = ("T10", "D1-D13", "FILES", "ROUTE", "REACH", "TIER", "WALLS", "LABELS", "ROLL", "GRACE", "CLOSED", "T36", "T28", "T26", "T12", "T29", "T5", "T30", "T9", "T35", "T34", "T31", "T25", "T41")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("laggard")
    parser.add_argument("helm", nargs="+")
    parser.add_argument("--bless", action="store_true", help="renew what is compared: golden renders, the README's table")
    parser.add_argument("--rows", nargs="*", help="only these")
    parser.add_argument("--no-mutations", action="store_true")
    arguments = parser.parse_args()
    context = Context(arguments.helm, arguments.laggard, bless=arguments.bless)
    failed = 0
    for number, title, function in ROWS:
        if arguments.rows and number not in arguments.rows:
            continue
        failed += not report(number, title, lambda function=function: function(context))
    if not arguments.no_mutations and "T42" in (arguments.rows or ["T42"]):
        failed += not report("T42", "a broken chart is noticed", lambda: mutated(arguments))
    sys.exit(bool(failed))


def report(number, title, run):
    began = time.monotonic()
    try:
        missing = run()
    except AssertionError as error:
        print(f"FAILED {number:8} {title}\n    {error}", flush=True)
        return False
    print(f"ok     {number:8} {title} ({time.monotonic() - began:.1f} s){f' -- not here: {missing}' if missing else ''}", flush=True)
    return True


def mutated(arguments):
    functions = {number: function for number, _, function in ROWS}
    rows = {number: functions[number] for number in FOR_MUTATIONS}
    alive = mutations.survivors(lambda chart: Context(arguments.helm[-1:], arguments.laggard, chart=chart), rows)
    count = len(mutations.MUTATIONS)
    assert len(alive) <= count // 15, f"{len(alive)} of {count} went unnoticed:\n    " + "\n    ".join(alive)
    print(f"       {count - len(alive)} of {count} noticed without golden renders{': not ' if alive else ''}{', '.join(alive)}")


if __name__ == "__main__":
    main()
