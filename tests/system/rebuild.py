#!/usr/bin/env python3
"""The index of the store is made anew: `bazil store rebuild-index`, with a server and a mount that stays, and without; and by
itself when it was deleted, truncated or scrambled. Everything reads as before. seed: BAZIL_SEED; files: BAZIL_FILES (3000).
"""
import json
import os
import pty
import random
import subprocess
import threading
import time

import harness
from harness import check, say, wait_for

MAKE = """
import os, random, sys
rng = random.Random(int(sys.argv[2]))
for i in range(int(sys.argv[3])):
    d = f"{sys.argv[1]}/d{i % 50}"
    os.makedirs(d, exist_ok=True)
    with open(f"{d}/f{i}", "wb") as f:
        f.write(rng.randbytes(rng.choice([10, 3000, 6000, 20000])))
"""


def digest(node, path="mnt"):
    return node.sh(f"cd {path} && find . -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum", timeout=300)


def status(node):
    return json.loads(node.bazil("store", "status", "-json"))


def index(node):
    return node.data_dir + "/store/index"


def damage_index(node, how, rng):
    size = os.path.getsize(index(node))
    if how == "deleted":
        os.unlink(index(node))
    elif how == "truncated":
        os.truncate(index(node), rng.randrange(8192, size // 2) // 4096 * 4096)
    else:
        with open(index(node), "r+b") as f:
            for _ in range(max(200, size // 40000)):
                f.seek(rng.randrange(8192, size))
                f.write(rng.randbytes(100))


def remount(node):
    node.bazil("volume", "unmount", "v")
    node.bazil("volume", "mount", "v", "mnt")


class Reader(threading.Thread):
    """Reads and writes through the mount all the time: what waits does not fail."""

    def __init__(self, node):
        super().__init__()
        self.node, self.ended, self.error, self.rounds, self.longest = node, False, None, 0, 0

    def run(self):
        while not self.ended and not self.error:
            start = time.monotonic()
            r = self.node.command(["bash", "-c", f"echo {self.rounds} >mnt/beside && sync mnt/beside && ls -l mnt/d1 && cat mnt/d{self.rounds % 50}/*"],
                                  timeout=120)
            self.longest = max(self.longest, time.monotonic() - start)
            if r.returncode != 0 or "error" in r.stderr:
                self.error = f"{r.returncode} {r.stderr[-500:]}"
            self.rounds += 1

    def stop(self):
        self.ended = True
        self.join()
        check(not self.error, f"a reader beside: {self.error}")


def on_terminal(node, *argv):
    """What the command shows on a terminal."""
    main, other = pty.openpty()
    p = subprocess.Popen([*node.prefix(), os.path.join(node.bench.bin, "bazil"), *argv], env=node.environment(), cwd=node.home,
                         stdin=subprocess.DEVNULL, stdout=other, stderr=other)
    os.close(other)
    text = b""
    while True:
        try:
            more = os.read(main, 65536)
        except OSError:
            break
        if not more:
            break
        text += more
    os.close(main)
    check(p.wait(300) == 0, f"{argv}: {text[-500:]}")
    return text.decode(errors="replace")


def test_running(node, expected):
    before = node.worker("stored")
    node.fails("store", "rebuild-index", says=["-force"])
    reader = Reader(node)
    reader.start()
    wait_for(lambda: reader.rounds >= 2, "the reader", 60)
    shown = on_terminal(node, "store", "rebuild-index", "-force")
    check("rebuild-index [" in shown and "%" in shown, f"no progress on a terminal: {shown!r}")
    done = json.loads(node.bazil("store", "rebuild-index", "-force", "-json"))
    say(f"with a server: {done['seconds']:.1f} s for {done['objects']} objects")
    wait_for(lambda: reader.rounds >= 4, "the reader", 60)
    reader.stop()
    after = node.worker("stored")
    check(after["pid"] != before["pid"] and after["restarts"] == before["restarts"], f"restarts: {before} {after}")
    check(status(node)["index_rebuilt"], "it was made anew")
    say(f"the longest wait of a reader beside was {reader.longest:.1f} s")
    node.sh("rm mnt/beside")
    check(digest(node) == expected, "what is there after a rebuild")
    check(node.worker("mountd")["restarts"] == 0, "the mount stayed")


def test_running_damaged(node, expected, rng):
    for how in ("deleted", "truncated", "scrambled"):
        damage_index(node, how, rng)
        node.bazil("store", "rebuild-index", "-force", timeout=120)
        remount(node)
        check(digest(node) == expected, f"{how} while it ran")
        say(f"{how} while it ran: all reads")


def test_stopped(node, expected, rng):
    node.bazil("volume", "unmount", "v")
    node.stop()
    before = status(node)
    check(before["objects"] > 100, f"status without a server: {before}")
    for how in ("whole", "deleted", "truncated", "scrambled"):
        if how != "whole":
            damage_index(node, how, rng)
        done = json.loads(node.bazil("store", "rebuild-index", "-json"))
        check(done["objects"] == before["objects"] and done["live_bytes"] == before["live_bytes"], f"{how}: {before} {done}")
        say(f"{how}, without a server: {done['seconds']:.1f} s")
        check(not os.path.exists(node.data_dir + "/store/rebuild"), "the wish is gone")
    for how in ("deleted", "truncated"):
        damage_index(node, how, rng)
        node.start()
        node.bazil("volume", "mount", "v", "mnt")
        check(digest(node) == expected, f"{how} before a start")
        node.bazil("volume", "unmount", "v")
        node.stop()
        say(f"{how}, then started: all reads")


def test(bench):
    seed = harness.seed()
    rng = random.Random(seed)
    node = bench.node("one")
    node.extra["BAZIL_WATCHDOG"] = "3"  # a rebuild may take longer
    node.fails("create", "-arena-size=1000", status=2, says=["4M to 2G"])
    node.bazil("create", "-arena-size=8M")
    check(status(node)["arena_size"] == 8 << 20, status(node))
    node.start()
    node.bazil("volume", "create", "v")
    node.sh("mkdir mnt")
    node.bazil("volume", "mount", "v", "mnt")
    files = int(os.environ.get("BAZIL_FILES", "3000"))
    r = node.command(["python3", "-c", MAKE, "mnt", str(seed), str(files)], timeout=900)
    check(r.returncode == 0, r.stderr)
    node.sh("rm mnt/d*/f1?0")
    expected = digest(node)
    remount(node)  # what was written is stored
    have = wait_for(lambda: (s := status(node))["sealed"] + 1 == s["arenas"] and s, "arenas to be sealed", 30)
    check(have["arenas"] >= 3 and have["arena_list"][0]["sealed"], have)
    check(sum(a["live_bytes"] for a in have["arena_list"]) == have["live_bytes"], have)
    check(sum(a["objects"] for a in have["arena_list"]) == have["objects"], have)
    say(f"{files} files: {have['objects']} objects in {have['arenas']} arenas, index {have['index_bytes']} bytes")
    text = node.bazil("store", "status")
    check("arenas of 8.0 MiB" in text and "no damage is known" in text, text)
    test_running(node, expected)
    test_running_damaged(node, expected, rng)
    test_stopped(node, expected, rng)


harness.run(test)
