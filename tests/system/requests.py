#!/usr/bin/env python3
"""What usual work costs in requests of the kernel, whose number is most of its time: what was listed, read or looked up once is
answered by the kernel's caches; and what mountd asks for it.

usage: requests.py BINDIR
"""
import os

import harness
from harness import check

DIRS, FILES, LARGE = 20, 30, 2000


def counter(node, name, worker="mountd"):
    return next(c["value"] for c in node.status()["counters"] if c["worker"] == worker and c["name"] == name)


def search(top):
    """As grep -r does it: list, look at each file, read it."""
    for path, _, names in os.walk(top):
        for name in names:
            fd = os.open(os.path.join(path, name), os.O_RDONLY)
            os.fstat(fd)
            os.read(fd, 1 << 15)
            os.close(fd)


def cost(node, work, name="requests", worker="mountd"):
    before = counter(node, name, worker)
    work()
    return counter(node, name, worker) - before


def looked_at_by_name(node):
    """As rsync does it with what it has sent before: a look at each name, without a listing."""
    large = os.path.join(node.home, "mnt", "large")
    names = [str(n) for n in range(LARGE)]
    os.mkdir(large)
    for name in names:
        with open(os.path.join(large, name), "wb"):
            pass
    os.mkdir(os.path.join(large, "dir"))
    for order in (names, names[::-1], sorted(names, key=lambda name: name[::-1])):
        node.bazil("volume", "unmount", "v")
        node.sh("bazil volume mount v mnt")
        asked = cost(node, lambda: [os.stat(os.path.join(large, name)) for name in order], "reads", "stored")
        print(f"{LARGE} names of a directory looked at: {asked} questions to stored", flush=True)
        check(asked < LARGE / 4, "each name of a directory that is looked at is a question")
        check(not os.path.exists(os.path.join(large, "none")), "a name that is not there is found")
        check(sorted(os.listdir(large)) == sorted(names + ["dir"]), "the listing is not whole")


def test(bench):
    node = bench.node("node", user=harness.User())
    node.bazil("create")
    node.start()
    node.bazil("volume", "create", "v")
    node.sh("mkdir mnt && bazil volume mount v mnt && mkdir mnt/tree")
    node.sh(f"for d in $(seq {DIRS}); do mkdir mnt/tree/$d; for f in $(seq {FILES}); do echo $d $f >mnt/tree/$d/$f; done; done")
    node.sh(f"mkdir mnt/chunks; for d in 1 2 3; do mkdir mnt/chunks/$d; for f in $(seq {FILES}); do head -c 6000 /dev/urandom >mnt/chunks/$d/$f; done; done")
    node.bazil("volume", "unmount", "v")
    node.sh("bazil volume mount v mnt")
    keys = cost(node, lambda: search(os.path.join(node.home, "mnt", "chunks")), "key_calls")
    print(f"3 directories of {FILES} files of a chunk searched: {keys} questions for keys", flush=True)
    check(0 < keys <= 6, "keys and places of the files of a directory are asked for together")
    tree = os.path.join(node.home, "mnt", "tree")
    first, second, third = (cost(node, lambda: search(tree)) for _ in range(3))
    print(f"{DIRS} directories of {FILES} files searched: {first} requests, again {second}, again {third}", flush=True)
    check(first >= DIRS * FILES, "each file is read once")
    check(second < DIRS * FILES / 2, "the second search asks by listings, not for each file")
    check(third <= second, "the third search asks no more than the second")
    with open(os.path.join(tree, "1", "1"), "a", encoding="ascii") as f:
        f.write("more\n")
    with open(os.path.join(tree, "1", "1"), encoding="ascii") as f:
        check(f.read() == "1 1\nmore\n", "what was appended is read")
    check(sorted(os.listdir(os.path.join(tree, "1")), key=int) == [str(n + 1) for n in range(FILES)], "a listing is whole")
    looked_at_by_name(node)
    node.bazil("volume", "unmount", "v")
    node.stop()


harness.run(test)
