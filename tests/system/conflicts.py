#!/usr/bin/env python3
"""A file that was written on two computers apart: what programs can do to the names beside it, and what settles it."""
import os

import harness
from harness import check, say


def setup(bench):
    nodes = white, black = bench.node("white"), bench.node("black")
    for node in nodes:
        node.bazil("create")
        node.start()
    white.sh("head -c 32 /dev/urandom >key && bazil sharing add friends <key && bazil volume create -sharing=friends v")
    black.sh(f"bazil sharing add friends <{white.home}/key")
    for node, other in ((white, black), (black, white)):
        node.bazil("peer", "add", "-name=" + other.name, other.bazil("pubkey").strip())
        node.bazil("peer", "storage", "allow", other.name, "local")
        node.bazil("peer", "location", "set", other.name, f"127.0.0.1:{other.port}")
    white.bazil("peer", "volume", "allow", "black", "v")
    black.bazil("volume", "connect", "-sharing=friends", "white", "v")
    black.bazil("volume", "storage", "add", "-sharing=friends", "v", "peerkey:white")
    for node in nodes:
        node.sh("mkdir mnt && bazil volume mount v mnt")
    return white, black


def siblings(node, name):
    return [n for n in node.sh("ls mnt").split() if n.startswith(name + ".conflict-")]


def conflict(white, black, names):
    """Each of these files differs on both sides, and black has both versions. Returns the names beside them."""
    for name in names:
        white.sh(f"echo first >mnt/{name}")
    black.bazil("volume", "sync", "v", "white")
    for node in (white, black):
        for name in names:
            node.sh(f"seq 100000 >mnt/{name}; echo {node.name} >>mnt/{name}; sync mnt/{name}")
    black.bazil("volume", "sync", "v", "white")
    found = [siblings(black, name) for name in names]
    check(all(len(f) == 1 for f in found), f"names beside: {found}")
    return [f[0] for f in found]


def refused(node, name, sibling):
    for script in (f"echo x >>{sibling}", f"ln {sibling} other", f"truncate -s 0 {sibling}", f"chmod 600 {sibling}",
                   f"setfattr -n user.a -v b {sibling}", f"mv -f {name} {sibling}", f"mv -f {sibling} {name}", f"mv -T other.d {sibling}"):
        r = node.command(["bash", "-c", f"cd mnt; LC_ALL=C {script}"])
        check(r.returncode != 0 and r.stderr, f"{script}: {r.returncode} {r.stderr}")


def test(bench):
    white, black = setup(bench)
    names = [f"f{i}" for i in range(5)]
    beside = conflict(white, black, names)
    black.sh("mkdir mnt/other.d")
    refused(black, names[0], beside[0])
    check(siblings(black, names[0]) == [beside[0]], "what was refused changed something")

    # Each way to settle: the other version copied over the file by sharing its chunks, another file so copied, written,
    # the other removed, the other moved elsewhere.
    black.sh(f"""
        set -e; cd mnt; cat f* >/dev/null; seq 200000 >another; sync another
        tail -n1 {beside[0]} >../other0; tail -n1 {beside[4]} >../other4
        python3 -c 'import os, sys
    fds = os.open(sys.argv[1], os.O_RDONLY), os.open(sys.argv[2], os.O_RDWR)
    size = os.fstat(fds[0]).st_size
    assert os.copy_file_range(*fds, size, 0, 0) == size
    os.ftruncate(fds[1], size)' {beside[0]} {names[0]}
        python3 -c 'import os, sys
    fds = os.open("another", os.O_RDONLY), os.open(sys.argv[1], os.O_RDWR)
    assert os.copy_file_range(*fds, 500000, 0, 0) == 500000' {names[1]}
        echo settled >{names[2]}; sync {names[2]}
        rm {beside[3]}
        mv {beside[4]} elsewhere; cat elsewhere >{names[4]}; sync {names[4]}
        tail -n1 {names[0]} | cmp - ../other0; tail -n1 {names[4]} | cmp - ../other4
    """.replace("\n    ", "\n"))
    harness.wait_for(lambda: not any(siblings(black, name) for name in names), "what is settled to be shown no more", 5)
    say("settled in five ways")

    white.bazil("volume", "storage", "add", "-sharing=friends", "v", "peerkey:black")
    black.bazil("peer", "volume", "allow", "white", "v")
    black.sh("sync mnt/*")
    white.bazil("volume", "sync", "v", "black")
    left = [siblings(white, name) for name in names]
    check(left == [[]] * 5, f"settled at black, shown at white: {left}")
    white.sh(f"diff -r mnt {black.home}/mnt")
    renamed(white, black)


def renamed(white, black):
    """What both gave another name has one, the same on both, and is there once."""
    white.sh("cd mnt && mkdir d e && touch d/f1 d/f2 d/f3 d/f4 && mkdir d/g && echo in >d/g/in")
    black.bazil("volume", "sync", "v", "white")
    black.sh("ls -R mnt")
    for node, other in ((white, "e"), (black, "d")):
        node.sh(f"cd mnt && for n in f1 f2 f3; do mv d/$n d/$n.{node.name}; done; mv d/f4 {other}/f4.{node.name}; mv d/g {other}/g.{node.name}")
    for puller, other in ((black, "white"), (white, "black"), (black, "white")):
        puller.bazil("volume", "sync", "v", other)
    for when in ("at once", "after a remount"):
        shown = [node.sh("cd mnt && find d e | sort") for node in (white, black)]
        check(shown[0] == shown[1], f"renamed on both, {when}: {shown}")
        check(shown[0].count("\n") == 8, f"renamed on both, not there once, {when}: {shown[0]}")
        for node in (white, black):
            node.sh(f"bazil volume unmount v && bazil volume mount v {node.home}/mnt")
    say("names given on both sides are the same")


harness.run(test)
