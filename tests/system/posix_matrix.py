#!/usr/bin/env python3
"""Thousands of single calls, each on a native file system and on a mount: the outcomes must be the same.

usage: posix_matrix.py NATIVE DIR [-k PATTERN] [-v]

NATIVE and DIR are directories; a native file system (ext4) tells what is right in DIR. Every call is made in a
directory of its own that holds just what the call needs. The outcome is the errno or the answer, and what can be
seen afterwards: kinds, modes, owners, link counts, sizes, which times moved. As root also as other users, by their
effective ids. Prints what differs. Exit status 1 if anything did.
"""
import argparse
import errno
import fcntl
import fnmatch
import itertools
import mmap
import os
import socket
import stat
import struct
import sys
import time

import posix_case
from posix_case import AT_SYMLINK_NOFOLLOW, EXCHANGE, NOREPLACE, UTIME_NOW, UTIME_OMIT, is_root

OWNER, MEMBER, OTHER = 12345, 12346, 12347  # uids and gids; MEMBER is also in group GROUP
GROUP = 22222
PEOPLE = {"root": (0, 0, []), "owner": (OWNER, OWNER, [GROUP]), "member": (MEMBER, MEMBER, [GROUP]), "other": (OTHER, OTHER, [])}
KINDS_OF = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket",
            stat.S_IFCHR: "char", stat.S_IFBLK: "block"}

# What a mount cannot do as ext4 does, with the reason. Patterns of checks.
DIFFERS = {
    # Set-group-id without group-execute, which means nothing, goes with a change by somebody who is not in the file's group.
    "set_id * by owner on file [2367][67]66 of group 22222": "the kernel tells only the first of the caller's groups",
    "set_id * by member on file [2367][67]66 of group 22222": "the same",
    "fd lseek_end * full_dir": "offsets in a directory are each file system's own",
    "fd seek_* full_dir": "the same",
    # Neither is there an error for a stranger's chown(-1, -1) of a set-id file, nor do the bits go.
    "rights *chown_same by * on 6755 of *": "the kernel sends the same before a stranger's write",
    "set_id *chown_same by member on file [2467]*": "the same",
    "set_id *chown_same by other on file [2467]*": "the same",
}


def become(who):
    """Root turns into one of PEOPLE, by effective ids."""
    if not is_root() and os.getuid() != 0:
        return
    uid, gid, groups = PEOPLE[who]
    os.seteuid(0)
    os.setegid(0)
    os.setgroups(groups)
    os.setegid(gid)
    os.seteuid(uid)


def outcome(function, *args):
    try:
        result = function(*args)
    except OSError as e:
        return errno.errorcode.get(e.errno, str(e.errno))
    return "ok" if result is None else f"ok {result}"


def seen(path):
    """What lstat shows, but for what no two file systems have in common."""
    try:
        st = os.lstat(path)
    except OSError as e:
        return errno.errorcode[e.errno]
    kind = KINDS_OF[stat.S_IFMT(st.st_mode)]
    size = f" {st.st_size}" if kind in ("file", "symlink") else ""
    return f"{kind} {stat.S_IMODE(st.st_mode):o} {st.st_uid}:{st.st_gid} n{st.st_nlink}{size}"


def tree(top="."):
    """Everything below the working directory, as seen() tells it."""
    found = []
    for base, dirs, files in os.walk(top):
        for name in dirs + files:
            path = os.path.join(base, name)
            short = path[2:] if len(path) < 100 else f"{path[2:22]}..{len(path)}"
            found.append(f"{short}={seen(path)}")
    return ",".join(sorted(found))


def make(path, data=b"data", mode=0o644):
    posix_case.write(path, data)
    os.chmod(path, mode)


# --- one call each ---

def opened(flags, mode=0o666):
    def call(path):
        os.close(os.open(path, flags | os.O_NONBLOCK, mode))
    return call


def bound(path):
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(path)


def listed(path):
    return sorted(os.listdir(path))


def went(path):
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(path)
    finally:
        os.fchdir(here)
        os.close(here)


def utime(path, atime, mtime, flags=0):
    posix_case.utimensat(path, atime, mtime, flags)


