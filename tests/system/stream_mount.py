#!/usr/bin/env python3
"""Long files stored while they are written (mountd/stream.h): overwritten, cut, and holed behind the writer, copied, two at a time,
with mountd and stored killed in between. The mount must say the same as a native file, at once and after a new mount.

usage: stream_mount.py BINDIR
"""
import os
import random

import harness
from harness import check

MIB = 1 << 20


def write_both(rng, paths, num, after):
    """Streams into the files of both sides; after(i) between two writes."""
    files = [(os.open(a, os.O_RDWR | os.O_CREAT), os.open(b, os.O_RDWR | os.O_CREAT)) for a, b in paths]
    sizes = [0] * len(files)
    for i in range(num):
        which = rng.randrange(len(files))
        pair = files[which]
        data = rng.randbytes(rng.randrange(1, 2 * MIB)) if rng.random() < 0.8 else bytes(rng.randrange(1, 2 * MIB))
        for fd in pair:
            os.pwrite(fd, data, sizes[which])
        sizes[which] += len(data)
        what = rng.random()
        near = max(0, sizes[which] - rng.randrange(1, 24 * MIB))
        small = rng.randbytes(rng.randrange(1, 20000))
        if what < 0.25:
            for fd in pair:
                os.pwrite(fd, small, near)
            sizes[which] = max(sizes[which], near + len(small))
        elif what < 0.3:
            for fd in pair:
                os.ftruncate(fd, near)
            sizes[which] = near
        elif what < 0.35:
            for fd in pair:
                os.ftruncate(fd, near)
                os.ftruncate(fd, sizes[which])
        elif what < 0.4:
            os.fsync(pair[0])
        elif what < 0.6:
            check(os.pread(pair[0], 3 * MIB, near) == os.pread(pair[1], 3 * MIB, near), f"what is read back differs near {near}")
        after(i)
    for pair in files:
        for fd in pair:
            os.close(fd)


def same(a, b):
    with open(a, "rb") as f, open(b, "rb") as g:
        check(os.fstat(f.fileno()).st_size == os.fstat(g.fileno()).st_size, f"the sizes of {a} differ")
        while True:
            x, y = f.read(4 * MIB), g.read(4 * MIB)
            check(x == y, f"{a} differs before {f.tell()}")
            if not x:
                return


def test(bench):
    rng = random.Random(harness.seed())
    node = bench.mounted("node", user=harness.User())
    node.sh("mkdir native")
    for round_no, victims in enumerate(((), ("mountd",), ("stored",), ("mountd", "stored"))):
        paths = [(os.path.join(node.home, "mnt", f"{round_no}-{i}"), os.path.join(node.home, "native", f"{round_no}-{i}"))
                 for i in range(2)]
        deaths = dict(zip(rng.sample(range(20, 110), len(victims)), victims))
        write_both(rng, paths, 120, lambda i, d=deaths: i in d and node.kill(d[i]))
        for a, b in paths:
            same(a, b)
        node.bazil("volume", "unmount", "v")
        node.sh("bazil volume mount v mnt")
        for a, b in paths:
            same(a, b)
            os.unlink(a)
            os.unlink(b)
    # Removed while it streams: nothing of it comes back, nothing stays behind.
    with open(os.path.join(node.home, "mnt", "gone"), "wb") as f:
        f.write(rng.randbytes(30 * MIB))
        os.unlink(f.name)
        f.write(rng.randbytes(30 * MIB))
    check(os.listdir(os.path.join(node.home, "mnt")) == [], "the volume is empty")
    node.bazil("volume", "unmount", "v")
    node.stop()


harness.run(test)
