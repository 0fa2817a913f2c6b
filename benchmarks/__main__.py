"""`make bench`: Mailroom beside what people would build instead (benchmarks/compare.py), or one of the other measurements.

`search` measures the search, `intake` what slow peers and uploads cost, `overload` what three times too much does,
`rolling` what restarts do, `scale` what more of everything costs; `plot` draws what a comparison found.
"""

import sys

from benchmarks import compare, intake, overload, plot, rolling, scale, search

MEASUREMENTS = {
    "compare": compare.main,
    "intake": intake.main,
    "overload": overload.main,
    "plot": plot.main,
    "rolling": rolling.main,
    "scale": scale.main,
    "search": search.main,
}


def main() -> int:
    """Measure what is named first, the comparison when nothing is; and print."""
    if sys.argv[1:2] and sys.argv[1] in MEASUREMENTS:
        return MEASUREMENTS[sys.argv[1]](sys.argv[2:])
    return compare.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
