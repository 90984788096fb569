"""Cases about names: rename, links, directories, lookups, special files."""
import ctypes
import errno
import os
import random
import socket
import stat
import struct
import subprocess

from posix_case import (AT_FDCWD, EXCHANGE, NOREPLACE, Dir, NeedsRoot, NotHere, Open, Wrong, as_stranger, case, checked, child, exists, fails, is_root,
                        libc, ls, mode_of, need_root, nlink, opens, read, renameat2, same, true, write)

SEED = int(os.environ.get("BAZIL_SEED", "0")) or random.SystemRandom().randrange(1 << 32)


# --- rename ---

@case
def rename_file_to_new_name():
    write("a", b"1")
    number = os.stat("a").st_ino
    os.rename("a", "b")
    same(ls(), ["b"], "names")
    same(read("b"), b"1", "contents")
    same(os.stat("b").st_ino, number, "inode number")


@case
def rename_file_over_file():
    write("a", b"new")
    write("b", b"old and longer")
    number = os.stat("a").st_ino
    os.rename("a", "b")
    same(ls(), ["b"], "names")
    same(read("b"), b"new", "contents")
    same(os.stat("b").st_ino, number, "inode number")


@case
def rename_over_open_file_keeps_the_old_for_who_has_it():
    write("a", b"new")
    write("b", b"old")
    with Open("b", os.O_RDWR) as fd:
        os.rename("a", "b")
        same(os.fstat(fd).st_nlink, 0, "nlink of what was replaced")
        same(os.pread(fd, 10, 0), b"old", "contents of what was replaced")
        os.pwrite(fd, b"!", 3)
        same(os.pread(fd, 10, 0), b"old!", "after writing")
    same(read("b"), b"new", "contents")


@case
def rename_open_file_goes_on():
    with Open("a") as fd:
        os.write(fd, b"one")
        os.mkdir("d")
        os.rename("a", "d/b")
        os.write(fd, b"two")
        same(read("d/b"), b"onetwo", "contents")
        same(os.fstat(fd).st_ino, os.stat("d/b").st_ino, "inode number")


@case
def rename_across_directories():
    os.makedirs("x/y")
    os.mkdir("z")
    write("x/f", b"f")
    os.rename("x/f", "z/g")
    same((ls("x"), ls("z")), (["y"], ["g"]), "names")
    os.rename("x/y", "z/y")
    same((ls("x"), ls("z")), ([], ["g", "y"]), "names")
    same((nlink("x"), nlink("z")), (2, 3), "nlink of the directories")
    os.chdir("z/y")
    same(os.stat("..").st_ino, os.stat("../../z").st_ino, "'..' of the moved directory")


@case
def rename_dir_over_empty_dir():
    os.mkdir("a")
    write("a/f")
    os.mkdir("b")
    os.rename("a", "b")
    same((ls(), ls("b")), (["b"], ["f"]), "names")


@case
def rename_dir_over_full_dir():
    os.mkdir("a")
    os.mkdir("b")
    write("b/f")
    fails((errno.ENOTEMPTY, errno.EEXIST), os.rename, "a", "b")
    same(ls(), ["a", "b"], "names")
    os.unlink("b/f")
    os.rename("a", "b")
    same(ls(), ["b"], "names")


@case
def rename_dir_over_dir_with_only_a_dir():
    os.makedirs("a/x")
    os.makedirs("b/y")
    fails(errno.ENOTEMPTY, os.rename, "a", "b")


@case
def rename_dir_over_file():
    os.mkdir("a")
    write("b", b"b")
    fails(errno.ENOTDIR, os.rename, "a", "b")
    same(read("b"), b"b", "contents")


@case
def rename_file_over_dir():
    os.mkdir("a")
    write("b")
    fails(errno.EISDIR, os.rename, "b", "a")
    os.symlink("x", "l")
    fails(errno.EISDIR, os.rename, "l", "a")
    same(ls(), ["a", "b", "l"], "names")


@case
def rename_into_own_subtree():
    os.makedirs("a/b/c")
    fails(errno.EINVAL, os.rename, "a", "a/x")
    fails(errno.EINVAL, os.rename, "a", "a/b/c/x")
    fails((errno.EINVAL, errno.ENOTEMPTY), os.rename, "a", "a/b")
    same(ls("a"), ["b"], "names")


@case
def rename_over_own_ancestor():
    os.makedirs("a/b/c")
    fails(errno.ENOTEMPTY, os.rename, "a/b/c", "a")
    fails(errno.ENOTEMPTY, os.rename, "a/b/c", "a/b")


@case
def rename_dot_and_dotdot():
    os.makedirs("a/b")
    fails(errno.EBUSY, os.rename, "a/.", "x")
    fails(errno.EBUSY, os.rename, "a/b/..", "x")
    fails(errno.EBUSY, os.rename, "a", "a/b/.")