CALLS = {
    "stat": lambda p: stat.S_IFMT(os.stat(p).st_mode), "lstat": lambda p: stat.S_IFMT(os.lstat(p).st_mode), "readlink": os.readlink,
    "read": opened(os.O_RDONLY), "write": opened(os.O_WRONLY), "rdwr": opened(os.O_RDWR), "append": opened(os.O_WRONLY | os.O_APPEND),
    "creat": opened(os.O_WRONLY | os.O_CREAT), "excl": opened(os.O_RDWR | os.O_CREAT | os.O_EXCL),
    "trunc": opened(os.O_WRONLY | os.O_TRUNC), "trunc_read": opened(os.O_RDONLY | os.O_TRUNC), "creat_dir": opened(os.O_CREAT | os.O_DIRECTORY),
    "open_dir": opened(os.O_DIRECTORY), "nofollow": opened(os.O_NOFOLLOW), "o_path": opened(os.O_PATH),
    "path_nofollow": opened(os.O_PATH | os.O_NOFOLLOW), "noatime": opened(os.O_NOATIME), "tmpfile": opened(os.O_TMPFILE | os.O_RDWR),
    "tmpfile_read": opened(os.O_TMPFILE), "creat_nofollow": opened(os.O_CREAT | os.O_NOFOLLOW | os.O_RDWR),
    "mkdir": os.mkdir, "rmdir": os.rmdir, "unlink": os.unlink, "mkfifo": os.mkfifo, "mknod": lambda p: os.mknod(p, 0o640 | stat.S_IFREG),
    "mknod_socket": lambda p: os.mknod(p, 0o640 | stat.S_IFSOCK), "mknod_char": lambda p: os.mknod(p, 0o640 | stat.S_IFCHR, os.makedev(1, 3)),
    "mknod_block": lambda p: os.mknod(p, 0o640 | stat.S_IFBLK, os.makedev(7, 300)), "mknod_dir": lambda p: os.mknod(p, 0o640 | stat.S_IFDIR),
    "bind": bound, "symlink": lambda p: os.symlink("to", p), "chmod": lambda p: os.chmod(p, 0o640), "chmod_bits": lambda p: os.chmod(p, 0o7711),
    "chown_same": lambda p: os.chown(p, -1, -1), "lchown_same": lambda p: os.lchown(p, -1, -1), "chown_me": lambda p: os.chown(p, os.geteuid(), -1),
    "lchown_me": lambda p: os.lchown(p, os.geteuid(), os.getegid()), "chown_other": lambda p: os.chown(p, OTHER, -1),
    "chgrp_group": lambda p: os.chown(p, -1, GROUP), "chgrp_other": lambda p: os.chown(p, -1, OTHER),
    "truncate": lambda p: os.truncate(p, 2), "truncate_more": lambda p: os.truncate(p, 9000), "truncate_negative": lambda p: posix_case.truncate(p, -1),
    "utime_now": lambda p: utime(p, (0, UTIME_NOW), (0, UTIME_NOW)), "utime_set": lambda p: utime(p, (5, 6), (7, 8)),
    "utime_omit": lambda p: utime(p, (0, UTIME_OMIT), (0, UTIME_OMIT)), "utime_mixed": lambda p: utime(p, (0, UTIME_NOW), (0, UTIME_OMIT)),
    "utime_half": lambda p: utime(p, (0, UTIME_OMIT), (7, 8)), "utime_bad": lambda p: utime(p, (0, 10**9), (0, 0)),
    "lutime_set": lambda p: utime(p, (5, 6), (7, 8), AT_SYMLINK_NOFOLLOW), "lutime_now": lambda p: utime(p, (0, UTIME_NOW), (0, UTIME_NOW), AT_SYMLINK_NOFOLLOW),
    "access_f": lambda p: os.access(p, os.F_OK, effective_ids=True), "access_r": lambda p: os.access(p, os.R_OK, effective_ids=True),
    "access_w": lambda p: os.access(p, os.W_OK, effective_ids=True), "access_x": lambda p: os.access(p, os.X_OK, effective_ids=True),
    "setxattr": lambda p: os.setxattr(p, "user.a", b"1"), "lsetxattr": lambda p: os.setxattr(p, "user.a", b"1", follow_symlinks=False),
    "getxattr": lambda p: os.getxattr(p, "user.b"), "lgetxattr": lambda p: os.getxattr(p, "user.b", follow_symlinks=False),
    "removexattr": lambda p: os.removexattr(p, "user.b"), "trusted": lambda p: os.setxattr(p, "trusted.a", b"1"),
    "security": lambda p: os.setxattr(p, "security.a", b"1"), "system": lambda p: os.setxattr(p, "system.a", b"1"),
    "nospace": lambda p: os.setxattr(p, "nospace", b"1"), "acl_plain": lambda p: os.setxattr(p, "system.posix_acl_access", acl(6, 4, 0)),
    "acl": lambda p: os.setxattr(p, "system.posix_acl_access", acl(6, 4, 0, OTHER)), "acl_bad": lambda p: os.setxattr(p, "system.posix_acl_access", b"123"),
    "acl_default": lambda p: os.setxattr(p, "system.posix_acl_default", acl(6, 4, 0, OTHER)),
    "acl_get": lambda p: os.getxattr(p, "system.posix_acl_access").hex(), "acl_remove": lambda p: os.removexattr(p, "system.posix_acl_access"),
    "acl_default_remove": lambda p: os.removexattr(p, "system.posix_acl_default"),
    "listdir": listed, "chdir": went, "statvfs": lambda p: os.statvfs(p).f_namemax,
    "link_away": lambda p: os.link(p, "new", follow_symlinks=False), "link_followed": lambda p: os.link(p, "new", follow_symlinks=True),
    "rename_away": lambda p: os.rename(p, "new"),
}


