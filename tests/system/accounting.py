#!/usr/bin/env python3
"""The recursive figures of directories against a real walk, under random changes and while workers are killed; `bazil du`,
`bazil stat` and `bazil df`; the attributes are hidden; a pull changes the figures. seed: BAZIL_SEED, seconds: BAZIL_SECONDS.
"""
import json
import os
import random

import harness
from deaths import Killer, settle
from harness import check, say

CASE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "accounting_case.py")


def churn(node, path, seed, seconds):
    with open(CASE, encoding="utf-8") as f:
        code = f.read()
    r = node.command(["python3", "-B", "-c", code, path, str(seed), str(seconds)], timeout=900)
    check(r.returncode == 0, f"{node.name}: {r.stdout}{r.stderr[-3000:]}")
    return json.loads(r.stdout)


def test_killed(node, path, rng, seconds):
    for role in (None, "mountd", "stored"):
        settle(node)
        killer = Killer(node, role, rng, pause=(0.3, 1.5)) if role else None
        if killer:
            killer.start()
        try:
            seen = churn(node, path, rng.randrange(2**32), seconds)
        finally:
            if killer:
                killer.stop()
        check(seen["compared"] > 5, f"too few comparisons: {seen}")
        say(f"{role or 'nobody'} killed {killer.kills if killer else 0} times: {seen}")


def test_commands(node):
    node.sh("mkdir -p mnt/d/e mnt/d/f && head -c 100000 /dev/urandom >mnt/d/e/one && echo two >mnt/d/f/two && cp -a mnt/d copy")
    check(node.sh("getfattr -d -m - mnt/d mnt/d/e/one copy copy/e/one") == "", "hidden attributes are listed")
    du = json.loads(node.bazil("du", "-json", "mnt/d"))
    check([(x["bytes"], x["files"], x["directories"]) for x in du] == [(100004, 2, 2)], f"du: {du}")
    deep = json.loads(node.bazil("du", "-json", "-depth=1", "mnt/d"))
    check({os.path.basename(x["path"]): x["bytes"] for x in deep} == {"d": 100004, "e": 100000, "f": 4}, f"du: {deep}")
    text = node.bazil("du", "-h", "mnt/d/e")
    check("97.7 KiB" in text and text.rstrip().endswith("mnt/d/e"), f"du: {text}")
    node.fails("du", "copy", says=("copy", "not in a mounted volume"))
    node.fails("du", "mnt/none", says="mnt/none")
    node.fails("du", "-depth=x", "mnt", status=2, says="depth")
    node.sh("setfattr -n user.bazil.rbytes -v 1 mnt/d 2>&1 && exit 1 || exit 0")

    node.sh("sync -f mnt/d/e/one; python3 -c \"import os; os.fsync(os.open('mnt/d/e/one', os.O_RDONLY))\"")
    st = json.loads(node.bazil("stat", "-json", "mnt/d/e/one"))
    check(st["size"] == 100000 and st["chunks"] >= 1 and st["far_chunks"] == 0 and st["complete"], f"stat: {st}")
    check(st["stored_bytes"] >= 100000 and st["contents"]["values"] == 1 and st["conflicts"] == 0, f"stat: {st}")
    text = node.bazil("stat", "mnt/d/e/one")
    check("chunks" in text and "replica" in text, text)

    df = json.loads(node.bazil("df", "-json"))
    check(len(df) == 1 and df[0]["volume"] == "myfiles" and df[0]["disk_bytes"] > df[0]["disk_available"] > 0, f"df: {df}")
    check(df[0]["logical_bytes"] >= 100004, f"df: {df}")
    check("myfiles" in node.bazil("df"), "df names no volume")


def test_pull(bench, white):
    """What a sync brings is in the figures that were known before."""
    black = bench.node("black")
    black.bazil("create")
    black.start()
    for a, b in ((white, black), (black, white)):
        a.bazil("peer", "add", b.bazil("pubkey").strip())
    key = {n.name: n.bazil("pubkey").strip() for n in (white, black)}
    white.bazil("peer", "storage", "allow", key["black"], "local")
    white.bazil("peer", "volume", "allow", key["black"], "myfiles")
    black.bazil("peer", "location", "set", key["white"], f"127.0.0.1:{white.port}")
    black.sh(f"head -c 32 /dev/zero >s; cat s | bazil sharing add friends; mkdir mnt; "
             f"bazil volume connect -sharing=friends {key['white']} myfiles; bazil volume mount myfiles mnt")
    for script in ("true", "mkdir -p mnt/p/q/r && echo 1 >mnt/p/q/r/x", "echo 23456 >>mnt/p/q/r/x", "mv mnt/p/q/r mnt/p/s",
                   "ln mnt/p/s/x mnt/p/y", "echo 7 >>mnt/p/y", "rm mnt/p/s/x", "rm -r mnt/p"):
        white.sh(script)
        black.bazil("volume", "sync", "myfiles", key["white"])
        churn(black, os.path.join(black.home, "mnt"), 1, 0.0)
        ours, theirs = (json.loads(n.bazil("du", "-json", "mnt"))[0] for n in (black, white))
        ours.pop("path"), theirs.pop("path"), ours.pop("newest"), theirs.pop("newest")
        check(ours == theirs, f"after {script}: {ours} / {theirs}")
    white.sh("mkdir mnt/u && echo 1 >mnt/u/v")
    black.bazil("volume", "sync", "myfiles", key["white"])
    syncs = json.loads(black.bazil("volume", "syncs", "-json", "myfiles"))
    check(syncs[0]["number"] == 1 and syncs[0]["changed"] > 0 and not syncs[0]["undone"], f"syncs: {syncs}")
    black.bazil("undo", "myfiles")
    black.sh("test ! -e mnt/u")
    churn(black, os.path.join(black.home, "mnt"), 1, 0.0)
    check(json.loads(black.bazil("du", "-json", "mnt"))[0]["bytes"] == ours["bytes"], "figures after an undo")
    black.fails("undo", "-sync=99", "myfiles", says="no such sync")


def test(bench):
    seconds = float(os.environ.get("BAZIL_SECONDS", 12))
    rng = random.Random(harness.seed())
    node = bench.node("white")
    node.bazil("create")
    node.start()
    node.sh("head -c 32 /dev/zero | bazil sharing add friends; bazil volume create -sharing=friends myfiles; mkdir mnt; "
            "bazil volume mount myfiles mnt; mkdir mnt/churn")
    test_commands(node)
    say("commands")
    test_killed(node, os.path.join(node.home, "mnt/churn"), rng, seconds)
    test_pull(bench, node)
    say("a pull")


if __name__ == "__main__":
    harness.run(test)
