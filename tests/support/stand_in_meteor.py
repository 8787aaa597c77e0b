"""A stand-in for the METEOR 1.5 program, run by Python in the place of Java: it counts words that both texts have."""

from __future__ import annotations

STAND_IN_METEOR = """
import sys
for line in sys.stdin:
    kind, *parts = line.rstrip("\\n").split(" ||| ")
    if kind == "SCORE":
        print(len(set(parts[0].split()) & set(parts[1].split())), len(parts[0].split()), flush=True)
    else:
        pairs = [tuple(map(float, part.split())) for part in parts]
        for found, length in pairs:
            print(found / length, flush=True)
        print(sum(p[0] for p in pairs) / sum(p[1] for p in pairs), flush=True)
"""