@case
def rename_what_is_not_there():
    fails(errno.ENOENT, os.rename, "a", "b")
    write("a")
    fails(errno.ENOENT, os.rename, "a", "d/b")
    fails(errno.ENOTDIR, os.rename, "a/x", "b")
    fails(errno.ENOTDIR, os.rename, "a", "a/x")
    fails(errno.ENOENT, os.rename, "a", "")
    fails(errno.ENOTDIR, os.rename, "a", "b/")
    fails(errno.ENAMETOOLONG, os.rename, "a", "x" * 256)
    same(ls(), ["a"], "names")


@case
def rename_to_itself_and_to_a_hard_link():
    write("a", b"1")
    os.rename("a", "a")
    os.link("a", "b")
    os.rename("a", "b")
    same(ls(), ["a", "b"], "names: two links of one file stay")
    same(nlink("a"), 2, "nlink")


@case
def rename_one_of_two_links_over_a_third_file():
    write("a", b"1")
    os.link("a", "b")
    write("c", b"2")
    os.rename("a", "c")
    same(ls(), ["b", "c"], "names")
    same((nlink("b"), nlink("c"), read("c")), (2, 2, b"1"), "nlink and contents")


@case
def rename_over_one_of_two_links():
    write("a", b"1")
    os.link("a", "b")
    write("c", b"2")
    os.rename("c", "a")
    same((nlink("a"), nlink("b"), read("a"), read("b")), (1, 1, b"2", b"1"), "nlink and contents")


@case
def rename_symlink_moves_the_link():
    write("t", b"t")
    os.symlink("t", "l")
    os.rename("l", "m")
    same(os.readlink("m"), "t", "target")
    os.rename("m", "t")
    same(ls(), ["t"], "names")
    same(os.readlink("t"), "t", "target")


@case
def rename_special_files():
    os.mkfifo("f")
    os.mkdir("d")
    os.rename("f", "d/g")
    true(stat.S_ISFIFO(os.lstat("d/g").st_mode), "not a fifo any more")
    write("x")
    os.rename("d/g", "x")
    true(stat.S_ISFIFO(os.lstat("x").st_mode), "not a fifo any more")


@case
def rename_noreplace():
    write("a", b"1")
    write("b", b"2")
    fails(errno.EEXIST, renameat2, "a", "b", NOREPLACE)
    fails(errno.EEXIST, renameat2, "a", "a", NOREPLACE)
    renameat2("a", "c", NOREPLACE)
    same(ls(), ["b", "c"], "names")
    os.symlink("nowhere", "l")
    fails(errno.EEXIST, renameat2, "b", "l", NOREPLACE)
    os.mkdir("d")
    fails(errno.EEXIST, renameat2, "b", "d", NOREPLACE)


@case
def rename_exchange():
    write("a", b"1")
    write("b", b"2")
    numbers = os.stat("a").st_ino, os.stat("b").st_ino
    renameat2("a", "b", EXCHANGE)
    same((read("a"), read("b")), (b"2", b"1"), "contents")
    same((os.stat("b").st_ino, os.stat("a").st_ino), numbers, "inode numbers")
    fails(errno.ENOENT, renameat2, "a", "c", EXCHANGE)
    fails(errno.ENOENT, renameat2, "c", "a", EXCHANGE)
    renameat2("a", "a", EXCHANGE)
    same((ls(), read("a")), (["a", "b"], b"2"), "after exchanging with itself")


@case
def rename_exchange_of_kinds():
    os.makedirs("d/sub")
    write("d/f", b"f")
    os.mkdir("e")
    write("e/file", b"1")
    renameat2("d/sub", "e/file", EXCHANGE)
    true(stat.S_ISREG(os.lstat("d/sub").st_mode) and stat.S_ISDIR(os.lstat("e/file").st_mode), "kinds")
    same((nlink("d"), nlink("e")), (2, 3), "nlink of the directories")
    os.rmdir("e/file")
    fails(errno.ENOTDIR, os.rmdir, "d/sub")


@case
def rename_exchange_full_dirs_and_parents():
    os.makedirs("a/x")
    os.makedirs("b/y")
    renameat2("a", "b", EXCHANGE)
    same((ls("a"), ls("b")), (["y"], ["x"]), "names")
    fails(errno.EINVAL, renameat2, "a", "a/y", EXCHANGE)
    fails(errno.EINVAL, renameat2, "a/y", "a", EXCHANGE)
    renameat2("a/y", "b", EXCHANGE)
    same((ls(), ls("a"), ls("a/y"), ls("b")), (["a", "b"], ["y"], ["x"], []), "names")


@case
def rename_with_unknown_flags():
    write("a")
    write("b")
    fails(errno.EINVAL, renameat2, "a", "b", NOREPLACE | EXCHANGE)
    fails(errno.EINVAL, renameat2, "a", "b", 64)


