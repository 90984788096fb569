#!/usr/bin/env python3
"""What is stored already is not compressed again, when a small file is written again and synced. What counts are the chunks that
mountd compressed and sealed.

usage: copies.py BINDIR
"""
import harness
from conflicts import setup
from harness import check, say

# Lines that compress, none like another.
TEXT = "seq {first} 99999999 | head -c {size} "


def sealed(node):
    return sum(c["value"] for c in node.status()["counters"] if c["worker"].startswith("mountd") and c["name"] == "chunks_sealed")


def seals(node, script):
    before = sealed(node)
    node.sh(script)
    return sealed(node) - before


def small(white):
    for size in (20_000, 60_000, 200_000):
        script = TEXT.format(first=size, size=size) + ">mnt/{0}-" + str(size) + " && sync mnt/{0}-" + str(size)
        check(seals(white, script.format("first")) > 0, f"{size} new bytes are sealed")
        check(seals(white, script.format("second")) == 0, f"{size} bytes that are stored were sealed again")
    say("small files that are stored cost their hashes")


def test(bench):
    white, _ = setup(bench)
    small(white)


if __name__ == "__main__":
    harness.run(test)