def acl(owner, group, others, named=None):
    def entry(tag, bits, number=0xffffffff):
        return struct.pack("<HHI", tag, bits, number)
    middle = entry(2, 6, named) + entry(4, group) + entry(16, 6) if named is not None else entry(4, group)
    return struct.pack("<I", 2) + entry(1, owner) + middle + entry(32, others)


# --- kinds of paths: each makes what it needs, its names end in x, and returns the path ---

def kind_symlink(to, slash="", make_it=None):
    def build(x):
        if make_it:
            make_it(to + x)
        os.symlink(to + x, "s" + x)
        return "s" + x + slash
    return build


def made(maker, name, rest=""):
    def build(x):
        maker(name + x)
        return name + x + rest
    return build


def full_dir(path):
    os.mkdir(path)
    make(path + "/in")


def two_names(path):
    make(path)
    os.link(path, path + "2")


def with_xattr(path):
    make(path)
    os.setxattr(path, "user.b", b"value")


def loop(path):
    os.symlink(path + "b", path)
    os.symlink(path, path + "b")


def long_path(length):
    def build(x):
        make("f" + x)
        name = "f" + x
        return "./" * ((length - len(name)) // 2) + "/" * ((length - len(name)) % 2) + name
    return build


PATHS = {
    "missing": lambda x: "n" + x, "missing_slash": lambda x: "n" + x + "/", "below_missing": lambda x: f"n{x}/n",
    "file": made(make, "f"), "file_slash": made(make, "f", "/"), "below_file": made(make, "f", "/n"), "file_dot": made(make, "f", "/."),
    "two_names": made(two_names, "h"), "xattr": made(with_xattr, "a"), "dir": made(os.mkdir, "d"), "dir_slash": made(os.mkdir, "d", "/"),
    "dir_dot": made(os.mkdir, "d", "/."), "dir_dotdot": made(os.mkdir, "d", "/.."), "below_dir": made(os.mkdir, "d", "/n"),
    "full_dir": made(full_dir, "D"), "in_full_dir": made(full_dir, "D", "/in"), "fifo": made(os.mkfifo, "p"), "socket": made(bound, "u"),
    "to_file": kind_symlink("f", make_it=make), "to_file_slash": kind_symlink("f", "/", make), "to_dir": kind_symlink("d", make_it=os.mkdir),
    "to_dir_slash": kind_symlink("d", "/", os.mkdir), "below_to_dir": kind_symlink("d", "/n", os.mkdir), "dangling": kind_symlink("n"),
    "dangling_slash": kind_symlink("n", "/"), "loop": made(loop, "l"), "below_loop": made(loop, "l", "/n"), "dot": lambda x: ".", "dotdot": lambda x: "..",
    "empty": lambda x: "", "name_255": lambda x: x * 255, "made_255": lambda x: made(make, x * 254)(x), "name_256": lambda x: x * 256, "dir_256": lambda x: x * 256 + "/n",
    "path_4095": long_path(4095), "path_4096": long_path(4096), "bytes": lambda x: "\udcff\udcfe" + x, "newline": made(make, "a\nb"),
}


def clear(path):
    """Removes what a check left, whatever its mode became."""
    os.chmod(path, 0o700)
    with os.scandir(path) as entries:
        found = list(entries)
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            clear(entry.path)
        else:
            os.unlink(entry.path)
    os.rmdir(path)


def in_removed(path):
    """The working directory is gone."""
    def build(x):
        os.mkdir("gone")
        os.chdir("gone")
        os.rmdir("../gone")
        return path
    return build


PATHS.update({"removed_missing": in_removed("n"), "removed_dot": in_removed("."), "removed_dotdot": in_removed("..")})


class Table:
    """Checks that run in a directory; found: what each came to."""

    def __init__(self, top, pattern):
        self.top, self.pattern, self.found = top, pattern, {}
        self.num = 0

    def wants(self, name):
        return not self.pattern or fnmatch.fnmatch(name, self.pattern)

    def place(self, keep=False):
        """A fresh directory, the working directory from now on. keep: the one before stays."""
        become("root")
        os.chmod(self.top, 0o755)  # a check may have come to it by ".."
        os.chdir(self.top)
        if self.num and not keep:
            clear(str(self.num))
        self.num += 1
        path = os.path.join(self.top, str(self.num))
        os.mkdir(path, 0o755)
        os.chmod(path, 0o755)  # whatever the umask is now
        os.chdir(path)

    def note(self, name, value):
        self.found[name] = value


def single_paths(table):
    for kind, call in itertools.product(PATHS, CALLS):
        name = f"path {call} {kind}"
        if table.wants(name):
            table.place()
            path = PATHS[kind]("1")
            table.note(name, outcome(CALLS[call], path) + " " + tree())


PAIRS = {
    "rename": os.rename, "noreplace": lambda a, b: posix_case.renameat2(a, b, NOREPLACE), "exchange": lambda a, b: posix_case.renameat2(a, b, EXCHANGE),
    "link": lambda a, b: os.link(a, b, follow_symlinks=False), "link_followed": lambda a, b: os.link(a, b, follow_symlinks=True),
    "both_flags": lambda a, b: posix_case.renameat2(a, b, NOREPLACE | EXCHANGE),
}
PAIRED = [k for k in PATHS if not k.startswith("removed_") and k not in ("xattr", "dir_256", "path_4095", "newline", "below_loop", "made_255")]


def path_pairs(table):
    for call, a, b in itertools.product(PAIRS, PAIRED, PAIRED):
        name = f"pair {call} {a} {b}"
        if table.wants(name) and (call != "both_flags" or a == "file"):
            table.place()
            first, second = PATHS[a]("1"), PATHS[b]("2")
            table.note(name, outcome(PAIRS[call], first, second) + " " + tree())
    for call, where in itertools.product(PAIRS, (("d", "d/in"), ("d", "d/sub/in"), ("d/sub", "d"), ("d/sub/deep", "d"), ("d", "d"), ("d/sub", "d/sub/deep"))):
        name = f"pair {call} {where[0]} to {where[1]}"
        if table.wants(name):
            table.place()
            os.makedirs("d/sub/deep")
            table.note(name, outcome(PAIRS[call], *where) + " " + tree())


OPENED = {"ro": os.O_RDONLY, "wo": os.O_WRONLY, "rw": os.O_RDWR, "append": os.O_RDWR | os.O_APPEND, "path": os.O_PATH, "sync": os.O_RDWR | os.O_SYNC}
BIG = (1 << 63) - 1


def mapped(prot, flags=mmap.MAP_SHARED, size=4):
    return lambda fd: mmap.mmap(fd, size, flags=flags, prot=prot).close()


def allocated(mode, at, size):
    return lambda fd: posix_case.fallocate(fd, mode, at, size)


FD_CALLS = {
    "read": lambda fd: os.read(fd, 10), "read_none": lambda fd: os.read(fd, 0), "pread_negative": lambda fd: os.pread(fd, 1, -1), "pread_far": lambda fd: os.pread(fd, 10, 1 << 40),
    "write": lambda fd: os.write(fd, b"12"), "write_none": lambda fd: os.write(fd, b""), "pwrite": lambda fd: os.pwrite(fd, b"12", 7), "pwrite_negative": lambda fd: os.pwrite(fd, b"1", -1),
    "ftruncate": lambda fd: os.ftruncate(fd, 1), "ftruncate_more": lambda fd: os.ftruncate(fd, 10000), "ftruncate_negative": lambda fd: os.ftruncate(fd, -1),
    "lseek_end": lambda fd: os.lseek(fd, -1, os.SEEK_END), "lseek_negative": lambda fd: os.lseek(fd, -1, os.SEEK_SET), "lseek_bad": lambda fd: os.lseek(fd, 0, 77),
    "seek_data": lambda fd: os.lseek(fd, 1, os.SEEK_DATA), "seek_hole": lambda fd: os.lseek(fd, 1, os.SEEK_HOLE), "seek_data_end": lambda fd: os.lseek(fd, 4, os.SEEK_DATA),
    "fsync": os.fsync, "fdatasync": os.fdatasync, "fchmod": lambda fd: os.fchmod(fd, 0o600), "fchown": lambda fd: os.fchown(fd, -1, -1), "futimens": lambda fd: os.utime(fd, ns=(1, 2)),
    "listdir": lambda fd: sorted(os.listdir(fd)), "fchdir": lambda fd: os.fchdir(fd), "flock": lambda fd: fcntl.flock(fd, fcntl.LOCK_EX), "lock_read": lambda fd: fcntl.lockf(fd, fcntl.LOCK_SH),
    "lock_write": lambda fd: fcntl.lockf(fd, fcntl.LOCK_EX), "fsetxattr": lambda fd: os.setxattr(fd, "user.a", b"1"), "fgetxattr": lambda fd: os.getxattr(fd, "user.a"), "flistxattr": os.listxattr,
    "fstatvfs": lambda fd: os.fstatvfs(fd).f_namemax, "fstat": lambda fd: os.fstat(fd).st_nlink, "map_read": mapped(mmap.PROT_READ), "map_write": mapped(mmap.PROT_READ | mmap.PROT_WRITE),
    "map_private": mapped(mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE), "map_exec": mapped(mmap.PROT_READ | mmap.PROT_EXEC),
    "copy": lambda fd: os.copy_file_range(fd, fd, 2, 0, 2), "copy_onto": lambda fd: os.copy_file_range(fd, fd, 2, 0, 1), "copy_past": lambda fd: os.copy_file_range(fd, fd, 2, 100, 0),
    "sendfile": lambda fd: os.sendfile(fd, fd, 0, 2), "fadvise": lambda fd: os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED), "openat": lambda fd: os.close(os.open("n", os.O_CREAT, dir_fd=fd)),
    "mkdirat": lambda fd: os.mkdir("n", dir_fd=fd), "unlinkat": lambda fd: os.unlink("in", dir_fd=fd), "fstatat": lambda fd: os.stat("in", dir_fd=fd).st_size, "readlinkat": lambda fd: os.readlink("", dir_fd=fd),
    "renameat": lambda fd: os.rename("in", "out", src_dir_fd=fd, dst_dir_fd=fd), "linkat": lambda fd: os.link("in", "out", src_dir_fd=fd, dst_dir_fd=fd), "ioctl": lambda fd: fcntl.ioctl(fd, 0x5401),
    "set_append": lambda fd: fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND | os.O_NONBLOCK), "set_direct": lambda fd: fcntl.fcntl(fd, fcntl.F_SETFL, os.O_DIRECT),
    "allocate": allocated(0, 2, 100), "allocate_keep": allocated(1, 2, 100), "allocate_none": allocated(0, 0, 0), "allocate_negative": allocated(0, -1, 10), "allocate_negative_size": allocated(0, 0, -1),
    "allocate_too_far": allocated(0, BIG, 10), "allocate_unknown": allocated(0x1000, 0, 10), "punch": allocated(3, 1, 2), "punch_no_keep": allocated(2, 1, 2), "zero": allocated(16, 2, 8), "zero_keep": allocated(17, 2, 8),
    "zero_and_punch": allocated(19, 0, 2),
}


