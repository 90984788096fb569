#!/usr/bin/env python3
"""Trees of files for tests, run as the user who may look into the mount: not even root may.

usage: tree.py count DIR | list DIR | differences DIR DIR      the answer is JSON
"""
import json
import os
import stat
import sys


def describe(root):
    """path -> everything that must survive a sync: type, mode, size, mtime in ns, link target, xattrs, nlink of files."""
    found = {}
    for base, dirs, files in os.walk(root):
        for name in dirs + files:
            path = os.path.join(base, name)
            st = os.lstat(path)
            kind = stat.S_IFMT(st.st_mode)
            entry = [oct(st.st_mode)]
            if not stat.S_ISLNK(kind):
                entry.append(st.st_mtime_ns)
            if stat.S_ISREG(kind):
                entry += [st.st_size, st.st_nlink]
            if stat.S_ISLNK(kind):
                entry.append(os.readlink(path))
            names = sorted(n for n in os.listxattr(path, follow_symlinks=False) if n.startswith("user."))
            entry.append([(n, os.getxattr(path, n, follow_symlinks=False)) for n in names])
            found[os.path.relpath(path, root)] = entry
    return found


def differences(a, b, most=10):
    """What differs between two trees besides contents, as lines."""
    da, db = describe(a), describe(b)
    lines = []
    for path in sorted(set(da) | set(db)):
        if da.get(path) != db.get(path):
            lines.append(f"{path!r}: {da.get(path)} / {db.get(path)}")
    return lines[:most]


def count(root):
    num, size = 0, 0
    for base, _, files in os.walk(root):
        for name in files:
            st = os.lstat(os.path.join(base, name))
            num += 1
            size += st.st_size if stat.S_ISREG(st.st_mode) else 0
    return num, size


def listing(root):
    """Regular files and folders below root."""
    files, dirs = [], []
    for base, ds, fs in os.walk(root):
        dirs += [os.path.join(base, d) for d in ds if not os.path.islink(os.path.join(base, d))]
        files += [os.path.join(base, f) for f in fs if not os.path.islink(os.path.join(base, f))]
    return sorted(files), sorted(dirs)


if __name__ == "__main__":
    print(json.dumps({"count": count, "list": listing, "differences": differences}[sys.argv[1]](*sys.argv[2:])))
