#!/usr/bin/env python3
"""Writing parts of files that are on another device: stored as soon as that can be reached, and until then nothing is
acknowledged that a power loss would take, nothing hangs, and nothing is given up without a word.
"""
import os
import time

import harness
from conflicts import setup
from harness import check, say, wait_for

# Writes 4 KiB at an offset, fsyncs, and says how that went and how long it took.
WRITE = """
import errno, os, sys, time
f = os.open(sys.argv[1], os.O_RDWR)
started, said = time.monotonic(), '0'
try:
    os.pwrite(f, sys.argv[3].encode() * 4096, int(sys.argv[2]))
    os.fsync(f)
except OSError as e:
    said = errno.errorcode[e.errno]
print(said, time.monotonic() - started)
"""
MIB = 1 << 20


def write(node, name, offset, letter):
    said, took = node.command(["python3", "-c", WRITE, f"{node.home}/mnt/{name}", str(offset), letter], timeout=60).stdout.split()
    return said, float(took)


def far_files(node):
    return sum(c["value"] for c in node.status()["counters"] if c["name"] == "far_files")


def reach(node, other):
    node.bazil("peer", "location", "set", other.name, f"127.0.0.1:{other.port}")


def test(bench):
    white, black = setup(bench)
    white.sh("for i in 0 1 2 3 4 5 7 8; do head -c 16M /dev/urandom >mnt/big$i; cp mnt/big$i copy$i; done; sync mnt/*")
    black.bazil("volume", "sync", "v", "white")

    said, took = write(black, "big0", 5 * MIB, "a")
    check(said == "0" and took < 5, f"a part of a far file, its device there: fsync {said} after {took:.1f} s")
    white.sh(f"python3 -c 'import os; os.pwrite(os.open(\"copy0\", os.O_RDWR), b\"a\" * 4096, {5 * MIB})'")
    black.sh(f"cmp mnt/big0 {white.home}/copy0")
    # Not asked for: stored by age.
    black.sh(f"python3 -c 'import os; os.pwrite(os.open(\"mnt/big1\", os.O_RDWR), b\"b\" * 4096, {MIB})'")
    time.sleep(2.5)
    wait_for(lambda: far_files(black) == 0, "it to be stored", 10)
    say("parts of far files are stored, as nodes come when they are needed")

    white.stop()
    started = time.monotonic()
    said, took = write(black, "big2", 3 * MIB, "c")
    check(said in ("EHOSTUNREACH", "ETIMEDOUT") and took < 23, f"its device away: fsync {said} after {took:.1f} s")
    check(black.sh(f"dd if=mnt/big2 bs=4096 skip={3 * MIB // 4096} count=1 status=none | tr -d c | wc -c").strip() == "0", "what was written")
    say(f"device away: {said} after {took:.1f} s")
    wait_for(lambda: far_files(black) == 1, "it to be counted", 10)
    # What needs nothing of what is far: all of it new, or nothing of it left.
    black.sh("cd mnt && head -c 20M /dev/urandom >../new && cp ../new big3 && sync big3 && truncate -s 0 big4 && echo line >>big4 && sync big4 && cmp ../new big3")
    # Others go on while far files have all that they get.
    told = [black.command(["dd", "if=/dev/urandom", f"of=mnt/{name}", "bs=1M", "count=15", "conv=notrunc", "status=none"]).stderr
            for name in ("big5", "big1", "big7", "big8")]
    check(not told[0] and "No route to host" in told[3], f"60 MiB of far files: {told}")
    started = time.monotonic()
    black.sh("cd mnt && cp ../new another && sync another && cmp ../new another && ls -l >/dev/null")
    check(time.monotonic() - started < 15, "others are held up")
    say("far files leave half of the memory to the others")

    black.fails("volume", "unmount", "v", status=1, says=("cannot be reached", "-force"))
    black.kill("mountd")
    check(black.sh(f"dd if=mnt/big2 bs=4096 skip={3 * MIB // 4096} count=1 status=none | tr -d c | wc -c").strip() == "0", "after the death of mountd")
    say("an unmount is refused, and mountd may die")

    white.start()
    white.sh("bazil volume mount v mnt")
    reach(black, white)
    wait_for(lambda: far_files(black) == 0 and write(black, "big2", 3 * MIB + 4096, "c")[0] == "0", "what waited to be stored", 60)
    black.bazil("volume", "unmount", "v")
    black.sh("bazil volume mount v mnt")
    reach(white, black)
    black.bazil("peer", "volume", "allow", "white", "v")
    white.bazil("volume", "storage", "add", "-sharing=friends", "v", "peerkey:black")
    white.bazil("volume", "sync", "v", "black")
    for node in (white, black):
        node.sh(f"cmp mnt/big0 {white.home}/copy0 && cmp mnt/big3 {black.home}/new")
        node.sh(f"cmp <(dd if={white.home}/copy2 bs=4096 count=768 status=none; head -c 8192 /dev/zero | tr '\\0' c; dd if={white.home}/copy2 bs=4096 skip=770 status=none) mnt/big2")
    say("stored when its device came back")

    white.sh("head -c 16M /dev/urandom >mnt/big6; sync mnt/big6")
    black.bazil("volume", "sync", "v", "white")
    white.stop()
    black.sh("echo lost | dd of=mnt/big6 conv=notrunc status=none")
    black.fails("volume", "unmount", "v", status=1, says="cannot be reached")
    black.bazil("volume", "unmount", "-force", "v", timeout=60)
    wait_for(lambda: not harness.mounts_below(black.home), "the mount to go", 30)
    wait_for(lambda: "files that were written last are lost" in black.log_text(), "the log to say what is lost", 40)
    black.sh("bazil volume mount v mnt && test \"$(stat -c %s mnt/big6)\" = 16777216")
    say("given up by force, and said")
    black.stop()


if __name__ == "__main__":
    harness.run(test)