def descriptors(table):
    """Calls on descriptors of every kind."""
    for kind, how, call in itertools.product(("file", "unlinked", "full_dir", "removed_dir", "fifo"), OPENED, FD_CALLS):
        name = f"fd {call} {how} {kind}"
        if not table.wants(name) or (kind == "fifo" and call in ("read", "write")):
            continue
        table.place()
        path = PATHS["fifo" if kind == "fifo" else "file" if kind in ("file", "unlinked") else "full_dir" if kind == "full_dir" else "dir"]("1")
        try:
            fd = os.open(path, OPENED[how] | os.O_NONBLOCK)
        except OSError as e:
            table.note(name, errno.errorcode[e.errno])
            continue
        if kind == "unlinked":
            os.unlink(path)
        elif kind == "removed_dir":
            os.rmdir(path)
        here = os.getcwd()
        came = outcome(FD_CALLS[call], fd)
        os.chdir(here)
        after = outcome(lambda fd=fd: (os.fstat(fd).st_nlink, stat.S_ISDIR(os.fstat(fd).st_mode) or os.fstat(fd).st_size))
        os.close(fd)
        table.note(name, f"{came} {after} {tree()}")


DIR_MODES = (0o755, 0o777, 0o1777, 0o711, 0o770, 0o555, 0o333, 0o000, 0o2775, 0o3777)
FILE_MODES = (0o644, 0o600, 0o464, 0o000, 0o777, 0o6755)