@case
def rename_replaces_atomically():
    """A reader never finds the name missing nor anything but one of the two contents."""
    write("f", b"x" * 10000)

    def reader():
        seen = set()
        for _ in range(1500):
            seen.add(read("f"))
        return seen
    pid = os.fork()
    if pid == 0:
        try:
            for i in range(400):
                write("new", bytes([ord("a") + i % 26]) * 10000)
                os.rename("new", "f")
        finally:
            os._exit(0)
    try:
        for data in reader():
            true(len(data) == 10000 and len(set(data)) == 1, f"half a file: {len(data)} bytes")
    finally:
        os.waitpid(pid, 0)


# --- hard links ---

@case
def link_counts():
    write("a", b"1")
    same(nlink("a"), 1, "nlink")
    os.link("a", "b")
    os.mkdir("d")
    os.link("b", "d/c")
    same([nlink(n) for n in ("a", "b", "d/c")], [3, 3, 3], "nlink")
    same(len({os.stat(n).st_ino for n in ("a", "b", "d/c")}), 1, "inode numbers")
    with Open("d/c", os.O_WRONLY) as fd:
        os.write(fd, b"22")
    same((read("a"), os.stat("b").st_size), (b"22", 2), "contents by another name")
    os.unlink("a")
    same(nlink("b"), 2, "nlink")
    os.unlink("b")
    os.unlink("d/c")
    fails(errno.ENOENT, os.stat, "d/c")


@case
def link_errors():
    write("a")
    os.mkdir("d")
    fails(errno.EPERM, os.link, "d", "e")
    fails(errno.EEXIST, os.link, "a", "d")
    fails(errno.EEXIST, os.link, "a", "a")
    fails(errno.ENOENT, os.link, "x", "y")
    fails(errno.ENOENT, os.link, "a", "x/y")
    fails(errno.ENOTDIR, os.link, "a", "a/y")
    fails(errno.ENAMETOOLONG, os.link, "a", "x" * 256)
    same(nlink("a"), 1, "nlink")


@case
def link_to_symlink_and_fifo():
    os.symlink("nowhere", "l")
    os.link("l", "m", follow_symlinks=False)
    same((os.readlink("m"), nlink("l")), ("nowhere", 2), "a second name of a symlink")
    os.mkfifo("f")
    os.link("f", "g")
    same(nlink("f"), 2, "nlink of a fifo")


@case
def link_many():
    write("f0")
    for i in range(1, 300):
        os.link("f0", f"f{i}")
    same(nlink("f299"), 300, "nlink")
    for i in range(0, 300, 2):
        os.unlink(f"f{i}")
    same(nlink("f1"), 150, "nlink")


@case
def nlink_of_directories():
    os.mkdir("d")
    same(nlink("d"), 2, "empty")
    os.mkdir("d/a")
    os.mkdir("d/b")
    write("d/f")
    same(nlink("d"), 4, "with two below")
    os.rmdir("d/a")
    same(nlink("d"), 3, "with one below")
    os.rename("d/b", "b")
    same(nlink("d"), 2, "with none below")


# --- symlinks ---

@case
def symlink_and_readlink():
    for target in ("a", "../x/y", "/abs/olute", "with space\n", "x" * 255, "y/" * 2000, "z" * 4095):
        os.symlink(target, "l")
        same(os.readlink("l"), target, "target")
        st = os.lstat("l")
        same((st.st_size, stat.S_ISLNK(st.st_mode), st.st_mode & 0o777), (len(target), True, 0o777), "lstat")
        os.unlink("l")
    os.symlink(b"\xff\xfe", b"l")
    same(os.readlink(b"l"), b"\xff\xfe", "a target that is not UTF-8")


@case
def symlink_errors():
    write("a")
    fails(errno.EEXIST, os.symlink, "x", "a")
    fails(errno.ENOENT, os.symlink, "", "l")
    fails(errno.ENAMETOOLONG, os.symlink, "x" * 4096, "l")
    fails(errno.ENAMETOOLONG, os.symlink, "x", "l" * 256)
    fails(errno.EINVAL, os.readlink, "a")
    os.mkdir("d")
    fails(errno.EINVAL, os.readlink, "d")
    fails(errno.ENOENT, os.readlink, "none")
    os.symlink("l", "l")
    fails(errno.ELOOP, os.stat, "l")
    fails(errno.ELOOP, opens, "l", os.O_RDONLY)
    os.symlink("nowhere", "dangling")
    fails(errno.ENOENT, os.stat, "dangling")
    fails(errno.ENOTDIR, os.rmdir, "dangling")


@case
def symlink_is_followed():
    os.mkdir("d")
    os.symlink("d", "l")
    write("l/f", b"1")
    same(read("d/f"), b"1", "contents")
    os.symlink("l/f", "m")
    same(read("m"), b"1", "through two links")
    with Open("new", os.O_WRONLY | os.O_CREAT):
        pass
    os.symlink("made", "n")
    write("n", b"2")
    same(read("made"), b"2", "created through a dangling link")
    os.unlink("n")
    same(ls(), ["d", "l", "m", "made", "new"], "unlink takes the link")


