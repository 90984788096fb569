#!/usr/bin/env python3
"""The walkthrough, word for word, and on: a real tree is copied, synced, changed on both sides and compared.

usage: walkthrough.py BINDIR [--hosts]     --hosts: the two nodes in two network namespaces (root)

An ordinary user runs two data directories. The commands are those that the project was announced with; only the path
of the other data directory and the address are filled in.
"""
import os
import random
import sys

import harness
import secrecy
import tree
from harness import check, say

TREES = ["/usr/include", "/usr/share/doc", "/usr/share/man", "/usr/share/perl", "/usr/lib/python3", "/usr/lib/gcc",
         "/usr/share/cmake-3.25"]


def announce(white, black, address):
    """The walkthrough's commands."""
    white.sh("bazil create")
    black.sh("bazil create")
    # The key is printed whether or not the server runs.
    w = white.sh("bazil debug pubkey").strip()
    b = black.sh("bazil debug pubkey").strip()
    check(len(w) == 64 and int(w, 16) >= 0 and w != b, f"public keys: {w!r} {b!r}")
    pair = (f'BLACK="$(bazil -data-dir={black.data_dir} debug pubkey)"; '
            f'WHITE="$(bazil -data-dir={white.data_dir} debug pubkey)"; ')
    white.start()
    black.start()
    check(white.sh("bazil debug pubkey").strip() == w, "the key is another with the server up")
    if white.netns is None:
        check(white.port != black.port, "two servers on one port")
    white.sh("dd if=/dev/urandom of=sekrit bs=32 count=1")
    white.sh("bazil sharing add friends <sekrit")
    white.sh("bazil volume create -sharing=friends myfiles")
    white.sh("mkdir mnt")
    white.sh("bazil volume mount myfiles mnt")
    white.sh(pair + "bazil peer add $BLACK")
    white.sh(pair + "bazil peer storage allow $BLACK local")
    white.sh(pair + "bazil peer volume allow $BLACK myfiles")
    black.sh(pair + "bazil peer add $WHITE")
    black.sh(pair + f"bazil peer location set $WHITE {address}:{white.port}")
    black.sh(f"cp {white.home}/sekrit sekrit")
    black.sh("bazil sharing add friends <sekrit")
    black.sh(pair + "bazil volume connect -sharing=friends $WHITE myfiles")
    black.sh(pair + "bazil volume storage add -sharing=friends myfiles peerkey:$WHITE")
    black.sh("mkdir mnt")
    black.sh("bazil volume mount myfiles mnt")
    white.sh("echo hello, world >mnt/greeting")
    black.sh(pair + "bazil volume sync myfiles $WHITE")
    check(black.sh("ls mnt") == "greeting\n", "black does not see the greeting")
    check(black.sh("cat mnt/greeting") == "hello, world\n", "the greeting differs")
    white.sh("echo hello, again >mnt/greeting")
    black.sh(pair + "bazil volume sync myfiles $WHITE")
    check(black.sh("cat mnt/greeting") == "hello, again\n", "the second greeting differs")
    return w, b


def back_way(white, black, w, b, address):
    """What the other direction needs: white pulls from black."""
    black.bazil("peer", "storage", "allow", w, "local")
    black.bazil("peer", "volume", "allow", w, "myfiles")
    white.bazil("peer", "location", "set", b, f"{address}:{black.port}")
    white.bazil("volume", "storage", "add", "-sharing=friends", "myfiles", f"peerkey:{b}")


def choose_trees():
    """Real trees of this machine until there are 10,000 files and 200 MB; two at least, as each side edits its own."""
    chosen, num, size = [], 0, 0
    for path in TREES:
        if len(chosen) >= 2 and num >= 10000 and size >= 200e6:
            break
        if os.path.isdir(path):
            n, s = tree.count(path)
            chosen.append(path)
            num, size = num + n, size + s
    return chosen, num, size


def make_extras(node, where):
    """What the machine's trees lack: xattrs, hard links, holes, odd names, odd times, and bulk that has 200 MB."""
    node.sh(f"""
        set -e
        mkdir {where} && cd {where}
        echo linked >one && ln one two
        echo tagged >tagged && setfattr -n user.colour -v deep-blue-marker tagged
        mkdir tagged.d && setfattr -n user.kind -v directory tagged.d
        truncate -s 300M sparse && printf tail-of-the-sparse-file >>sparse
        printf '' >empty
        mkdir empty.d
        touch -d '1999-12-31 23:59:59.123456789' old
        printf 'x' >"$(printf 'name\\001with\\nnewline')"
        printf 'y' >"$(printf 'latin1-\\351')"
        echo z >"$(head -c 250 /dev/zero | tr '\\0' n)"
        ln -s "$(head -c 900 /dev/zero | tr '\\0' t)" longlink
        ln -s ../nowhere dangling
        chmod 4711 two; chmod 400 empty; chmod 1777 empty.d
        seq 1 4000000 >numbers
        mkdir ../../plain && cp -a tagged one old numbers ../../plain/
    """)