def rights(table):
    """Who may do what to whose file in whose directory."""
    calls = [c for c in CALLS if not c.startswith(("nospace", "system", "acl_bad", "access_f", "utime_bad", "truncate_negative", "tmpfile_read", "statvfs"))]
    modes = [(d, FILE_MODES[0]) for d in DIR_MODES] + [(DIR_MODES[0], f) for f in FILE_MODES[1:]]
    for (dir_mode, file_mode), dir_of, file_of, who, call in itertools.product(modes, ("owner", "root"), ("owner", "other"), ("owner", "member", "other"), calls):
        name = f"rights {call} by {who} on {file_mode:o} of {file_of} in {dir_mode:o} of {dir_of}"
        if not table.wants(name):
            continue
        table.place()
        right(table, name, call, who, (dir_mode, dir_of), (file_mode, file_of))


def right(table, name, call, who, directory, file):
    os.mkdir("d")
    makes = call in ("mkdir", "mkfifo", "mknod", "mknod_socket", "mknod_char", "bind", "symlink", "creat", "excl")
    if not makes:
        make("d/f")
        if call in ("getxattr", "lgetxattr", "removexattr"):
            os.setxattr("d/f", "user.b", b"value")
        os.chown("d/f", PEOPLE[file[1]][0], GROUP)
        os.chmod("d/f", file[0])
    os.chown("d", PEOPLE[directory[1]][0], GROUP)
    os.chmod("d", directory[0])
    os.chmod(".", 0o777)
    become(who)
    came = outcome(CALLS[call], "d" if call in ("listdir", "chdir", "tmpfile", "open_dir") else "d/f")
    become("root")
    table.note(name, came + " " + tree())