@case
def symlink_depth():
    write("l0", b"end")
    for i in range(1, 42):
        os.symlink(f"l{i - 1}", f"l{i}")
    same(read("l40"), b"end", "40 links")
    fails(errno.ELOOP, os.stat, "l41")


# --- fifos, sockets, devices ---

@case
def fifo_carries_bytes():
    os.mkfifo("f", 0o640)
    st = os.lstat("f")
    same((stat.S_ISFIFO(st.st_mode), st.st_mode & 0o777, st.st_size), (True, 0o640, 0), "lstat")
    pid = os.fork()
    if pid == 0:
        try:
            fd = os.open("f", os.O_WRONLY)
            os.write(fd, b"through")
        finally:
            os._exit(0)
    same(read("f"), b"through", "what came out")
    os.waitpid(pid, 0)
    fails(errno.ENXIO, opens, "f", os.O_WRONLY | os.O_NONBLOCK)
    fails(errno.EEXIST, os.mkfifo, "f")
    with Open("f", os.O_RDONLY | os.O_NONBLOCK) as fd:
        fails(errno.ESPIPE, os.lseek, fd, 0, os.SEEK_SET)


@case
def socket_in_the_file_system():
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind("s")
        true(stat.S_ISSOCK(os.lstat("s").st_mode), "not a socket")
        server.listen()
        client.connect("s")
        other, _ = server.accept()
        client.send(b"x")
        same(other.recv(1), b"x", "what came through")
        other.close()
        with socket.socket(socket.AF_UNIX) as second:
            fails(errno.EADDRINUSE, second.bind, "s")
    fails(errno.ENXIO, opens, "s", os.O_RDWR)
    with socket.socket(socket.AF_UNIX) as client:
        fails(errno.ECONNREFUSED, client.connect, "s")
    os.rename("s", "t")
    os.unlink("t")


@case
def mknod_of_files():
    os.mknod("r", stat.S_IFREG | 0o600)
    os.mknod("p", stat.S_IFIFO | 0o622)
    os.mknod("s", stat.S_IFSOCK | 0o700)
    same([stat.S_IFMT(os.lstat(n).st_mode) for n in "rps"], [stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK], "kinds")
    same([mode_of(n) for n in "rps"], [0o600, 0o600, 0o700], "modes under umask 022")
    fails(errno.EEXIST, os.mknod, "r", stat.S_IFREG)
    fails(errno.EPERM, os.mknod, "d", stat.S_IFDIR)
    fails(errno.EINVAL, os.mknod, "x", 0o170000)


