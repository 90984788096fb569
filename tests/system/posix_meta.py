"""Cases about attributes: times, modes, owners, extended attributes, statfs."""
import errno
import os
import stat
import struct

from posix_case import (AT_SYMLINK_NOFOLLOW, KEEP_SIZE, PUNCH_HOLE, STRANGER, UTIME_NOW, UTIME_OMIT, NotHere, Open, as_stranger, birth_time,
                        case, fallocate, fails, getxattr_into, is_root, listxattr_into, mode_of, need_root, opens, read, renameat2, same,
                        tick, true, truncate, utimensat, write)

A, M, C = "atime", "mtime", "ctime"


def times(path):
    st = os.lstat(path)
    return {A: st.st_atime_ns, M: st.st_mtime_ns, C: st.st_ctime_ns}


def changes(action, **wanted):
    """After the action of each named file exactly these times are newer: keyword is the path with _ for '/', value the fields."""
    paths = {key: "." if key == "here" else key.replace("_", "/") for key in wanted}
    before = {key: times(path) for key, path in paths.items()}
    tick()
    action()
    for key, path in paths.items():
        after = times(path)
        newer = "".join(sorted(f[0] for f in (M, C) if after[f] > before[key][f]))
        older = [f for f in (M, C) if after[f] < before[key][f]]
        same((newer, older), ("".join(sorted(wanted[key])), []), f"times of {path} that moved (m, c)")


# --- times ---

@case
def times_are_set_to_the_nanosecond():
    write("f")
    os.mkdir("d")
    os.symlink("f", "l")
    os.mkfifo("p")
    for name in "fdlp":
        for atime, mtime in (((0, 0), (1, 1)), ((1234567890, 123456789), (987654321, 987654321)), ((2**31, 5), (2**33 - 5, 999999999)),
                             ((-1, 500000000), (-86400, 1))):
            utimensat(name, atime, mtime, AT_SYMLINK_NOFOLLOW)
            got = times(name)
            same((got[A], got[M]), (atime[0] * 10**9 + atime[1], mtime[0] * 10**9 + mtime[1]), f"times of {name}")
    utimensat("l", (5, 6), (7, 8))
    same(os.stat("f").st_mtime_ns, 7 * 10**9 + 8, "mtime through a link")