def rights_to_remove(table):
    """rmdir and rename under all owners and sticky bits."""
    calls = {"rmdir": lambda: os.rmdir("d/x"), "rename_dir": lambda: os.rename("d/x", "e/x"), "rename_within": lambda: os.rename("d/x", "d/y"),
             "rename_over": lambda: os.rename("d/x", "e/over"), "exchange": lambda: posix_case.renameat2("d/x", "e/over", EXCHANGE)}
    for call, is_dir, (d_mode, e_mode), d_of, x_of, over_of, who in itertools.product(
            calls, (False, True), ((0o1777, 0o777), (0o777, 0o1777), (0o1777, 0o1777), (0o755, 0o777)), ("owner", "other"), ("owner", "other"),
            ("owner", "other"), ("owner", "member")):
        name = f"remove {call} {'dir' if is_dir else 'file'} {d_mode:o} {e_mode:o} {d_of} {x_of} {over_of} by {who}"
        if not table.wants(name):
            continue
        table.place()
        for path, mode, of in (("d", d_mode, d_of), ("e", e_mode, d_of)):
            os.mkdir(path)
            os.chown(path, PEOPLE[of][0], GROUP)
            os.chmod(path, mode)
        for path, of in (("d/x", x_of), ("e/over", over_of)):
            (os.mkdir if is_dir else make)(path)
            os.chown(path, PEOPLE[of][0], GROUP)
        become(who)
        came = outcome(calls[call])
        become("root")
        table.note(name, came + " " + tree())