@case
def mknod_of_devices():
    if not is_root():
        fails(errno.EPERM, os.mknod, "c", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        return
    for kind, name, numbers in ((stat.S_IFCHR, "c", (1, 3)), (stat.S_IFBLK, "b", (259, 70000)), (stat.S_IFCHR, "d", (4095, 1048575))):
        os.mknod(name, kind | 0o600, os.makedev(*numbers))
        st = os.lstat(name)
        same((stat.S_IFMT(st.st_mode), os.major(st.st_rdev), os.minor(st.st_rdev)), (kind, *numbers), "lstat")
    # Where devices are not allowed opening says so.
    nodev = os.statvfs(".").f_flag & os.ST_NODEV
    if nodev:
        fails(errno.EACCES, opens, "c", os.O_RDONLY)
    else:
        same(read("c"), b"", "/dev/null")
    os.rename("c", "e")
    os.link("e", "f")
    same(os.lstat("f").st_rdev, os.makedev(1, 3), "after rename and link")


# --- directories ---

@case
def mkdir_errors():
    os.mkdir("d")
    write("f")
    os.symlink("nowhere", "l")
    for name in ("d", "f", "l", ".", ".."):
        fails(errno.EEXIST, os.mkdir, name)
    fails(errno.ENOENT, os.mkdir, "x/y")
    fails(errno.ENOTDIR, os.mkdir, "f/y")
    fails(errno.ENOENT, os.mkdir, "")
    fails(errno.ENAMETOOLONG, os.mkdir, "x" * 256)
    os.mkdir("t/")
    same(ls(), ["d", "f", "l", "t"], "names")


@case
def rmdir_errors():
    os.makedirs("d/e")
    write("f")
    os.symlink("d", "l")
    fails(errno.ENOTEMPTY, os.rmdir, "d")
    fails(errno.ENOTDIR, os.rmdir, "f")
    fails(errno.ENOTDIR, os.rmdir, "l")
    fails(errno.ENOENT, os.rmdir, "x")
    fails(errno.EINVAL, os.rmdir, "d/.")
    fails(errno.ENOTEMPTY, os.rmdir, "d/e/..")
    fails(errno.ENOTDIR, os.rmdir, "f/x")
    os.rmdir("d/e")
    os.rmdir("d")
    same(ls(), ["f", "l"], "names")


@case
def unlink_errors():
    os.mkdir("d")
    fails(errno.EISDIR, os.unlink, "d")
    fails(errno.ENOENT, os.unlink, "x")
    write("f")
    fails(errno.ENOTDIR, os.unlink, "f/")
    fails(errno.ENOTDIR, os.unlink, "f/x")
    fails(errno.ENAMETOOLONG, os.unlink, "x" * 256)


@case
def removed_directory_that_is_open():
    os.mkdir("d")
    with Open("d", os.O_RDONLY | os.O_DIRECTORY) as fd:
        os.rmdir("d")
        same(os.fstat(fd).st_nlink, 0, "nlink")
        same(os.listdir(fd), [], "names")
        fails(errno.ENOENT, os.mkdir, "x", dir_fd=fd)
        fails(errno.ENOENT, os.open, "x", os.O_CREAT | os.O_WRONLY, dir_fd=fd)
        fails(errno.ENOENT, os.stat, "x", dir_fd=fd)
    os.mkdir("d")
    same(ls("d"), [], "names in a new one of that name")


@case
def removed_working_directory():
    def inside():
        os.mkdir("w")
        os.chdir("w")
        os.rmdir("../w")
        fails(errno.ENOENT, os.getcwd)
        fails(errno.ENOENT, os.mkdir, "x")
        true(stat.S_ISDIR(os.stat(".").st_mode), "stat of '.'")
    child(inside)


@case
def lookup_errors():
    write("f")
    fails(errno.ENOENT, os.stat, "x")
    fails(errno.ENOTDIR, os.stat, "f/x")
    fails(errno.ENOTDIR, os.stat, "f/")
    fails(errno.ENOTDIR, os.stat, "f/..")
    fails(errno.ENOENT, os.stat, "")
    fails(errno.ENOENT, os.stat, "x/..")
    fails(errno.ENOTDIR, os.chdir, "f")
    fails(errno.ENOTDIR, os.listdir, "f")
    fails(errno.ENAMETOOLONG, os.stat, "x" * 256)
    fails(errno.ENAMETOOLONG, os.stat, "x/" * 2100)


@case
def names_that_came_and_went_are_not_remembered():
    """A name looked up in vain appears once made, by whatever call; and goes."""
    for i, make in enumerate((lambda n: write(n), os.mkdir, lambda n: os.symlink("x", n), os.mkfifo, lambda n: os.link("one", n),
                              lambda n: os.rename("two", n))):
        write("one")
        write("two")
        name = f"n{i}"
        fails(errno.ENOENT, os.lstat, name)
        make(name)
        os.lstat(name)
        (os.rmdir if os.path.isdir(name) else os.unlink)(name)
        fails(errno.ENOENT, os.lstat, name)


@case
def dot_and_dotdot():
    os.makedirs("a/b")
    same(os.stat("a/.").st_ino, os.stat("a").st_ino, "'.'")
    same(os.stat("a/b/..").st_ino, os.stat("a").st_ino, "'..'")
    same(os.stat("a/b/../../a/./b").st_ino, os.stat("a/b").st_ino, "a path of both")
    d = Dir("a/b")
    names = sorted([d.next(), d.next()])
    same([n for n, _ in names], [b".", b".."], "what readdir gives first")
    same([i for _, i in names], [os.stat("a/b").st_ino, os.stat("a").st_ino], "their inode numbers")
    d.close()


@case
def names_of_every_length():
    for n in (1, 2, 14, 15, 16, 31, 32, 63, 64, 127, 128, 143, 254, 255):
        write("n" * n, b"%d" % n)
        same(read("n" * n), b"%d" % n, f"contents of a name of {n} bytes")
    same(sorted(len(n) for n in os.listdir()), [1, 2, 14, 15, 16, 31, 32, 63, 64, 127, 128, 143, 254, 255], "lengths")
    for function in (write, os.mkdir, os.stat, os.unlink, lambda n: os.symlink("x", n), os.mkfifo):
        fails(errno.ENAMETOOLONG, function, "n" * 256)
        fails(errno.ENAMETOOLONG, function, "n" * 1100)
    same(os.pathconf(".", "PC_NAME_MAX"), 255, "NAME_MAX")


@case
def names_of_any_bytes():
    names = [bytes([b]) for b in range(1, 256) if bytes([b]) not in (b"/", b".")]
    names += [b"\xff" * 255, b"\xc3\x28", "é".encode(), "e\u0301".encode(), b" ", b"a\nb", b"\x1b[31m", b"-rf", b"...", "€".encode() * 85,
              b"a", b"A", b".hidden", b"~", b"%s%n"]
    names = sorted(set(names))
    for name in names:
        write(name, name)
    same(sorted(os.listdir(b".")), names, "names")
    for name in names:
        same(read(name), name, f"contents of {name!r}")


@case
def readdir_gives_kinds_and_numbers():
    write("f")
    os.mkdir("d")
    os.symlink("x", "l")
    os.mkfifo("p")
    with os.scandir(".") as found:
        got = {e.name: (e.is_file(follow_symlinks=False), e.is_dir(follow_symlinks=False), e.is_symlink(), e.inode()) for e in found}
    for name, kinds in (("f", (True, False, False)), ("d", (False, True, False)), ("l", (False, False, True)), ("p", (False, False, False))):
        same(got[name], (*kinds, os.lstat(name).st_ino), name)


@case
def readdir_10000_entries():
    for i in range(10000):
        os.mknod(f"f{i:05}", stat.S_IFREG | 0o600)
    same(ls(), [f"f{i:05}" for i in range(10000)], "names")
    d = Dir()
    seen, i = [], 0
    entry = d.next()
    while entry:
        seen.append(entry[0])
        # Removes what was seen and makes others meanwhile: every other name must be seen once.
        if entry[0].startswith(b"f") and int(entry[0][1:]) % 3 == 0:
            os.unlink(entry[0])
        if i % 10 == 0 and i < 10000:
            os.mknod(f"g{i:05}", stat.S_IFREG | 0o600)
        i += 1
        entry = d.next()
    d.close()
    old = [n for n in seen if n.startswith(b"f")]
    same(len(old), 10000, "number of names seen")
    same(len(set(old)), 10000, "names seen once")
    same(len(ls()), 10000 - 3334 + 1000, "names left")


@case
def readdir_sees_removal_of_what_is_ahead():
    """Removed before the directory was opened or rewound: never listed. Others: always."""
    for i in range(2000):
        os.mknod(f"f{i}", stat.S_IFREG | 0o600)
    d = Dir()
    d.next()
    for i in range(0, 2000, 2):
        os.unlink(f"f{i}")
    d.rewind()
    same(sorted(d.rest()), sorted([b".", b".."] + [b"f%d" % i for i in range(1, 2000, 2)]), "after rewinddir")
    d.close()


@case
def telldir_and_seekdir():
    for i in range(3000):
        os.mknod(f"f{i}", stat.S_IFREG | 0o600)
    d = Dir()
    places, names = [], []
    while True:
        places.append(d.tell())
        entry = d.next()
        if not entry:
            break
        names.append(entry[0])
    same(len(set(names)), 3002, "names")
    true(min(places) >= 0, f"a place that lseek refuses: {min(places)}")
    rng = random.Random(SEED)
    for i in rng.sample(range(len(names)), 60):
        d.seek(places[i])
        got = [d.next()[0] for _ in range(min(5, len(names) - i))]
        same(got, names[i:i + 5], f"what follows place {i} (seed {SEED})")
    # A place stays good when the entry before it goes.
    middle = next(i for i in range(1500, 3000) if names[i] not in (b".", b".."))
    os.unlink(names[middle])
    d.seek(places[middle + 1])
    same(d.rest(), names[middle + 1:], "after removing the entry before the place")
    d.rewind()
    same(len(d.rest()), 3001, "after rewinddir")
    d.close()


@case
def deep_directories():
    here = os.getcwd()
    for i in range(200):
        os.mkdir(f"d{i}")
        os.chdir(f"d{i}")
    write("bottom", b"deep")
    os.chdir(here)
    path = "/".join(f"d{i}" for i in range(200))
    same(read(path + "/bottom"), b"deep", "contents")
    os.rename("d0", "e0")
    same(read("e" + path[1:] + "/bottom"), b"deep", "contents after renaming the top")
    os.unlink("e" + path[1:] + "/bottom")
    for i in range(199, 0, -1):
        os.rmdir("e0/" + "/".join(f"d{k}" for k in range(1, i + 1)))
    same(ls("e0"), [], "names")


@case
def create_and_remove_concurrently():
    """Four processes in one directory: each sees its own names, and none is lost."""
    def work(me):
        for i in range(150):
            write(f"{me}-{i}", b"%d" % i)
            if i % 2:
                os.rename(f"{me}-{i}", f"{me}-r{i}")
            if i % 3 == 0:
                os.unlink(f"{me}-r{i}" if i % 2 else f"{me}-{i}")
    pids = []
    for me in range(4):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                work(me)
                status = 0
            finally:
                os._exit(status)
        pids.append(pid)
    for pid in pids:
        same(os.waitpid(pid, 0)[1], 0, "a process's status")
    wanted = sorted(f"{me}-{'r' if i % 2 else ''}{i}" for me in range(4) for i in range(150) if i % 3)
    same(ls(), wanted, "names")


@case
def exclusive_creation_has_one_winner():
    def work():
        won = 0
        for i in range(100):
            try:
                opens(f"n{i}", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
                won += 1
            except FileExistsError:
                pass
        return won
    pids, ends = [], []
    for _ in range(3):
        r, w = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.write(w, b"%d" % work())
            finally:
                os._exit(0)
        os.close(w)
        pids.append(pid)
        ends.append(r)
    total = 0
    for pid, r in zip(pids, ends):
        total += int(os.read(r, 100))
        os.close(r)
        os.waitpid(pid, 0)
    same(total, 100, "winners")


@case
def programs_run_from_here():
    with open("/bin/true", "rb") as f:
        write("prog", f.read(), 0o755)
    same(subprocess.run(["./prog"], check=False).returncode, 0, "status")
    with open("script", "w", encoding="ascii") as f:
        f.write("#!/bin/sh\necho ran\n")
    fails(errno.EACCES, subprocess.run, ["./script"], check=False)
    os.chmod("script", 0o755)
    same(subprocess.run(["./script"], check=False, capture_output=True).stdout, b"ran\n", "output")


@case
def running_program_is_busy():
    with open("/bin/sleep", "rb") as f:
        write("prog", f.read(), 0o755)
    with subprocess.Popen(["./prog", "30"]) as p:
        try:
            fails(errno.ETXTBSY, opens, "prog", os.O_WRONLY)
        finally:
            p.kill()
    opens("prog", os.O_WRONLY)


@case
def stranger_cannot_enter_or_change():
    need_root()
    os.mkdir("closed", 0o700)
    write("closed/f")
    os.mkdir("readable", 0o744)
    write("readable/f")
    os.mkdir("searchable", 0o711)
    write("searchable/f", b"1")

    def stranger():
        fails(errno.EACCES, os.listdir, "closed")
        fails(errno.EACCES, os.stat, "closed/f")
        fails(errno.EACCES, os.stat, "closed/none")
        same(os.listdir("readable"), ["f"], "names")
        fails(errno.EACCES, os.stat, "readable/f")
        fails(errno.EACCES, os.listdir, "searchable")
        same(read("searchable/f"), b"1", "contents")
        for function, args in ((os.mkdir, ("readable/x",)), (os.unlink, ("searchable/f",)), (os.rename, ("searchable/f", "searchable/g")),
                               (os.symlink, ("x", "searchable/l")), (os.mkfifo, ("searchable/p",)), (os.rmdir, ("readable",)),
                               (write, ("searchable/new",)), (write, ("searchable/f",)), (os.rename, ("readable", "moved"))):
            fails(errno.EACCES, function, *args)
        fails((errno.EACCES, errno.EPERM), os.link, "searchable/f", "searchable/g")
    as_stranger(stranger)


@case
def owner_without_permission():
    """Not for root, who may."""
    def owner():
        os.mkdir("d")
        write("d/f")
        os.chmod("d", 0o300)
        fails(errno.EACCES, os.listdir, "d")
        os.stat("d/f")
        os.chmod("d", 0o400)
        same(os.listdir("d"), ["f"], "names")
        fails(errno.EACCES, os.stat, "d/f")
        os.chmod("d", 0o500)
        fails(errno.EACCES, write, "d/g")
        fails(errno.EACCES, os.unlink, "d/f")
        fails(errno.EACCES, os.rename, "d/f", "f")
        os.chmod("d", 0o700)
        os.chmod("d/f", 0o000)
        fails(errno.EACCES, read, "d/f")
        fails(errno.EACCES, opens, "d/f", os.O_WRONLY)
        os.chmod("d/f", 0o400)
        same(read("d/f"), b"", "contents")
        fails(errno.EACCES, opens, "d/f", os.O_RDWR)
        fails(errno.EACCES, os.truncate, "d/f", 0)
        os.unlink("d/f")
    if is_root():
        os.chmod(".", 0o777)
        as_stranger(owner)
    else:
        owner()


@case
def sticky_directory():
    need_root()
    os.mkdir("t")
    os.chmod("t", 0o1777)
    write("t/root", b"", 0o666)
    os.chmod("t/root", 0o666)

    def stranger():
        write("t/mine")
        fails((errno.EPERM, errno.EACCES), os.unlink, "t/root")
        fails((errno.EPERM, errno.EACCES), os.rename, "t/root", "t/x")
        fails((errno.EPERM, errno.EACCES), os.rename, "t/mine", "t/root")
        os.rename("t/mine", "t/mine2")
        os.unlink("t/mine2")
        write("t/left")

    def another():
        fails((errno.EPERM, errno.EACCES), os.unlink, "t/left")
    as_stranger(stranger)
    as_stranger(another, uid=23456)
    os.unlink("t/left")


@case
def tmpfile():
    try:
        fd = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o600)
    except OSError as e:
        if e.errno in (errno.EOPNOTSUPP, errno.EISDIR):
            raise NotHere(f"O_TMPFILE: {e.strerror}") from None
        raise
    try:
        os.write(fd, b"unnamed")
        same((os.fstat(fd).st_nlink, ls()), (0, []), "nlink and names")
        os.link(f"/proc/self/fd/{fd}", "named", src_dir_fd=fd, follow_symlinks=True)
    finally:
        os.close(fd)
    same((read("named"), nlink("named")), (b"unnamed", 1), "once it has a name")


def open_tmpfile(flags=0):
    try:
        return os.open(".", os.O_TMPFILE | os.O_RDWR | flags, 0o600)
    except OSError as e:
        if e.errno in (errno.EOPNOTSUPP, errno.EISDIR):
            raise NotHere(f"O_TMPFILE: {e.strerror}") from None
        raise


def name_it(fd, name):
    os.link(f"/proc/self/fd/{fd}", name, src_dir_fd=fd, follow_symlinks=True)


@case
def tmpfile_for_ever_without_a_name():
    fd = open_tmpfile(os.O_EXCL)
    fails(errno.ENOENT, name_it, fd, "named")
    os.close(fd)
    same(ls(), [], "names")


@case
def tmpfile_gets_two_names_and_loses_them():
    fd = open_tmpfile()
    os.write(fd, b"x" * 100000)
    os.fchmod(fd, 0o751)
    os.setxattr(fd, "user.a", b"1")
    os.fsync(fd)
    name_it(fd, "a")
    os.link("a", "b")
    same((nlink("a"), mode_of("b"), os.getxattr("a", "user.a"), ls()), (2, 0o751, b"1", ["a", "b"]), "with names")
    os.unlink("a")
    os.unlink("b")
    same(os.fstat(fd).st_nlink, 0, "links at the end")
    os.pwrite(fd, b"y", 0)
    same(os.pread(fd, 2, 0), b"yx", "what is in it")
    os.close(fd)


@case
def tmpfile_takes_nobodys_place():
    fd = open_tmpfile()
    os.write(fd, b"new")
    write("a", b"old")
    fails(errno.EEXIST, name_it, fd, "a")
    name_it(fd, "b")
    os.rename("b", "a")
    same((read("a"), ls()), (b"new", ["a"]), "after the rename")
    os.close(fd)


def watch(path, mask):
    fd = libc.inotify_init1(os.O_NONBLOCK)
    true(fd >= 0 and libc.inotify_add_watch(fd, os.fsencode(path), mask) >= 0, "inotify")
    return fd


@case
def inotify_tells_local_changes():
    os.mkdir("d")
    watched = watch("d", 0xfff)
    write("d/a", b"1")
    os.chmod("d/a", 0o600)
    os.rename("d/a", "d/b")
    os.unlink("d/b")
    os.mkdir("d/s")
    events, data = [], os.read(watched, 65536)
    while data:
        _, mask, _, size = struct.unpack_from("iIII", data)
        events.append((mask & 0xfff, data[16:16 + size].rstrip(b"\0")))
        data = data[16 + size:]
    os.close(watched)
    for wanted in ((0x100, b"a"), (0x2, b"a"), (0x8, b"a"), (0x4, b"a"), (0x40, b"a"), (0x80, b"b"), (0x200, b"b"), (0x100, b"s")):
        true(wanted in events, f"event {wanted} among {events}")


HANDLE = 128


@case
def open_by_handle():
    """As knfsd and others do."""
    need_root()
    write("f", b"by handle")
    os.mkdir("d")
    write("d/g", b"1")
    mount = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    handles = []
    for path in ("f", "d", "d/g"):
        handle = ctypes.create_string_buffer(struct.pack("Ii", HANDLE, 0), 8 + HANDLE)
        number = ctypes.c_int()
        checked(libc.name_to_handle_at(AT_FDCWD, os.fsencode(path), handle, ctypes.byref(number), 0))
        handles.append((path, handle))
    try:
        os.close(checked(libc.open_by_handle_at(mount, handles[0][1], os.O_RDONLY)))
    except PermissionError:
        raise NeedsRoot("a container's filter refuses the call to its root") from None
    for path, handle in handles:
        fd = checked(libc.open_by_handle_at(mount, handle, os.O_RDONLY))
        same(os.fstat(fd).st_ino, os.stat(path).st_ino, f"inode of {path}")
        os.close(fd)
    os.unlink("f")
    fails(errno.ESTALE, lambda: checked(libc.open_by_handle_at(mount, handles[0][1], os.O_RDONLY)))
    os.close(mount)


@case
def a_wrong_assertion_is_seen():
    """The suite itself: it would tell."""
    write("a")
    for bad in (lambda: fails(errno.ENOENT, os.stat, "a"), lambda: fails(errno.EEXIST, os.stat, "b"), lambda: same(read("a"), b"x")):
        try:
            bad()
        except Wrong:
            continue
        raise Wrong("an assertion that must fail held")
