#!/usr/bin/env python3
"""A conformance suite for POSIX file systems, and for what Linux programs rely on besides.

usage: posix.py DIR [-k PATTERN] [-l] [-v]

Runs many small cases, each in a directory of its own below DIR. Run it on a native file system to check the suite,
on a mount to check the mount; as root also owners, devices and the rights of others are checked. Prints each case that
fails. Exit status 1 if any did.
"""
import argparse
import fnmatch
import os
import shutil
import signal
import stat
import sys
import time
import traceback

import posix_case
import posix_data  # noqa: F401, registers its cases
import posix_fsx  # noqa: F401
import posix_meta  # noqa: F401
import posix_names  # noqa: F401

SECONDS = 120  # of one case

# What a FUSE file system cannot do, whatever its server does: the kernel answers before it is asked.
FUSE_DIFFERS = {
    "fallocate_collapse_and_insert_range": "fs/fuse/file.c: fuse_file_fallocate() refuses all modes but three",
    "reading_updates_atime": "fs/fuse/inode.c: S_NOATIME on every inode",
}


def file_system(path):
    """Type of the file system that path is on."""
    path = os.path.realpath(path)
    best = ("", "")
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as f:
        for line in f:
            words = line.split()
            point = words[4].replace("\\040", " ")
            if (path + "/").startswith(point.rstrip("/") + "/") and len(point) >= len(best[0]):
                best = (point, words[words.index("-") + 1])
    return best[1]


def remove(path):
    """rmtree, also of directories that the case closed."""
    for base, dirs, _ in os.walk(path):
        for name in dirs:
            full = os.path.join(base, name)
            if not os.path.islink(full):
                os.chmod(full, 0o700)
    shutil.rmtree(path)


def run_case(function, top):
    """'' or what went wrong."""
    place = os.path.join(top, function.__name__)
    os.mkdir(place)
    os.chmod(place, 0o755)
    os.chdir(place)
    os.umask(0o022)
    signal.alarm(SECONDS)
    try:
        function()
        return ""
    except posix_case.Wrong as e:
        at = [t for t in traceback.extract_tb(e.__traceback__) if "posix_case" not in t.filename][-1]
        return f"{e} ({os.path.basename(at.filename)}:{at.lineno})"
    except (posix_case.NotHere, posix_case.NeedsRoot):
        raise
    except Exception:
        return traceback.format_exc()
    finally:
        signal.alarm(0)
        os.chdir(top)


def too_long(*_):
    raise posix_case.Wrong(f"took longer than {SECONDS} s")


def chosen(pattern):
    for function in posix_case.cases:
        if not pattern or pattern in function.__name__ or fnmatch.fnmatch(function.__name__, pattern):
            yield function


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("dir")
    parser.add_argument("-k", metavar="PATTERN", help="only cases whose name contains or matches it")
    parser.add_argument("-l", action="store_true", help="list them")
    parser.add_argument("-v", action="store_true", help="tell each")
    args = parser.parse_args()
    if args.l:
        for function in chosen(args.k):
            print(function.__name__)
        return 0
    differs = FUSE_DIFFERS if file_system(args.dir).startswith("fuse") else {}
    top = os.path.join(os.path.abspath(args.dir), f"posix-{os.getpid()}")
    os.mkdir(top)
    os.chmod(top, 0o755)
    signal.signal(signal.SIGALRM, too_long)
    num = {"passed": 0, "failed": 0, "differing": 0, "not here": 0, "for root only": 0}
    for function in chosen(args.k):
        name, start = function.__name__, time.monotonic()
        try:
            wrong = run_case(function, top)
            if wrong and name in differs:
                print(f"differs: {name}: {differs[name]}")
                num["differing"] += 1
            else:
                num["failed" if wrong else "passed"] += 1
            if wrong and name not in differs:
                print(f"FAILED {name}: {wrong}")
        except posix_case.NotHere as e:
            print(f"not here: {name}: {e}")
            num["not here"] += 1
        except posix_case.NeedsRoot:
            num["for root only"] += 1
        try:
            remove(os.path.join(top, name))
        except OSError as e:
            print(f"FAILED {name}: what it left cannot be removed: {e}")
            num["failed"] += 1
        if args.v:
            print(f"{time.monotonic() - start:7.2f} s {name}", flush=True)
    os.chdir("/")
    remove(top)
    print(", ".join(f"{n} {what}" for what, n in num.items() if n or what == "failed"))
    return 1 if num["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