def set_id_bits(table):
    """Which calls take set-user-id and set-group-id away, and chmod's own rules."""
    def with_fd(flags, function):
        def call(path):
            fd = os.open(path, flags)
            try:
                function(fd)
            finally:
                os.close(fd)
        return call
    calls = {c: CALLS[c] for c in ("chown_same", "lchown_same", "chown_me", "chgrp_group", "chgrp_other", "truncate", "truncate_more", "trunc", "utime_now", "acl", "acl_plain", "setxattr")}
    calls.update({"write_some": with_fd(os.O_WRONLY, lambda fd: os.write(fd, b"x") and None), "write_none": with_fd(os.O_WRONLY, lambda fd: os.write(fd, b"") and None),
                  "ftruncate": with_fd(os.O_RDWR, lambda fd: os.ftruncate(fd, 1)), "ftruncate_same": with_fd(os.O_RDWR, lambda fd: os.ftruncate(fd, 4)),
                  "fallocate": with_fd(os.O_RDWR, lambda fd: posix_case.fallocate(fd, 0, 0, 10) and None), "fchmod": with_fd(os.O_RDONLY, lambda fd: os.fchmod(fd, 0o6711)),
                  "punch": with_fd(os.O_RDWR, lambda fd: posix_case.fallocate(fd, 3, 0, 2) and None), "chmod_6777": lambda p: os.chmod(p, 0o6777), "chmod_2640": lambda p: os.chmod(p, 0o2640),
                  "copy": with_fd(os.O_RDWR, lambda fd: os.copy_file_range(fd, fd, 2, 0, 2) and None), "chmod_1777": lambda p: os.chmod(p, 0o1777)})
    for call, bits, perms, group, who in itertools.product(calls, (0o0, 0o2000, 0o4000, 0o6000, 0o7000), (0o666, 0o676, 0o766, 0o777), (GROUP, OTHER), PEOPLE):
        for is_dir in (False, True) if call in CALLS and perms == 0o777 else (False,):
            name = f"set_id {call} by {who} on {'dir' if is_dir else 'file'} {bits | perms:o} of group {group}"
            if not table.wants(name):
                continue
            table.place()
            (os.mkdir if is_dir else make)("f")
            os.chown("f", OWNER, group)
            os.chmod("f", bits | perms)
            become(who)
            came = outcome(calls[call], "f")
            become("root")
            table.note(name, came + " " + tree())


def births(table):
    """Mode, owner and lists of what is made: umask, set-group-id directories, default lists."""
    makers = {"file": lambda p, mode: os.close(os.open(p, os.O_CREAT | os.O_WRONLY | os.O_EXCL, mode)), "dir": os.mkdir, "fifo": os.mkfifo,
              "symlink": lambda p, mode: os.symlink("to", p), "socket": lambda p, mode: os.mknod(p, mode | stat.S_IFSOCK), "node": lambda p, mode: os.mknod(p, mode | stat.S_IFREG),
              "tmpfile": tmpfile}
    lists = {"none": None, "plain": acl(7, 5, 1), "narrow": acl(4, 2, 1), "named": acl(7, 4, 5, OTHER), "named_narrow": acl(6, 0, 0, OTHER)}
    for maker, mode, umask, dir_bits, which, who in itertools.product(
            makers, (0o777, 0o666, 0o6711, 0o2755, 0o1700, 0o000), (0o022, 0o077, 0o000, 0o277), (0o777, 0o2777), lists, ("root", "owner", "other")):
        name = f"birth {maker} {mode:o} umask {umask:o} in {dir_bits:o} with {which} by {who}"
        if not table.wants(name):
            continue
        if who != "root" and not (is_root() and which in ("none", "named")):
            continue
        table.place()
        os.mkdir("d")
        if is_root():
            os.chown("d", OWNER, GROUP)
        os.chmod("d", dir_bits)
        if lists[which]:
            os.setxattr("d", "system.posix_acl_default", lists[which])
        become(who)
        os.umask(umask)
        came = outcome(makers[maker], "d/f", mode)
        os.umask(0o022)
        become("root")
        have = [outcome(lambda n=n: os.getxattr("d/f", n, follow_symlinks=False).hex()) for n in ("system.posix_acl_access", "system.posix_acl_default")]
        names = outcome(lambda: sorted(os.listxattr("d/f", follow_symlinks=False)))
        table.note(name, " ".join([came, tree(), *have, names]))