@case
def times_beyond_what_is_kept_are_the_nearest():
    """As utimensat(2) wants: never another time because the number was too large."""
    write("f")
    for seconds in (2**33 - 1, 2**34, 2**40, 2**62):
        utimensat("f", (seconds, 999999999), (seconds, 0))
        got = times("f")
        true(all(2**33 - 1 <= got[t] // 10**9 <= seconds for t in (A, M)), f"{seconds}: {got}")
    for seconds in (-2**31, -2**34, -2**40, -2**62):
        utimensat("f", (seconds, 0), (seconds, 0))
        got = times("f")
        true(all(seconds <= got[t] // 10**9 <= -2**31 for t in (A, M)), f"{seconds}: {got}")


@case
def utimensat_now_and_omit():
    write("f")
    utimensat("f", (100, 1), (200, 2))
    utimensat("f", (0, UTIME_OMIT), (300, 3))
    same((times("f")[A], times("f")[M]), (100 * 10**9 + 1, 300 * 10**9 + 3), "atime omitted")
    utimensat("f", (400, 4), (0, UTIME_OMIT))
    same((times("f")[A], times("f")[M]), (400 * 10**9 + 4, 300 * 10**9 + 3), "mtime omitted")
    changes(lambda: utimensat("f", (0, UTIME_OMIT), (0, UTIME_OMIT)), f="")
    write("clock")
    now = times("clock")[M]
    utimensat("f", (0, UTIME_NOW), (0, UTIME_NOW))
    true(now <= times("f")[M] < now + 10 * 10**9 and now <= times("f")[A] < now + 10 * 10**9, f"now: {times('f')}, {now}")
    utimensat("f", (7, 0), (0, UTIME_NOW))
    same(times("f")[A], 7 * 10**9, "atime set, mtime now")
    fails(errno.EINVAL, utimensat, "f", (0, 10**9), (0, 0))
    fails(errno.ENOENT, utimensat, "none", (0, 0), (0, 0))


@case
def times_set_stay_after_fsync_and_reading():
    with Open("f") as fd:
        os.write(fd, b"data" * 5000)
        os.utime(fd, ns=(111, 222222222222))
        same(os.fstat(fd).st_mtime_ns, 222222222222, "at once")
        os.fsync(fd)
        same(os.fstat(fd).st_mtime_ns, 222222222222, "after fsync")
    same((times("f")[M], times("f")[A]), (222222222222, 111), "after close")
    read("f")
    same(times("f")[M], 222222222222, "after reading")


@case
def times_of_contents():
    write("f", b"1" * 10000)
    with Open("f", os.O_RDWR) as fd:
        changes(lambda: os.write(fd, b"2"), f="mc", here="")
        changes(lambda: os.pread(fd, 10, 0), f="", here="")
        changes(lambda: os.ftruncate(fd, 100), f="mc")
        changes(lambda: os.ftruncate(fd, 1000), f="mc")
        changes(lambda: fallocate(fd, 0, 0, 5000), f="mc")
        changes(lambda: fallocate(fd, 0, 0, 10), f="mc")
        changes(lambda: fallocate(fd, KEEP_SIZE, 0, 10000), f="mc")
        changes(lambda: fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 0, 10), f="mc")
        changes(lambda: os.fsync(fd), f="")
    changes(lambda: truncate("f", 5), f="mc")
    changes(lambda: opens("f", os.O_WRONLY | os.O_TRUNC), f="mc", here="")
    changes(lambda: opens("f", os.O_RDWR), f="", here="")


@case
def times_of_attributes():
    write("f")
    os.mkdir("d")
    for name in "fd":
        key = {name: "c"}
        changes(lambda: os.chmod(name, 0o700), here="", **key)
        changes(lambda: os.chown(name, os.getuid(), os.getgid()), here="", **key)
        changes(lambda: os.setxattr(name, "user.a", b"1"), here="", **key)
        changes(lambda: os.setxattr(name, "user.a", b"2"), here="", **key)
        changes(lambda: os.removexattr(name, "user.a"), here="", **key)
        changes(lambda: utimensat(name, (0, UTIME_OMIT), (2**33 - 5, 0)), here="", **{name: "mc"})


@case
def times_of_directories():
    os.mkdir("d")
    changes(lambda: write("d/f"), d="mc", here="")
    changes(lambda: write("d/f", b"more"), d="", here="")
    changes(lambda: os.mkdir("d/s"), d="mc", here="")
    changes(lambda: os.symlink("x", "d/l"), d="mc")
    changes(lambda: os.mkfifo("d/p"), d="mc")
    changes(lambda: os.link("d/f", "d/g"), d="mc", d_f="c")
    changes(lambda: os.unlink("d/g"), d="mc", d_f="c")
    changes(lambda: os.rename("d/f", "d/h"), d="mc")
    changes(lambda: os.rmdir("d/s"), d="mc", here="")
    changes(lambda: os.listdir("d"), d="")


@case
def times_of_failed_calls():
    os.mkdir("d")
    write("d/f")
    os.mkdir("d/s")
    changes(lambda: fails(errno.EEXIST, os.mkdir, "d/s"), d="", d_s="")
    changes(lambda: fails(errno.ENOENT, os.unlink, "d/x"), d="")
    changes(lambda: fails(errno.ENOTEMPTY, os.rmdir, "d"), d="", here="")
    changes(lambda: fails(errno.EISDIR, os.rename, "d/f", "d/s"), d="", d_f="", d_s="")
    changes(lambda: fails(errno.EEXIST, os.link, "d/f", "d/s"), d="", d_f="")


@case
def times_of_rename():
    os.mkdir("a")
    os.mkdir("b")
    write("a/f")
    write("b/g")
    utimensat("a/f", (5, 5), (6, 6))
    before = times("a/f")[C]
    changes(lambda: os.rename("a/f", "b/f"), a="mc", b="mc", here="")
    same(times("b/f")[M], 6 * 10**9 + 6, "mtime of the file")
    true(times("b/f")[C] > before, "ctime of the renamed file did not move")
    changes(lambda: renameat2("b/f", "b/g", 2), b="mc", b_f="mc")
    os.mkdir("a/d")
    changes(lambda: os.rename("a/d", "b/d"), a="mc", b="mc")


@case
def times_of_new_files():
    write("clock")
    low = times("clock")[M]
    tick()
    write("f")
    os.mkdir("d")
    os.symlink("x", "l")
    os.mkfifo("p")
    tick()
    write("clock")
    high = times("clock")[M]
    for name in "fdlp":
        got = times(name)
        true(all(low < got[k] < high for k in (A, M, C)), f"times of {name}: {got}, not between {low} and {high}")


@case
def reading_updates_atime():
    if os.statvfs(".").f_flag & os.ST_NOATIME:
        raise NotHere("mounted noatime")
    write("f", b"1")
    utimensat("f", (5, 0), (100, 0))
    read("f")
    true(times("f")[A] > 100 * 10**9, "relatime: an atime before mtime moves")


@case
def utimensat_rights():
    need_root()
    write("f")
    os.chmod("f", 0o666)
    write("g")

    def stranger():
        utimensat("f", (0, UTIME_NOW), (0, UTIME_NOW))
        fails(errno.EPERM, utimensat, "f", (1, 0), (1, 0))
        fails(errno.EPERM, utimensat, "f", (0, UTIME_OMIT), (0, UTIME_NOW))
        fails(errno.EACCES, utimensat, "g", (0, UTIME_NOW), (0, UTIME_NOW))
        fails(errno.EPERM, utimensat, "g", (1, 0), (1, 0))
    as_stranger(stranger)


@case
def birth_time_stays():
    write("f")
    born = birth_time("f")
    if born is None:
        raise NotHere("statx gives no birth time")
    true(abs(born - times("f")[M]) < 10**9, f"born at {born}, not {times('f')[M]}")
    tick()
    utimensat("f", (5, 5), (6, 6))
    write("f", b"other")
    os.chmod("f", 0o600)
    os.rename("f", "g")
    same(birth_time("g"), born, "birth time after changes")
    os.mkdir("d")
    true(birth_time("d") > born, "birth time of a later directory")


# --- modes and owners ---

@case
def chmod_all_bits():
    write("f")
    os.mkdir("d")
    for mode in (0, 0o777, 0o644, 0o4755, 0o2755, 0o1644, 0o7777, 0o111):
        for name in "fd":
            os.chmod(name, mode)
            same(mode_of(name), mode, f"mode of {name}")
    os.chmod("f", 0o640)
    with Open("f", os.O_RDONLY) as fd:
        os.fchmod(fd, 0o604)
    same(mode_of("f"), 0o604, "after fchmod")
    os.symlink("f", "l")
    os.chmod("l", 0o600)
    same((mode_of("f"), mode_of("l")), (0o600, 0o777), "through a link")
    fails(errno.ENOENT, os.chmod, "none", 0)
    same(stat.S_IFMT(os.stat("d").st_mode), stat.S_IFDIR, "type")


@case
def setgid_directory_is_inherited():
    need_root()
    os.mkdir("d")
    os.chown("d", 0, 54321)
    os.chmod("d", 0o2777)
    write("d/f")
    os.mkdir("d/s")
    os.mkfifo("d/p")
    os.symlink("x", "d/l")
    same([os.lstat("d/" + n).st_gid for n in "fspl"], [54321] * 4, "groups")
    same((mode_of("d/s"), mode_of("d/f")), (0o2755, 0o644), "modes")

    def stranger():
        os.umask(0)
        opens("d/t", os.O_CREAT | os.O_WRONLY, 0o2775)
        os.mkdir("d/u")
        return [(os.lstat("d/" + n).st_uid, os.lstat("d/" + n).st_gid, mode_of("d/" + n)) for n in "tu"]
    same(as_stranger(stranger), [(STRANGER, 54321, 0o775), (STRANGER, 54321, 0o2777)], "of somebody outside the group")


@case
def owner_of_new_files():
    need_root()
    os.chmod(".", 0o777)

    def stranger():
        write("f")
        os.mkdir("d")
        os.symlink("x", "l")
    as_stranger(stranger)
    same([(os.lstat(n).st_uid, os.lstat(n).st_gid) for n in "fdl"], [(STRANGER, STRANGER)] * 3, "owners")


@case
def chmod_rights():
    need_root()
    write("f")
    os.chmod(".", 0o777)

    def stranger():
        fails(errno.EPERM, os.chmod, "f", 0o777)
        write("mine")
        os.chmod("mine", 0o4755)
        same(mode_of("mine"), 0o4755, "mode")
    as_stranger(stranger)
    # Not in the file's group: the setgid bit is dropped without an error.
    os.chown("mine", STRANGER, 54321)
    as_stranger(lambda: os.chmod("mine", 0o2755))
    same(mode_of("mine"), 0o755, "setgid by somebody outside the group")
    as_stranger(lambda: os.chmod("mine", 0o2755), groups=[54321])
    same(mode_of("mine"), 0o2755, "setgid by somebody in the group")


@case
def chown_by_root():
    need_root()
    write("f")
    os.mkdir("d")
    os.symlink("f", "l")
    os.chown("f", 1, 2)
    os.chown("d", 3, -1)
    os.lchown("l", 5, 6)
    same([(os.lstat(n).st_uid, os.lstat(n).st_gid) for n in "fdl"], [(1, 2), (3, 0), (5, 6)], "owners")
    os.chown("l", -1, 7)
    same((os.stat("f").st_uid, os.stat("f").st_gid), (1, 7), "through a link")
    os.chown("f", 4294967294, 4294967294)
    same((os.stat("f").st_uid, os.stat("f").st_gid), (4294967294, 4294967294), "the largest ids")


@case
def chown_clears_setuid():
    need_root()
    write("f")
    for mode, wanted in ((0o6755, 0o755), (0o4755, 0o755), (0o2755, 0o755), (0o2744, 0o2744), (0o1755, 0o1755)):
        os.chmod("f", mode)
        os.chown("f", 1, 1)
        same(mode_of("f"), wanted, f"after chown of {mode:o}")
    os.mkdir("d")
    os.chmod("d", 0o6755)
    os.chown("d", 1, 1)
    same(mode_of("d"), 0o6755, "a directory")


@case
def chown_rights():
    if not is_root():
        write("f")
        fails(errno.EPERM, os.chown, "f", 0, -1)
        fails(errno.EPERM, os.chown, "f", -1, 54321)
        os.chown("f", os.getuid(), os.getgid())
        os.chown("f", -1, -1)
        return
    write("f")
    os.chown("f", STRANGER, STRANGER)

    def stranger():
        fails(errno.EPERM, os.chown, "f", 0, -1)
        fails(errno.EPERM, os.chown, "f", -1, 55555)
        os.chown("f", -1, 54321)
        os.chown("f", STRANGER, STRANGER)
        os.chown("f", -1, -1)
    as_stranger(stranger, groups=[54321])
    fails(errno.EPERM, as_stranger, os.chown, "f", -1, 1, uid=23456)
    os.chmod("f", 0o6755)
    as_stranger(os.chown, "f", -1, STRANGER)
    same(mode_of("f"), 0o755, "set bits after chown by the owner")


@case
def writing_clears_setuid():
    need_root()
    os.chmod(".", 0o777)
    write("source", b"copied")
    # Without the group's x the bit meant mandatory locks, and kernels differ.
    for mode, wanted in ((0o6777, [0o777]), (0o4777, [0o777]), (0o2777, [0o777]), (0o2767, [0o2767, 0o767]), (0o4666, [0o666])):
        for change in (lambda: write_at("f"), lambda: os.truncate("f", 1), lambda: opens("f", os.O_WRONLY | os.O_TRUNC), lambda: allocate("f"),
                       lambda: copy_to("f")):
            write("f", b"12345")
            os.chmod("f", mode)
            as_stranger(change)
            true(mode_of("f") in wanted, f"mode {mode:o} became {mode_of('f'):o}")
    os.chmod("f", 0o6777)
    write_at("f")
    same(mode_of("f"), 0o6777, "after root wrote")


def write_at(path):
    with Open(path, os.O_WRONLY) as fd:
        os.write(fd, b"x")


def allocate(path):
    with Open(path, os.O_WRONLY) as fd:
        fallocate(fd, 0, 0, 100000)


def copy_to(path):
    with Open(path, os.O_WRONLY) as out, Open("source", os.O_RDONLY) as source:
        os.copy_file_range(source, out, 10)


@case
def access_of_modes():
    """Owner, group and others: the first that fits decides."""
    need_root()
    write("f")
    os.chown("f", STRANGER, 54321)

    def rights():
        return "".join(c for c, bit in zip("rwx", (os.R_OK, os.W_OK, os.X_OK)) if os.access("f", bit))
    for mode, owner, group, other in ((0o421, "r", "w", "x"), (0o076, "", "rwx", "rw"), (0o700, "rwx", "", ""), (0o007, "", "", "rwx")):
        os.chmod("f", mode)
        got = (as_stranger(rights), as_stranger(rights, uid=23456, groups=[54321]), as_stranger(rights, uid=23456))
        same(got, (owner, group, other), f"rights under {mode:03o}")
    os.chmod("f", 0)
    same(rights(), "rw", "root's rights")


# --- extended attributes ---

@case
def xattr_set_get_list_remove():
    write("f")
    os.mkdir("d")
    for name in "fd":
        same(os.listxattr(name), [], "at first")
        os.setxattr(name, "user.one", b"1")
        os.setxattr(name, "user.two", b"\0binary\xff")
        os.setxattr(name, "user.empty", b"")
        same(sorted(os.listxattr(name)), ["user.empty", "user.one", "user.two"], "names")
        same([os.getxattr(name, "user." + n) for n in ("one", "two", "empty")], [b"1", b"\0binary\xff", b""], "values")
        os.setxattr(name, "user.one", b"longer than before")
        same(os.getxattr(name, "user.one"), b"longer than before", "replaced")
        os.removexattr(name, "user.one")
        fails(errno.ENODATA, os.getxattr, name, "user.one")
        same(sorted(os.listxattr(name)), ["user.empty", "user.two"], "names after removal")
    os.rename("f", "g")
    os.link("g", "h")
    same(os.getxattr("h", "user.two"), b"\0binary\xff", "by another name")
    with Open("h", os.O_RDONLY) as fd:
        same(sorted(os.listxattr(fd)), ["user.empty", "user.two"], "by a descriptor")


@case
def xattr_flags():
    write("f")
    fails(errno.ENODATA, os.setxattr, "f", "user.a", b"1", os.XATTR_REPLACE)
    os.setxattr("f", "user.a", b"1", os.XATTR_CREATE)
    fails(errno.EEXIST, os.setxattr, "f", "user.a", b"2", os.XATTR_CREATE)
    same(os.getxattr("f", "user.a"), b"1", "value")
    os.setxattr("f", "user.a", b"3", os.XATTR_REPLACE)
    same(os.getxattr("f", "user.a"), b"3", "value")
    fails(errno.EINVAL, os.setxattr, "f", "user.a", b"3", 4)


@case
def xattr_errors():
    write("f")
    fails(errno.ENODATA, os.getxattr, "f", "user.none")
    fails(errno.ENODATA, os.removexattr, "f", "user.none")
    fails(errno.ENOENT, os.getxattr, "none", "user.a")
    fails(errno.EOPNOTSUPP, os.setxattr, "f", "nonamespace", b"1")
    fails(errno.EOPNOTSUPP, os.setxattr, "f", "other.a", b"1")
    fails(errno.EOPNOTSUPP, os.getxattr, "f", "other.a")
    fails(errno.EINVAL, os.setxattr, "f", "user.", b"1")
    fails(errno.ERANGE, os.setxattr, "f", "user." + "x" * 251, b"1")
    fails(errno.ERANGE, os.setxattr, "f", "", b"1")
    fails(errno.E2BIG, os.setxattr, "f", "user.a", bytes(65537))
    os.setxattr("f", "user." + "x" * 250, b"1")
    same(os.listxattr("f"), ["user." + "x" * 250], "names")


@case
def xattr_sizes():
    write("f")
    os.setxattr("f", "user.a", b"12345")
    same(getxattr_into("f", "user.a", 0), 5, "size asked for")
    same(getxattr_into("f", "user.a", 5), 5, "a buffer that just fits")
    fails(errno.ERANGE, getxattr_into, "f", "user.a", 4)
    os.setxattr("f", "user.bb", b"")
    same(listxattr_into("f", 0), 15, "size of the list")
    same(listxattr_into("f", 15), 15, "a buffer that just fits")
    fails(errno.ERANGE, listxattr_into, "f", 14)
    for size in (0, 1, 100, 1000, 2500):
        os.setxattr("f", "user.a", b"v" * size)
        same(os.getxattr("f", "user.a"), b"v" * size, f"{size} bytes")
    for size in (10000, 65536):
        try:
            os.setxattr("f", "user.a", b"w" * size)
        except OSError as e:
            # A block of the native file system is all it has for them.
            same(e.errno, errno.ENOSPC, "error of a large value")
            same(os.getxattr("f", "user.a"), b"v" * 2500, "the old value")
        else:
            same(os.getxattr("f", "user.a"), b"w" * size, f"{size} bytes")


@case
def xattr_many():
    write("f")
    names = [f"user.name{i}" for i in range(60)]
    for i, name in enumerate(names):
        os.setxattr("f", name, b"%d" % i)
    same(sorted(os.listxattr("f")), sorted(names), "names")
    for i, name in enumerate(names):
        same(os.getxattr("f", name), b"%d" % i, name)
    for name in names[::2]:
        os.removexattr("f", name)
    same(sorted(os.listxattr("f")), sorted(names[1::2]), "names")


@case
def xattr_of_other_kinds():
    os.symlink("nowhere", "l")
    os.mkfifo("p")
    for name in "lp":
        fails(errno.EPERM, os.setxattr, name, "user.a", b"1", follow_symlinks=False)
        fails((errno.ENODATA, errno.EPERM), os.getxattr, name, "user.a", follow_symlinks=False)
    write("f")
    if is_root():
        os.setxattr("f", "trusted.a", b"t")
        same((os.getxattr("f", "trusted.a"), os.listxattr("f")), (b"t", ["trusted.a"]), "trusted")
        os.setxattr("l", "trusted.b", b"t", follow_symlinks=False)
        same(os.getxattr("l", "trusted.b", follow_symlinks=False), b"t", "trusted, of a link")
        fails(errno.ENODATA, as_stranger, os.getxattr, "f", "trusted.a")
        same(as_stranger(os.listxattr, "f"), [], "what a stranger sees")
    else:
        fails(errno.EPERM, os.setxattr, "f", "trusted.a", b"t")


@case
def xattr_rights():
    write("f")
    os.setxattr("f", "user.a", b"1")
    if is_root():
        fails(errno.EACCES, as_stranger, os.setxattr, "f", "user.a", b"2")
        fails(errno.EACCES, as_stranger, os.removexattr, "f", "user.a")
        same(as_stranger(os.getxattr, "f", "user.a"), b"1", "read by others")
        os.chmod("f", 0o600)
        fails(errno.EACCES, as_stranger, os.getxattr, "f", "user.a")
    else:
        os.chmod("f", 0o400)
        fails(errno.EACCES, os.setxattr, "f", "user.a", b"2")
        os.chmod("f", 0o200)
        fails(errno.EACCES, os.getxattr, "f", "user.a")


@case
def file_capabilities():
    """security.capability is kept, and writing takes it away."""
    need_root()
    write("f", b"1", 0o755)
    value = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
    os.setxattr("f", "security.capability", value)
    same(os.getxattr("f", "security.capability"), value, "value")
    with Open("f", os.O_WRONLY) as fd:
        os.write(fd, b"2")
    fails(errno.ENODATA, os.getxattr, "f", "security.capability")


@case
def access_control_lists():
    """A list gives one more user a right; the mode's group bits become its mask."""
    def entry(tag, bits, number=0xffffffff):
        return struct.pack("<HHI", tag, bits, number)
    write("f", b"1")
    os.chmod("f", 0o600)
    acl = struct.pack("<I", 2) + entry(1, 6) + entry(2, 4, STRANGER) + entry(4, 0) + entry(16, 4) + entry(32, 0)
    try:
        os.setxattr("f", "system.posix_acl_access", acl)
    except OSError as e:
        if e.errno == errno.EOPNOTSUPP:
            raise NotHere("access control lists") from None
        raise
    same(os.getxattr("f", "system.posix_acl_access"), acl, "the list")
    same(mode_of("f"), 0o640, "mode: the group bits are the mask")
    if is_root():
        same(as_stranger(read, "f"), b"1", "read by the named user")
        fails(errno.EACCES, as_stranger, read, "f", uid=23456)
        fails(errno.EACCES, as_stranger, opens, "f", os.O_WRONLY)
    os.chmod("f", 0o600)
    if is_root():
        fails(errno.EACCES, as_stranger, read, "f")
    os.removexattr("f", "system.posix_acl_access")
    os.mkdir("d")
    os.setxattr("d", "system.posix_acl_default", acl)
    write("d/g")
    same(os.getxattr("d/g", "system.posix_acl_access")[4:12], entry(1, 6), "what a new file inherits")
    os.mkdir("d/e")
    same(os.getxattr("d/e", "system.posix_acl_default"), acl, "what a new directory inherits")


# --- the file system ---

@case
def statvfs_is_sane():
    write("f")
    for st in (os.statvfs("."), os.statvfs("f")):
        same(st.f_namemax, 255, "f_namemax")
        true(st.f_bsize > 0 and st.f_frsize > 0, "block sizes")
        true(0 < st.f_bavail <= st.f_bfree <= st.f_blocks, f"blocks: {st}")
        true(0 < st.f_ffree <= st.f_files, f"files: {st}")
    with Open("f", os.O_RDONLY) as fd:
        same(os.fstatvfs(fd).f_bsize, os.statvfs("f").f_bsize, "fstatvfs")


@case
def stat_fields():
    write("f", b"x" * 100000)
    st = os.stat("f")
    same((st.st_size, st.st_nlink, st.st_uid, st.st_gid), (100000, 1, os.geteuid(), os.getegid()), "size, nlink, owner")
    true(st.st_blksize >= 512 and st.st_ino > 0, "st_blksize, st_ino")
    with Open("f", os.O_RDONLY) as fd:
        same(tuple(os.fstat(fd)), tuple(os.stat("f")), "fstat and stat")
        os.fsync(fd)
    st = os.stat("f")
    true(100000 <= st.st_blocks * 512 <= 4 * 100000, f"st_blocks: {st.st_blocks}")
    same(os.stat("f").st_dev, os.stat(".").st_dev, "st_dev")
    os.mkdir("d")
    true(os.stat("d").st_ino != os.stat("f").st_ino, "inode numbers")
