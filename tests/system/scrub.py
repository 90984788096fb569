#!/usr/bin/env python3
"""Damage on the disk: never wrong data, named by file, healed from a peer that has it.

white has files, black has all of them too. Bits are flipped and sectors zeroed in white's arenas: what is read is what was
written or EIO; `bazil scrub` says which files; as soon as black can be reached everything is read again as it was written.
"""
import filecmp
import glob
import json
import os
import random

import harness
from harness import check, wait_for


def setup(bench):
    white, black = bench.node("white"), bench.node("black")
    for node in (white, black):
        node.bazil("create")
        node.start()
    w, b = white.bazil("pubkey").strip(), black.bazil("pubkey").strip()
    white.sh("head -c 32 /dev/urandom >key && bazil sharing add friends <key && bazil volume create -sharing=friends v && mkdir mnt && bazil volume mount v mnt")
    black.sh(f"bazil sharing add friends <{white.home}/key && mkdir mnt")
    for node, name, key in ((white, "black", b), (black, "white", w)):
        node.bazil("peer", "add", "-name=" + name, key)
        node.bazil("peer", "storage", "allow", name, "local")
    white.bazil("peer", "volume", "allow", "black", "v")
    black.bazil("peer", "location", "set", "white", f"127.0.0.1:{white.port}")
    black.bazil("volume", "connect", "-sharing=friends", "white", "v")
    black.bazil("volume", "storage", "add", "-sharing=friends", "v", "peerkey:white")
    black.bazil("volume", "mount", "v", "mnt")
    return white, black


def damage(node, rng, num):
    """Flips a bit or zeroes a sector at random places of the arenas, behind their superblocks."""
    for _ in range(num):
        path = rng.choice(sorted(glob.glob(node.data_dir + "/store/arena.*")))
        size = os.path.getsize(path)
        with open(path, "r+b") as f:
            if rng.random() < 0.5:
                f.seek(at := rng.randrange(4096, size))
                byte = f.read(1)[0]
                f.seek(at)
                f.write(bytes([byte ^ 1 << rng.randrange(8)]))
            else:
                f.seek(rng.randrange(4096, size) // 512 * 512)
                f.write(bytes(512))


def read_all(node, names):
    """How each file reads: "ok", "error" or (never) "wrong"."""
    found = {}
    for name, source in names.items():
        r = node.command(["bash", "-c", f"cat {name} >out"], timeout=60)
        if r.returncode == 0:
            found[name] = "ok" if filecmp.cmp(node.home + "/out", source, shallow=False) else "wrong"
        else:
            check("Input/output error" in r.stderr, r.stderr)
            found[name] = "error"
    return found


def forget(node):
    """What mountd and the kernel have in memory must not hide what is on the disk."""
    node.bazil("volume", "unmount", "v")
    node.bazil("volume", "mount", "v", "mnt")


def test_record(bench):
    """A small file is in the record of its inode. When that is damaged it alone is: it is listed as those beside it, and they
    are read, changed and removed."""
    node, names = bench.mounted("small"), [f"f{i}" for i in range(8)]
    node.sh("mkdir mnt/d; for i in 0 1 2 3 4 5 6 7; do head -c 2000 /dev/urandom >mnt/d/f$i; done; bazil volume unmount v")
    node.stop()
    path = node.data_dir + "/store/arena.00000001"
    with open(path, "r+b") as f:
        for at in (size := os.path.getsize(path)) * 6 // 10, size * 6 // 10 + 300:
            f.seek(at)
            byte = f.read(1)[0]
            f.seek(at)
            f.write(bytes([byte ^ 1]))
    node.start()
    node.bazil("volume", "mount", "v", "mnt")
    r = node.command(["bash", "-c", "ls -l mnt/d; ls -l mnt/d"], timeout=60)
    damaged = [n for n in names if f"cannot access 'mnt/d/{n}'" in r.stderr]
    check(1 <= len(damaged) <= 2, f"{r.stdout}{r.stderr}")
    for name in names:
        check(r.stdout.count(" " + name + "\n") == 2, f"{name} is not listed: {r.stdout}{r.stderr}")
        r2 = node.command(["bash", "-c", f"wc -c <mnt/d/{name}"], timeout=60)
        check("Input/output error" in r2.stderr if name in damaged else r2.stdout == "2000\n", f"{name}: {r2.stdout}{r2.stderr}")
    check(node.sh("ls -f mnt/d | sort").split() == [".", ".."] + names, "without attributes")
    node.sh("rm mnt/d/f*", ok=False)
    check(node.sh("ls -f mnt/d | sort").split() == [".", ".."] + damaged, "all others are removed")
    node.stop()


def test(bench):
    test_record(bench)
    rng = random.Random(harness.seed())
    white, black = setup(bench)
    names = {}
    for i in range(60):
        name = f"mnt/file-{i}"
        text = rng.randbytes(rng.choice([100, 5000, 70000, 700000, 3000000]))
        names[name] = f"{bench.dir}/file-{i}"
        with open(names[name], "wb") as f:
            f.write(text)
        white.sh(f"cp {names[name]} {name}")
    forget(white)
    black.bazil("volume", "sync", "v", "white")
    check(set(read_all(black, names).values()) == {"ok"}, "black reads what white wrote")
    white.bazil("scrub")
    status = json.loads(white.bazil("scrub", "status", "-json"))
    check(status["damaged"] == 0 and status["objects"] > 60 and status["finished"] > 0, status)

    # Nobody has a copy that white knows of.
    damage(white, rng, 25)
    forget(white)
    found = read_all(white, names)
    check("wrong" not in found.values(), found)
    check("error" in found.values(), "damage must be seen")
    r = white.bazil("scrub", ok=False)
    check(r.returncode == 1 and "damaged: " in r.stdout, f"{r.stdout}{r.stderr}")
    for name, how in found.items():
        check(how == "ok" or f"damaged: {white.home}/{name}\n" in r.stdout, f"{name} is not named: {r.stdout}")
    print(f"{list(found.values()).count('error')} of {len(names)} files damaged, all named")

    # Now it knows of one.
    white.bazil("peer", "location", "set", "black", f"127.0.0.1:{black.port}")
    white.bazil("volume", "storage", "add", "-sharing=friends", "v", "peerkey:black")
    found = read_all(white, names)
    check(set(found.values()) == {"ok"}, found)
    white.bazil("scrub", ok=False)
    wait_for(lambda: json.loads(white.bazil("scrub", "status", "-json", ok=False).stdout)["unhealed"] == 0, "healing", 60)
    white.bazil("peer", "location", "remove", "black")
    white.stop()
    white.start()
    white.bazil("volume", "mount", "v", "mnt")
    check(set(read_all(white, names).values()) == {"ok"}, "what was healed is on the disk")
    white.bazil("scrub", "-rate=1", "-background")
    check(json.loads(white.bazil("scrub", "status", "-json"))["running"], "it runs")
    white.bazil("scrub", "stop")
    check(not json.loads(white.bazil("scrub", "status", "-json"))["running"], "it was stopped")


harness.run(test)