def tmpfile(path, mode):
    fd = os.open(os.path.dirname(path), os.O_TMPFILE | os.O_RDWR, mode)
    try:
        euid = os.geteuid()
        if os.getuid() == 0:
            os.seteuid(0)  # another's /proc/self/fd is closed to who changed ids
        os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=fd, follow_symlinks=True)
        if os.getuid() == 0:
            os.seteuid(euid)
    finally:
        os.close(fd)


def all_times():
    """By inode: a name for it, and its times."""
    found = {}
    for base, dirs, files in os.walk("."):
        for path in [base] + [os.path.join(base, name) for name in sorted(files + dirs)]:
            try:
                st = os.lstat(path)
            except PermissionError:
                continue  # its directory was closed to us, by both file systems or by one: the call's outcome says so
            found.setdefault(st.st_ino, (path, st.st_mtime_ns, st.st_ctime_ns))
    return found


def moved_times(table):
    """Which times of everything around a call move. Many calls are made between two ticks of the clock."""
    todo = []
    for kind, call in itertools.product(("file", "dir", "full_dir", "in_full_dir", "two_names", "to_file", "dangling", "fifo", "missing", "below_dir", "xattr"), CALLS):
        name = f"times {call} {kind}"
        if table.wants(name):
            todo.append((name, lambda kind=kind: (PATHS[kind]("1"),), CALLS[call]))
    for call, a, b in itertools.product(PAIRS, ("file", "dir", "two_names", "in_full_dir"), ("missing", "file", "dir", "below_dir", "in_full_dir")):
        name = f"times {call} {a} {b}"
        if table.wants(name):
            todo.append((name, lambda a=a, b=b: (PATHS[a]("1"), PATHS[b]("2")), PAIRS[call]))
    for at in range(0, len(todo), 100):
        ready = []
        for name, build, call in todo[at:at + 100]:
            table.place(keep=True)
            ready.append((name, os.getcwd(), build(), call))
        time.sleep(0.012)
        before = []
        for _, place, _, _ in ready:
            os.chdir(place)
            before.append(all_times())
        came = []
        for _, place, paths, call in ready:
            os.chdir(place)
            came.append(outcome(call, *paths))
        for (name, place, _, _), was, result in zip(ready, before, came):
            os.chdir(place)
            now = all_times()
            told = [f"{was[i][0]}:{'m' if now[i][1] != was[i][1] else ''}{'c' if now[i][2] != was[i][2] else ''}"
                    for i in now if i in was and now[i][1:] != was[i][1:]]
            table.note(name, f"{result} {' '.join(sorted(told))}")


def run(top, pattern):
    os.mkdir(top)
    os.chmod(top, 0o755)
    table = Table(top, pattern)
    os.umask(0o022)
    parts = [single_paths, path_pairs, descriptors, births, moved_times]
    if is_root():
        parts += [rights, rights_to_remove, set_id_bits]
    for part in parts:
        start, num = time.monotonic(), len(table.found)
        part(table)
        print(f"{top}: {part.__name__}: {len(table.found) - num} in {time.monotonic() - start:.1f} s", flush=True)
    os.chdir("/")
    return table.found


def compare(native, here):
    """How many differ."""
    num = 0
    for name, wanted in native.items():
        if here[name] == wanted or any(fnmatch.fnmatch(name, p) for p in DIFFERS):
            continue
        num += 1
        if num <= 200:
            print(f"DIFFERS {name}:\n  native {wanted}\n  here   {here[name]}".encode(errors="backslashreplace").decode())
    return num


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("native")
    parser.add_argument("dir")
    parser.add_argument("-k", metavar="PATTERN", help="only checks whose name matches it")
    parser.add_argument("-v", action="store_true", help="tell the outcome of each")
    args = parser.parse_args()
    found = []
    for directory in (args.native, args.dir):
        top = os.path.join(os.path.abspath(directory), f"matrix-{os.getpid()}")
        try:
            found.append(run(top, args.k))
        finally:
            become("root")
            os.chdir("/")
            clear(top)
    if args.v:
        for name, value in found[1].items():
            print(f"{name}: {value}".encode(errors="backslashreplace").decode())
    num = compare(*found)
    print(f"{len(found[0])} checks, {num} differ")
    return 1 if num else 0


if __name__ == "__main__":
    sys.exit(main())
