#!/usr/bin/env python3
"""What is stored already is not compressed again: not when a small file is written again and synced, not when files that came from
another device are copied. What counts are the chunks that mountd compressed and sealed.

usage: copies.py BINDIR
"""
import harness
from conflicts import setup
from harness import check, say

# Read and written: else the files would share what is stored.
COPY = "cp -r --reflink=never"
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


def pulled(white, black):
    white.sh("mkdir mnt/d && " + TEXT.format(first=5_000_000, size="8M") + ">mnt/d/big && "
             "for i in $(seq 40); do " + TEXT.format(first="${i}00000", size=40_000) + ">mnt/d/$i; done && sync mnt/d/*")
    black.bazil("volume", "sync", "v", "white")
    new = seals(white, f"{COPY} mnt/d mnt/again && sync mnt/again/*")
    check(new == 0, f"a copy where it was written: {new} chunks")
    new = seals(black, f"{COPY} mnt/d mnt/copy && sync mnt/copy/*")
    # Which chunks were far is a table of bits: two may share one.
    check(new <= 2, f"a copy while it is read from a peer: {new} chunks")
    say("files of a peer are copied without sealing")


def rebuilt(black):
    """Tags that were learned are in no log."""
    black.bazil("store", "rebuild-index", "-force", timeout=120)
    black.sh("cmp mnt/d/big mnt/copy/big")
    first = seals(black, f"{COPY} mnt/d mnt/third && sync mnt/third/*")
    second = seals(black, f"{COPY} mnt/d mnt/fourth && sync mnt/fourth/*")
    check(first > 100 and second == 0, f"after a rebuild of the index: {first} chunks, then {second}")
    black.sh("for d in third fourth; do diff -r mnt/d mnt/$d; done")
    say("once more after a rebuild of the index")


def test(bench):
    white, black = setup(bench)
    small(white)
    pulled(white, black)
    rebuilt(black)
    white.sh("diff -r mnt/d mnt/again")


if __name__ == "__main__":
    harness.run(test)
