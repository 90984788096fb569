#!/usr/bin/env python3
"""`bazil undo` between two daemons: white edits, black pulls and takes it back; black's mount shows it at once, what black
changed since stays and is named, and the undo is an edit like any other: white gets it, and it can be undone.
seed: BAZIL_SEED.
"""
import json
import os
import random

import harness
from harness import check, say


def setup(bench):
    white, black = bench.node("white"), bench.node("black")
    for node in (white, black):
        node.bazil("create")
        node.start()
    w, b = white.bazil("pubkey").strip(), black.bazil("pubkey").strip()
    white.sh("head -c 32 /dev/urandom >key && bazil sharing add friends <key && bazil volume create -sharing=friends v && "
             "mkdir mnt && bazil volume mount v mnt")
    black.sh(f"bazil sharing add friends <{white.home}/key && mkdir mnt")
    for node, name, key in ((white, "black", b), (black, "white", w)):
        node.bazil("peer", "add", "-name=" + name, key)
        node.bazil("peer", "storage", "allow", name, "local")
    white.bazil("peer", "volume", "allow", "black", "v")
    black.bazil("peer", "location", "set", "white", f"127.0.0.1:{white.port}")
    black.bazil("volume", "connect", "-sharing=friends", "white", "v")
    black.bazil("volume", "storage", "add", "-sharing=friends", "v", "peerkey:white")
    black.bazil("peer", "volume", "allow", "white", "v")
    white.bazil("peer", "location", "set", "black", f"127.0.0.1:{black.port}")
    white.bazil("volume", "storage", "add", "-sharing=friends", "v", "peerkey:black")
    black.bazil("volume", "mount", "v", "mnt")
    return white, black


def same(node, tree, what):
    """The mount is as this copy, names, contents, attributes."""
    node.sh(f"diff -r --no-dereference mnt {tree}")
    lines = node.tree("differences", os.path.join(node.home, "mnt"), tree)
    check(lines == [], f"{what}: {lines}")


def keep(node, name):
    """A copy of the mount outside of it."""
    node.sh(f"rm -rf {name}; cp -a mnt {name}")
    return os.path.join(node.home, name)


def edit(node, rng):
    """Some of everything, in files that undoing must bring back."""
    script = ["set -e; cd mnt"]
    names = [f"d{i % 4}/f{i}" for i in range(40)]
    rng.shuffle(names)
    for name in names[:8]:
        script.append(f"echo edited >>{name}")
    for name in names[8:14]:
        script.append(f"rm {name}")
    for name in names[14:20]:
        script.append(f"mv {name} {name}.renamed")
    for name in names[20:24]:
        script.append(f"mv {name} d{rng.randrange(4)}/moved-{os.path.basename(name)}")
    for name in names[24:28]:
        script.append(f"chmod 640 {name}; setfattr -n user.n -v white {name}")
    for name in names[28:31]:
        script.append(f"head -c {rng.randrange(900000)} /dev/urandom >{name}")
    script.append("mkdir new; echo new >new/file; head -c 3000000 /dev/urandom >new/big; chmod 750 .; ln d0/keep new/link; mv d3 d3.moved; rm -r gone; ln -sf other link")
    node.sh("\n".join(script))
    return names


def fill(node):
    node.sh("""
        set -e; cd mnt
        mkdir d0 d1 d2 d3 gone; echo kept >d0/keep; echo kept >d0/both; echo gone >gone/one; mkdir gone/deep; echo gone >gone/deep/two
        for i in $(seq 0 39); do head -c $((i * 977 + 1)) /dev/urandom >d$((i % 4))/f$i; done
        head -c 3000000 /dev/urandom >large; ln -s target link
    """)


def syncs(node):
    return json.loads(node.bazil("volume", "syncs", "-json", "v"))


def test(bench):
    rng = random.Random(harness.seed())
    white, black = setup(bench)
    black.fails("undo", "v", says="sync")
    fill(white)
    black.bazil("volume", "sync", "v", "white")
    first = keep(black, "first")

    # All of it, while files that it brought are open and were read.
    edit(white, rng)
    black.bazil("volume", "sync", "v", "white")
    edited = keep(black, "edited")
    black.sh("test \"$(stat -c %a mnt) $(stat -c %a mnt/.snap)\" = '750 750'")
    black.sh("exec 3<mnt/large 4<mnt/new/big 5<mnt/new/file; cat mnt/d*/* >/dev/null; bazil undo v; test ! -e mnt/new && "
             "cat <&3 >/dev/null && cmp - edited/new/big <&4 && cmp - edited/new/file <&5 && test $(stat -L -c %h /dev/fd/4) = 0")
    same(black, first, "undone")
    check([s["undone"] for s in syncs(black)][:2] == [False, True], f"syncs: {syncs(black)}")
    say("undone, and seen at once")

    # It is an edit like any other.
    white.bazil("volume", "sync", "v", "black")
    same(white, first, "white has the undo")
    r = json.loads(black.bazil("volume", "sync", "-json", "v", "white"))
    same(black, first, f"nothing comes back by itself: {r}")

    # An undo of the undo; of one that is not the last.
    number = [s["number"] for s in syncs(black) if not s["peer"]][0]
    black.bazil("undo", f"-sync={number}", "v")
    same(black, edited, "the undo undone")
    white.bazil("volume", "sync", "v", "black")
    same(white, edited, "white has the undo of the undo")
    say("synced back, undone again")

    # What was changed since stays, also when it is not stored yet; the rest goes back.
    white.sh("cd mnt; for i in 1 2 3 4; do echo white >s$i; done; echo white >d0/both; mkdir sub; echo white >sub/file")
    before = keep(black, "before")
    black.bazil("volume", "sync", "v", "white")
    black.sh("cd mnt; echo black >>s2; echo black >>d0/both; chmod 600 s3")
    r = black.bazil("undo", "v", ok=False)
    told = r.stdout + r.stderr
    check(r.returncode == 0 and all(f"mnt/{name}" in told for name in ("s2", "d0/both")), f"undo: {r.returncode} {told}")
    check("mnt/s1" not in told and "sub" not in told, f"what went is not named: {told}")
    black.sh("cd mnt; test ! -e s1 && test ! -e s4 && test ! -e sub && test \"$(cat s2)\" = 'white\nblack' && "
             "test \"$(tail -1 d0/both)\" = black && test $(stat -c %a s3) = 600")
    black.sh(f"mv mnt/s2 mnt/s3 .; cp -a before/d0/both mnt/d0/both")
    same(black, before, "the rest is as before")
    say("what was changed since stays and is named")

    # Workers die between: the answer still comes, and what it says is true.
    white.bazil("volume", "sync", "v", "black")
    white.sh("cd mnt; rm -r d1; echo again >d0/again")
    black.bazil("volume", "sync", "v", "white")
    black.kill("mountd")
    black.bazil("undo", "v")
    black.sh("test -e mnt/d1 && test ! -e mnt/d0/again")
    same(black, before, "undone with a mountd that was killed")
    black.stop()
    black.start()
    black.bazil("volume", "mount", "v", "mnt")
    same(black, before, "after a restart")


harness.run(test)