def compare(white, black, what):
    a, b = os.path.join(white.home, "mnt"), os.path.join(black.home, "mnt")
    r = black.command(["diff", "-r", "--no-dereference", a, b], timeout=1200)
    check(r.returncode == 0, f"{what}: diff: {r.stdout[:2000]}{r.stderr[:2000]}")
    lines = black.tree("differences", a, b)
    check(not lines, f"{what}: " + "\n".join(lines))


def edit(rng, node, root, part):
    """Random edits, renames, moves between directories and deletions in one part of the tree."""
    base = os.path.join(node.home, "mnt", root)
    files, dirs = node.tree("list", base)
    rng.shuffle(files)
    rng.shuffle(dirs)
    script = ["set -e"]

    def q(path):
        return "'" + path.replace("'", "'\\''") + "'"
    for path in files[:40]:
        script.append(f"chmod u+w {q(path)}; echo edited by {node.name} >>{q(path)}")
    for path in files[40:60]:
        script.append(f"rm -f {q(path)}")
    for path in files[60:80]:
        script.append(f"mv {q(path)} {q(path + '.renamed-' + part)}")
    for path in files[80:100]:
        script.append(f"mv {q(path)} {q(os.path.join(base, 'moved-' + part + '-' + os.path.basename(path)))}")
    for path in files[100:110]:
        script.append(f"chmod u+w {q(path)}; printf XX | dd of={q(path)} bs=1 seek=3 conv=notrunc status=none")
    for path in files[110:120]:
        script.append(f"touch -d '2001-02-03 04:05:06.789' {q(path)}; chmod 640 {q(path)}")
    if dirs:
        script.append(f"mv {q(dirs[0])} {q(os.path.join(base, 'tree-of-' + part))}")
    script.append(f"mkdir {q(os.path.join(base, 'new-' + part))}")
    script.append(f"seq 1 20000 >{q(os.path.join(base, 'new-' + part, 'numbers'))}")
    node.sh("\n".join(script))


def both_ways(white, black, w, b):
    black.bazil("volume", "sync", "myfiles", w, timeout=900)
    white.bazil("volume", "sync", "myfiles", b, timeout=900)
    black.bazil("volume", "sync", "myfiles", w, timeout=900)


def test(bench):
    rng = random.Random(harness.seed())
    hosts = "--hosts" in sys.argv
    if hosts:
        harness.need_root()
    net = bench.two_hosts() if hosts else (None, None)
    addr_w, addr_b = ("192.0.2.42", "192.0.2.43") if hosts else ("127.0.0.1", "127.0.0.1")
    white, black = bench.node("white", netns=net[0]), bench.node("black", netns=net[1])
    capture = secrecy.Capture(bench, net[0]) if os.getuid() == 0 else None

    w, b = announce(white, black, addr_w)
    back_way(white, black, w, b, addr_b)

    chosen, num, size = choose_trees()
    say(f"tree: {' '.join(chosen)}: {num} files, {size / 1e6:.0f} MB")
    for path in chosen:
        # An ordinary user cannot give files away, nor read the few that are root's alone; all else must be copied.
        r = white.sh(f"cp -a {path} mnt/ 2>&1 || true", timeout=900)
        bad = [line for line in r.splitlines() if "preserve ownership" not in line and "Permission denied" not in line]
        check(not bad, f"cp -a {path}: {bad[:10]}")
    make_extras(white, "mnt/extras")
    n, s = white.tree("count", os.path.join(white.home, "mnt"))
    check(n >= 10000 and s >= 200e6, f"only {n} files, {s} bytes in the mount")
    say("copied")
    black.bazil("volume", "sync", "myfiles", w, timeout=900)
    say("synced")
    compare(white, black, "after the first sync")
    say("first sync compared")

    if os.getuid() == 0:
        secrecy.check_secrets(bench, white, black, chosen, capture)
        say("nothing readable outside the mounts")

    parts = sorted(os.path.basename(p) for p in chosen)
    edit(rng, white, parts[0], "white")
    both_ways(white, black, w, b)
    compare(white, black, "after white's edits")
    say("edits of one side compared")
    edit(rng, black, parts[-1], "black")
    both_ways(white, black, w, b)
    compare(white, black, "after black's edits")
    # Both at once, in different places: nothing conflicts, everything meets.
    edit(rng, white, parts[0], "white2")
    edit(rng, black, parts[-1], "black2")
    both_ways(white, black, w, b)
    compare(white, black, "after edits on both sides")
    r = black.bazil("volume", "sync", "myfiles", w, "-json")
    check('"records": 0' in r, f"a sync with nothing new moved records: {r}")
    for node in (white, black):
        node.bazil("volume", "unmount", "myfiles")
        node.bazil("volume", "mount", "myfiles", os.path.join(node.home, "mnt"))
    compare(white, black, "after a remount")
    white.stop()
    black.stop()
    check(not harness.mounts_below(bench.dir), "a clean shutdown left mounts")
    check(not os.path.exists(os.path.join(white.data_dir, "ctl.sock")), "a clean shutdown left the socket")


harness.run(test)
