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
    fallen(white, black)


def sync_all(white, black):
    for puller, other in ((black, "white"), (white, "black"), (black, "white")):
        puller.bazil("volume", "sync", "v", other)


def figures(node, path):
    return [node.sh(f"getfattr --only-values -n user.bazil.{what} {path}").strip() for what in ("rfiles", "rdirs", "rbytes")]


def counted(node, path):
    return [node.sh(f"cd {path} && find . {what} | wc -l").strip() for what in ("-type f", "-mindepth 1 -type d")]


def fallen(white, black):
    """Each moved a directory into the other's: a circle, out of which one falls into the root, the same on both."""
    white.sh("cd mnt && mkdir -p up/one up/two && echo 1 >up/one/in && echo 22 >up/two/in && mkdir up/two/deep && echo 333 >up/two/deep/in")
    sync_all(white, black)
    before = counted(white, "mnt")
    snap_before = white.sh("cd mnt && find up | sort")
    white.sh("mv mnt/up/one mnt/up/two/; mkdir mnt/.snap/mine")
    black.sh("mv mnt/up/two mnt/up/one/")
    sync_all(white, black)
    for when in ("at once", "after a remount"):
        shown = [node.sh("cd mnt && find . | sort") for node in (white, black)]
        check(shown[0] == shown[1], f"a circle, {when}: {shown}")
        out = [line for line in shown[0].splitlines() if line.count("/") == 1 and ".conflict-" in line]
        check(len(out) == 1, f"a circle, {when}: fell into the root: {out}")
        for node in (white, black):
            check(counted(node, "mnt") == before, f"{node.name}, {when}: {counted(node, 'mnt')} of {before}\n{shown[0]}")
            check(figures(node, "mnt")[:2] == before, f"{node.name}, {when}: figures {figures(node, 'mnt')} of {before}")
            check(node.sh("stat -c %h mnt").strip() == str(2 + len(node.sh("cd mnt && find . -mindepth 1 -maxdepth 1 -type d").split())), f"{node.name}, {when}: links of the root")
            node.sh(f"bazil volume unmount v && bazil volume mount v {node.home}/mnt")
    name = out[0][2:]
    other = {"one": "two", "two": "one"}[name.split(".")[0]]
    # By name alone, by "..", as a place to write in, and in the past.
    black.sh(f"bazil volume unmount v && bazil volume mount v {black.home}/mnt")
    black.sh(f"cd mnt/{name} && test -d {other} && echo new >new && cd {other} && test \"$(stat -c %i ../..)\" = \"$(stat -c %i {black.home}/mnt)\"")
    black.sh("mkdir mnt/.snap/circle && cd mnt/.snap/circle && find . | sort >../../../circle")
    shown = black.sh("cd mnt && find . | sort")
    with open(black.home + "/circle", encoding="utf-8") as f:
        check(f.read() == shown, "the circle looks otherwise in a snapshot")
    check("/one/in" in white.sh("cd mnt/.snap/mine && find up"), "the snapshot before")
    # It cannot go below itself, what is not empty stays, and it can be moved to where it belongs.
    r = black.command(["bash", "-c", f"mv mnt/{name} mnt/{name}/{other}/"])
    check(r.returncode != 0 and "subdirectory of itself" in r.stderr, f"moved below itself: {r.stderr}")
    check(black.command(["rmdir", f"mnt/{name}"]).returncode != 0, "removed though it is not empty")
    sync_all(white, black)
    black.sh(f"mv mnt/{name} mnt/up/{name.split('.')[0]}")
    sync_all(white, black)
    for node in (white, black):
        check(name not in node.sh("ls mnt"), f"{node.name}: what was moved is still in the root")
        check(len(node.sh(f"cd mnt && find up -name new").split()) == 1, f"{node.name}: what was written there")
        check(figures(node, "mnt")[0] == counted(node, "mnt")[0], f"{node.name}: figures when it is over")
    # Empty ones: what the circle goes through holds nothing that is shown, and can be removed and replaced.
    for one, two, remove in (("p", "q", "rmdir {0}"), ("x", "y", "mkdir nothing && mv -T nothing {0} && rmdir {0}")):
        white.sh(f"cd mnt && mkdir {one} {two}")
        sync_all(white, black)
        white.sh(f"mv mnt/{one} mnt/{two}/")
        black.sh(f"mv mnt/{two} mnt/{one}/")
        sync_all(white, black)
        name = siblings(white, one) + siblings(white, two)
        check(len(name) == 1 and siblings(black, one) + siblings(black, two) == name, f"fell: {name}")
        white.sh(f"cd mnt && {remove.format(name[0] + '/' + (two if name[0][0] == one else one))} && ls {name[0]}")
        sync_all(white, black)
        for node in (white, black):
            check(node.sh(f"cd mnt && find {one}* {two}* 2>/dev/null || true").split() == name, f"{node.name}: what is left of the circle")
        black.sh(f"rmdir mnt/{name[0]}")
        sync_all(white, black)
        for node in (white, black):
            check(node.sh(f"cd mnt && find {one}* {two}* 2>/dev/null || true") == "", f"{node.name}: removed, and there")
    say("a circle of directories is shown the same on both, counted once, and can be ended")


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


if __name__ == "__main__":
    harness.run(test)
