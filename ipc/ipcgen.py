#!/usr/bin/env python3
"""
Makes C of a schema file (*.msg): structs, bounds, codecs, senders, dispatch, names, a fuzz target.

    ipcgen.py SCHEMA OUTDIR             CHANNEL.gen.h and CHANNEL_{codec,client,server,fuzz}.gen.c, and for each
                                        ROLE of `served by` CHANNEL_server_ROLE.gen.c
    ipcgen.py --corpus SCHEMA OUTDIR    well-formed inputs for the fuzz target
    ipcgen.py --digest SCHEMA           sha256 of the schema without comments and white space

Grammar (comments begin with #; one directly above a declaration or field is carried into the header):

    channel NAME CLIENT -> SERVER version N [keyed] [secret]
    struct NAME                                  then fields
    request NAME NUMBER [served by ROLE] [offline]   then fields, then `reply` and its fields
    notice NAME NUMBER SENDER -> RECEIVER        then fields
    <tab>FIELD TYPE

Types: u8 u16 u32 u64 i64 bool; fixed N; bytes MAX; text MAX; list MAX TYPE with TYPE a struct's name, fixed N,
u32 or u64; struct NAME; fd. Channels are arrays of exact length; keyed ones are maps by position (1, 2, ...)
of the field, so fields are only ever appended. Of a secret one, which carries keys, each copy of a message is
overwritten after use.
"""
import hashlib
import os
import re
import sys

UINTS = {"u8": ("uint8_t", "UINT8_MAX"), "u16": ("uint16_t", "UINT16_MAX"),
         "u32": ("uint32_t", "UINT32_MAX"), "u64": ("uint64_t", "UINT64_MAX")}
BODY_MAX = 128 * 1024 - 16
FDS_MAX = 16


class SchemaError(Exception):
    pass


def fail(where, text):
    raise SchemaError(f"{where}: {text}")


class Field:
    """kind: one of the words of the grammar; max: bound or exact size; elem: a Field, of a list."""

    def __init__(self, name, kind, bound=0, struct=None, elem=None, comment=()):
        self.name, self.kind, self.max = name, kind, bound
        self.struct, self.elem, self.comment = struct, elem, comment


class Message:
    def __init__(self, name, where, comment=()):
        self.name, self.where, self.comment, self.fields = name, where, comment, []


class Request(Message):
    def __init__(self, name, number, where, comment):
        super().__init__(name, where, comment)
        self.number, self.role, self.offline, self.reply = number, None, False, None


class Notice(Message):
    def __init__(self, name, number, to_server, where, comment):
        super().__init__(name, where, comment)
        self.number, self.to_server = number, to_server


class Schema:
    def __init__(self):
        self.structs, self.requests, self.notices = {}, [], []
        self.name = self.comment = None
        self.keyed = self.secret = False

    def roles(self):
        return sorted({r.role for r in self.requests if r.role})

    def messages(self):
        """Everything that has a codec of its own."""
        for r in self.requests:
            yield r
            yield r.reply
        yield from self.notices


def digest(text):
    lines = [re.sub(r"\s+", " ", line.split("#")[0]).strip() for line in text.splitlines()]
    return hashlib.sha256("\n".join(filter(None, lines)).encode())


# --- reading a schema


def parse_type(words, where):
    def number(w):
        if not w.isdigit() or int(w) == 0:
            fail(where, f"a positive number is expected, not {w!r}")
        return int(w)

    kind, rest = words[0], words[1:]
    if kind in UINTS or kind in ("i64", "bool", "fd"):
        if rest:
            fail(where, f"{kind} takes nothing after it")
        return Field(None, kind)
    if kind in ("fixed", "bytes", "text") and len(rest) == 1:
        size = number(rest[0])
        if size > BODY_MAX:
            fail(where, f"{size} does not fit into a message ({BODY_MAX})")
        return Field(None, kind, size)
    if kind == "struct" and len(rest) == 1:
        return Field(None, kind, struct=rest[0])
    if kind == "list" and len(rest) >= 2:
        elem = rest[1:]
        if elem[0] in ("u32", "u64", "fixed"):
            e = parse_type(elem, where)
        elif len(elem) == 1 and elem[0] not in UINTS:
            e = Field(None, "struct", struct=elem[0])
        else:
            fail(where, f"a list cannot hold {' '.join(elem)!r}")
        return Field(None, "list", number(rest[0]), elem=e)
    fail(where, f"unknown type {' '.join(words)!r}")


class Parser:
    def __init__(self, path, text):
        self.path, self.schema = path, Schema()
        self.current = self.request = None
        self.names, self.numbers = set(), set()
        comment = []
        for number, line in enumerate(text.splitlines(), 1):
            self.where = f"{path}:{number}"
            if line.lstrip().startswith("#"):
                comment.append(line.strip()[1:].strip())
                continue
            code = line.split("#")[0]
            if code.strip():
                self.line(code, comment)
            comment = []
        self.finish()

    def line(self, line, comment):
        words = line.split()
        if line[0] in " \t":
            return self.field(words, comment)
        head = words[0]
        if head != "channel" and not self.schema.name:
            fail(self.where, "the first declaration is the channel")
        if head not in ("channel", "struct", "request", "reply", "notice"):
            fail(self.where, f"unknown declaration {head!r}")
        getattr(self, "on_" + head)(words[1:], comment)

    def identifier(self, name):
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            fail(self.where, f"{name!r} is no name")
        return name

    def declare(self, name):
        if self.identifier(name) in self.names:
            fail(self.where, f"{name} is declared twice")
        self.names.add(name)
        return name

    def on_channel(self, words, comment):
        s = self.schema
        if s.name or len(words) not in (6, 7, 8) or words[2] != "->" or words[4] != "version":
            fail(self.where, "expected once: channel NAME CLIENT -> SERVER version N [keyed] [secret]")
        s.name, s.client, s.server = self.identifier(words[0]), words[1], words[3]
        s.version, s.comment = int(words[5]), comment
        s.keyed, s.secret = "keyed" in words[6:], "secret" in words[6:]
        if words[6:] != ["keyed"] * s.keyed + ["secret"] * s.secret or s.client == s.server or s.version < 1:
            fail(self.where, "malformed channel")

    def on_struct(self, words, comment):
        if len(words) != 1:
            fail(self.where, "expected: struct NAME")
        self.current = Message(self.declare(words[0]), self.where, comment)
        self.schema.structs[words[0]] = self.current
        self.request = None

    def number(self, word):
        n = int(word) if word.isdigit() else 0
        if not 0 < n < 65536 or n in self.numbers:
            fail(self.where, f"{word}: numbers are from 1 to 65535, each once")
        self.numbers.add(n)
        return n

    def check_request_done(self):
        if self.request and not self.request.reply:
            fail(self.where, f"{self.request.name} has no reply")

    def on_request(self, words, comment):
        self.check_request_done()
        if len(words) < 2:
            fail(self.where, "expected: request NAME NUMBER [served by ROLE] [offline]")
        if not words[0].startswith(self.schema.name + "_"):
            fail(self.where, f"names of messages begin with {self.schema.name}_")
        r = Request(self.declare(words[0]), self.number(words[1]), self.where, comment)
        self.declare(words[0] + "_reply")
        rest = words[2:]
        if rest[:2] == ["served", "by"] and len(rest) > 2:
            r.role, rest = self.identifier(rest[2]), rest[3:]
        if rest == ["offline"]:
            r.offline, rest = True, []
        if rest:
            fail(self.where, f"unknown: {' '.join(rest)}")
        self.schema.requests.append(r)
        self.current = self.request = r

    def on_reply(self, words, comment):
        if not self.request or self.request.reply or words:
            fail(self.where, "a reply belongs to the request above it")
        self.current = self.request.reply = Message(
            self.request.name + "_reply", self.where, comment)

    def on_notice(self, words, comment):
        self.check_request_done()
        s = self.schema
        if len(words) != 5 or words[3] != "->" or {words[2], words[4]} != {s.client, s.server}:
            fail(self.where, f"expected: notice NAME NUMBER SENDER -> RECEIVER, of {s.client} and {s.server}")
        if not words[0].startswith(s.name + "_"):
            fail(self.where, f"names of messages begin with {s.name}_")
        self.current = Notice(self.declare(words[0]), self.number(words[1]),
                              words[4] == s.server, self.where, comment)
        s.notices.append(self.current)
        self.request = None

    def field(self, words, comment):
        if not self.current or len(words) < 2:
            fail(self.where, "expected: FIELD TYPE, below a declaration")
        name = self.identifier(words[0])
        taken = {f.name for f in self.current.fields}
        taken |= {"num_" + f.name for f in self.current.fields if f.kind == "list"} | {"ipc_storage"}
        f = parse_type(words[1:], self.where)
        f.name, f.comment, f.where = name, comment, self.where
        if name in taken or (f.kind == "list" and "num_" + name in taken):
            fail(self.where, f"{name} is declared twice")
        self.current.fields.append(f)

    def finish(self):
        self.where = self.path
        s = self.schema
        if not s.name:
            fail(self.path, "no channel is declared")
        self.check_request_done()
        order, visiting = [], set()

        def visit(name, where):
            if name not in s.structs:
                fail(where, f"there is no struct {name}")
            if name in visiting:
                fail(where, f"struct {name} contains itself")
            if name in order:
                return
            visiting.add(name)
            for f in s.structs[name].fields:
                if f.kind == "fd":
                    fail(f.where, "fd may only be a field of a message")
                for g in (f, f.elem):
                    if g and g.struct:
                        visit(g.struct, f.where)
            visiting.discard(name)
            order.append(name)

        for name in list(s.structs):
            if not s.structs[name].fields:
                fail(s.structs[name].where, "a struct needs a field")
            visit(name, s.structs[name].where)
        for m in s.messages():
            for f in m.fields:
                for g in (f, f.elem):
                    if g and g.struct:
                        visit(g.struct, f.where)
            fds = sum(f.kind == "fd" for f in m.fields)
            if fds > (0 if s.keyed else FDS_MAX):
                fail(m.where, "too many descriptors (a keyed channel may have none)")
            if min_wire_fields(s, m.fields) > BODY_MAX:
                fail(m.where, "does not fit into a message")
        s.order = order


def min_wire_fields(s, fields):
    return 1 if s.keyed else 1 + sum(min_wire(s, f) for f in fields)


def min_wire(s, f):
    """The fewest bytes that a value takes: bounds how many fit into what is left."""
    if f.kind == "fixed":
        return f.max + (2 if f.max < 256 else 3)
    if f.kind == "bytes":
        return 2
    if f.kind == "struct":
        return min_wire_fields(s, s.structs[f.struct].fields)
    return 1


# --- writing C


def comment_lines(comment, indent=""):
    if not comment:
        return []
    if len(comment) == 1:
        return [f"{indent}/* {comment[0]} */"]
    return [f"{indent}/*"] + [f"{indent} * {c}".rstrip() for c in comment] + [f"{indent} */"]


def elem_type(f):
    if f.kind == "struct":
        return f"struct {f.struct}"
    return UINTS[f.kind][0] if f.kind in UINTS else "uint8_t"


def c_field(f):
    if f.kind in UINTS:
        return [f"{UINTS[f.kind][0]} {f.name};"]
    if f.kind == "list":
        star = f"(*{f.name})[{f.elem.max}]" if f.elem.kind == "fixed" else f"*{f.name}"
        return [f"{elem_type(f.elem)} {star}; /* at most {f.max} */", f"size_t num_{f.name};"]
    return {
        "i64": [f"int64_t {f.name};"],
        "bool": [f"bool {f.name};"],
        "fixed": [f"uint8_t {f.name}[{f.max}];"],
        "bytes": [f"struct ipc_bytes {f.name}; /* at most {f.max} */"],
        "text": [f"const char *{f.name}; /* at most {f.max} */"],
        "struct": [f"struct {f.struct} {f.name};"],
        "fd": [f"int {f.name}; /* -1: none */"],
    }[f.kind]


def c_struct(m, is_message):
    out = comment_lines(m.comment) + [f"struct {m.name} {{"]
    for f in m.fields:
        out += comment_lines(f.comment, "\t") + ["\t" + line for line in c_field(f)]
    if is_message:
        out.append("\tstruct ipc_mem *ipc_storage; /* of a received message */")
    out.append("};")
    for f in m.fields:
        if f.max:
            size = "LEN" if f.kind == "fixed" else "MAX"
            out.append(f"#define {m.name.upper()}_{f.name.upper()}_{size} {f.max}")
    return out + [""]


def encode_value(f, v):
    if f.kind in UINTS:
        return f"ipc_write_uint(w, {v});"
    return {
        "i64": f"ipc_write_int(w, {v});",
        "bool": f"ipc_write_bool(w, {v});",
        "fixed": f"ipc_write_fixed(w, {v}, {f.max});",
        "bytes": f"ipc_write_bytes(w, {v}, {f.max});",
        "text": f"ipc_write_text(w, {v}, {f.max});",
        "struct": f"put_{f.struct}(w, &{v});",
        "fd": f"ipc_write_fd(w, {v});",
    }[f.kind]


def encode_field(f):
    if f.kind != "list":
        return [encode_value(f, "m->" + f.name)]
    return [f"if (ipc_write_list(w, m->{f.name}, m->num_{f.name}, {f.max})) {{",
            f"\tfor (size_t i = 0; i < m->num_{f.name} && !w->err; i++)",
            "\t\t" + encode_value(f.elem, f"m->{f.name}[i]"), "}"]


def decode_value(f, v):
    if f.kind in UINTS:
        ctype, top = UINTS[f.kind]
        return f"{v} = ({ctype})ipc_read_uint(r, {top});"
    return {
        "i64": f"{v} = ipc_read_int(r);",
        "bool": f"{v} = ipc_read_bool(r);",
        "fixed": f"ipc_read_fixed(r, {v}, {f.max});",
        "bytes": f"{v} = ipc_read_bytes(r, {f.max});",
        "text": f"{v} = ipc_read_text(r, {f.max});",
        "struct": f"get_{f.struct}(r, &{v});",
        "fd": f"{v} = ipc_read_fd(r);",
    }[f.kind]


def decode_field(s, f):
    if f.kind != "list":
        return [decode_value(f, "m->" + f.name)]
    return [f"m->{f.name} = ipc_read_list(r, {f.max}, {min_wire(s, f.elem)}, sizeof(*m->{f.name}), "
            f"&m->num_{f.name});",
            f"for (size_t i = 0; i < m->num_{f.name} && !r->err; i++)",
            "\t" + decode_value(f.elem, f"m->{f.name}[i]")]


def c_put(s, m):
    out = [f"static void put_{m.name}(struct ipc_writer *w, const struct {m.name} *m)", "{"]
    out.append(f"\tipc_write_{'map' if s.keyed else 'array'}(w, {len(m.fields)});")
    for i, f in enumerate(m.fields, 1):
        if s.keyed:
            out.append(f"\tipc_write_uint(w, {i});")
        out += ["\t" + line for line in encode_field(f)]
    return out + ["}", ""]


def c_get(s, m):
    out = [f"static void get_{m.name}(struct ipc_reader *r, struct {m.name} *m)", "{"]
    # Missing fields of a keyed message, and everything after an error, read as these.
    presets = [f"\tm->{f.name} = {'-1' if f.kind == 'fd' else chr(34) * 2};"
               for f in m.fields if f.kind == "fd" or (s.keyed and f.kind == "text")]
    if not s.keyed:
        out += presets
        out.append(f"\tipc_read_array(r, {len(m.fields)});")
        for f in m.fields:
            out += ["\t" + line for line in decode_field(s, f)]
        return out + ["}", ""]
    out += ["\tuint32_t num = ipc_read_map(r);", "\tuint64_t key = 0;", ""]
    out += presets
    out += [f"\tpreset_{f.struct}(&m->{f.name});" for f in m.fields if f.kind == "struct"]
    out += ["\twhile (ipc_read_key(r, &num, &key)) {"]
    for i, f in enumerate(m.fields, 1):
        out.append(f"\t\t{'if' if i == 1 else '} else if'} (key == {i}) {{")
        out += ["\t\t\t" + line for line in decode_field(s, f)]
    out += ["\t\t} else {", "\t\t\tipc_read_skip(r);", "\t\t}"] if m.fields else ["\t\tipc_read_skip(r);"]
    return out + ["\t}", "}", ""]


def c_preset(s, m):
    """A nested struct that is missing in a keyed message: texts are empty, never NULL."""
    out = [f"static void preset_{m.name}(struct {m.name} *m)", "{"]
    out += [f'\tm->{f.name} = "";' for f in m.fields if f.kind == "text"]
    out += [f"\tpreset_{f.struct}(&m->{f.name});" for f in m.fields if f.kind == "struct"]
    if len(out) == 2:
        out.append("\t(void)m;")
    return out + ["}", ""]


def nested(s):
    """Structs that are a field by themselves, or inside of one that is."""
    found = set()

    def visit(fields):
        for f in fields:
            if f.kind == "struct" and f.struct not in found:
                found.add(f.struct)
                visit(s.structs[f.struct].fields)

    for m in list(s.messages()) + list(s.structs.values()):
        visit(m.fields)
    return found


def points(m):
    """Whether its struct may point into the memory of a received message: else it needs none, and no release."""
    return any(f.kind in ("text", "bytes", "list", "struct") for f in m.fields)


def c_codec(s, m):
    n = m.name
    free = "ipc_mem_wipe" if s.secret else "ipc_mem_free"
    fds = [f.name for f in m.fields if f.kind == "fd"]
    out = [f"int {n}_encode(const struct {n} *m, struct ipc_writer *w)", "{",
           f"\tput_{n}(w, m);", "\treturn w->err;", "}", "",
           f"int {n}_decode(struct ipc_reader *r, struct {n} *m)", "{", "\tint e;", "",
           "\tmemset(m, 0, sizeof(*m));", f"\tget_{n}(r, m);",
           "\tm->ipc_storage = r->mem;" if points(m) else f"\t{free}(r->mem);",
           "\tr->mem = NULL;", "\te = ipc_reader_end(r);",
           "\tif (e < 0)", f"\t\t{n}_release(m);", "\treturn e;", "}", "",
           f"void {n}_release(struct {n} *m)", "{"]
    for f in fds:
        out += [f"\tif (m->{f} >= 0)", f"\t\tclose(m->{f});"]
    out += [f"\t{free}(m->ipc_storage);",
            "\texplicit_bzero(m, sizeof(*m));" if s.secret else "\tmemset(m, 0, sizeof(*m));"]
    out += [f"\tm->{f} = -1;" for f in fds]
    return out + ["}", ""]


def c_names(s):
    c = s.name
    every = s.requests + s.notices
    out = [f"const char *{c}_type_name(uint16_t type)", "{", f"\tswitch ((enum {c}_type)type) {{"]
    for m in every:
        out += [f"\tcase {m.name.upper()}:", f'\t\treturn "{m.name}";']
    out += ["\t}", f'\treturn "{c}: unknown message";', "}", "",
            f"const char *{c}_served_by(uint16_t type)", "{", f"\tswitch ((enum {c}_type)type) {{"]
    for role in s.roles():
        out += [f"\tcase {r.name.upper()}:" for r in s.requests if r.role == role]
        out += [f'\t\treturn "{role}";']
    rest = [m for m in every if not getattr(m, "role", None)]
    out += [f"\tcase {m.name.upper()}:" for m in rest] + (["\t\tbreak;"] if rest else [])
    out += ["\t}", "\treturn NULL;", "}", "",
            f"bool {c}_offline(uint16_t type)", "{", f"\tswitch ((enum {c}_type)type) {{"]
    off = [r for r in s.requests if r.offline]
    rest = [m for m in every if m not in off]
    out += [f"\tcase {r.name.upper()}:" for r in off] + (["\t\treturn true;"] if off else [])
    out += [f"\tcase {m.name.upper()}:" for m in rest] + (["\t\tbreak;"] if rest else [])
    return out + ["\t}", "\treturn false;", "}", ""]


def c_check(s):
    c = s.name
    out = [f"int {c}_check(uint16_t type, struct ipc_reader *r)", "{"]
    if s.requests:
        out += [f"\tswitch ((enum {c}_type)type) {{"]
        for q in s.requests:
            out += [f"\tcase {q.name.upper()}: {{", f"\t\tstruct {q.name} m;",
                    f"\t\tint e = {q.name}_decode(r, &m);", "\t\tif (e == 0)",
                    f"\t\t\t{q.name}_release(&m);", "\t\treturn e;", "\t}"]
        if s.notices:
            out += [f"\tcase {n.name.upper()}:" for n in s.notices] + ["\t\tbreak;"]
        out += ["\t}"]
    return out + ["\treturn -ENOSYS;", "}", ""]


def c_wrap_encode(n):
    return [f"static int encode_{n}(const void *msg, struct ipc_writer *w)", "{",
            f"\treturn {n}_encode(msg, w);", "}", ""]


def c_notice_sender(n):
    return c_wrap_encode(n) + [
        f"int {n}(struct ipc_chan *chan, const struct {n} *msg)", "{",
        f"\treturn ipc_send_notice(chan, {n.upper()}, encode_{n}, msg);", "}", ""]


def c_request_sender(n):
    done = f"{n}_done *done, void *arg"
    return c_wrap_encode(n) + [
        f"static int replied_{n}(ipc_any_fn *any, void *arg, int err, struct ipc_reader *r)", "{",
        f"\t{n}_done *done = ({n}_done *)any;", f"\tstruct {n}_reply reply;", "\tint e = 0;", "",
        "\tif (err == 0)", f"\t\terr = e = {n}_reply_decode(r, &reply);",
        "\tif (done)", "\t\tdone(arg, err, err < 0 ? NULL : &reply);",
        "\tif (err == 0)", f"\t\t{n}_reply_release(&reply);", "\treturn e;", "}", "",
        f"int {n}_timeout(struct ipc_chan *chan, const struct {n} *req, unsigned timeout_ms,",
        f"\t{done})", "{",
        f"\treturn ipc_send_request(chan, {n.upper()}, encode_{n}, req, timeout_ms,",
        f"\t\treplied_{n}, (ipc_any_fn *)done, arg);", "}", "",
        f"int {n}(struct ipc_chan *chan, const struct {n} *req, {done})", "{",
        f"\treturn {n}_timeout(chan, req, 0, done, arg);", "}", "",
        f"static int decode_{n}(struct ipc_reader *r, void *msg)", "{",
        f"\treturn {n}_reply_decode(r, msg);", "}", "",
        f"int {n}_wait(struct ipc_chan *chan, const struct {n} *req, int timeout_ms,",
        f"\tstruct {n}_reply *ret)", "{",
        f"\treturn ipc_send_wait(chan, {n.upper()}, encode_{n}, req, timeout_ms,",
        f"\t\tdecode_{n}, ret);", "}", ""]


def c_replier(n):
    return c_wrap_encode(n + "_reply") + [
        f"int {n}_reply(struct ipc_call *call, const struct {n}_reply *reply)", "{",
        f"\treturn ipc_send_reply(call, {n.upper()}, encode_{n}_reply, reply);", "}", ""]


def c_dispatch(s, side, served, messages, is_request):
    """One function that decodes and calls on_...(); returns its name, or NULL when there is nothing."""
    if not messages:
        return [], "NULL"
    c = s.name
    what = "request" if is_request else "notice"
    call = "struct ipc_call *call, " if is_request else ""
    out = [f"static int {what}(void *self, {call}uint16_t type, struct ipc_reader *r)", "{",
           f"\tswitch ((enum {c}_type)type) {{"]
    for m in messages:
        out += [f"\tcase {m.name.upper()}: {{", f"\t\tstruct {m.name} m;",
                f"\t\tint e = {m.name}_decode(r, &m);", "\t\tif (e < 0)", "\t\t\treturn e;",
                f"\t\ton_{m.name}(self, {'call, ' if is_request else ''}&m);",
                f"\t\t{m.name}_release(&m);", "\t\treturn 0;", "\t}"]
    rest = [m for m in s.requests + s.notices if m not in messages]
    out += [f"\tcase {m.name.upper()}:" for m in rest] + (["\t\tbreak;"] if rest else [])
    return out + ["\t}", "\treturn -ENOSYS;", "}", ""], what


def c_side(s, side, role=None):
    """The file of one side: what it sends and what it serves."""
    c = s.name
    is_server = side == "server"
    out = [f'#include "ipc/{c}.gen.h"', "", "#include <errno.h>", "#include <stddef.h>", ""]
    requests = [r for r in s.requests if is_server and role in (None, r.role)]
    incoming = [n for n in s.notices if n.to_server == is_server]
    for n in s.notices:
        if n.to_server != is_server:
            out += c_notice_sender(n.name)
    for r in s.requests:
        if not is_server:
            out += c_request_sender(r.name)
        elif r in requests:
            out += c_replier(r.name)
    text, on_request = c_dispatch(s, side, role, requests, True)
    out += text
    text, on_notice = c_dispatch(s, side, role, incoming, False)
    out += text
    service = f"{c}_{side}_{role}_service" if role else f"{c}_{side}_service"
    return out + [
        f"const struct ipc_service {service} = {{", f'\t.name = "{c}",',
        f"\t.version = {s.version},", f"\t.keyed = {'true' if s.keyed else 'false'},",
        f"\t.secret = {'true' if s.secret else 'false'},",
        f"\t.digest = {c}_digest,", f"\t.type_name = {c}_type_name,",
        f"\t.request = {on_request},", f"\t.notice = {on_notice},",
        f"\t.check = {c}_check,", "};"]


def c_header(s, source, sha):
    c, C = s.name, s.name.upper()
    every = s.requests + s.notices
    out = [f"/* Made by ipc/ipcgen.py of {source}: do not edit. */",
           f"#ifndef BAZIL_IPC_{C}_GEN_H", f"#define BAZIL_IPC_{C}_GEN_H", "",
           '#include "ipc/chan.h"', "", "#include <stdbool.h>", "#include <stddef.h>",
           "#include <stdint.h>", ""]
    out += comment_lines(s.comment)
    out += [f"/* {s.client} asks, {s.server} answers. */",
            f"#define {C}_VERSION {s.version}", f'#define {C}_DIGEST "{sha.hexdigest()}"',
            f"extern const uint8_t {c}_digest[32];", "",
            f"enum {c}_type {{"] + [f"\t{m.name.upper()} = {m.number}," for m in every] + ["};", "",
            "/* Of any number, known or not. */",
            f"const char *{c}_type_name(uint16_t type);",
            "/* Who serves a request; NULL: nobody in particular. */",
            f"const char *{c}_served_by(uint16_t type);",
            "/* Is it served also when no server runs? */", f"bool {c}_offline(uint16_t type);",
            "/* Is this a well-formed request? 0, -EBADMSG, -ENOSYS: no such request. */",
            f"int {c}_check(uint16_t type, struct ipc_reader *r);", "",
            "/* Defined by the process on that side, one for each channel: the self of ipc_chan_open(). */",
            f"struct {c}_client;", f"struct {c}_server;", "",
            f"extern const struct ipc_service {c}_client_service, {c}_server_service;"]
    out += [f"extern const struct ipc_service {c}_server_{role}_service;" for role in s.roles()]
    out.append("")
    for name in s.order:
        out += c_struct(s.structs[name], False)
    for m in s.messages():
        out += c_struct(m, True)
    for r in s.requests:
        n = r.name
        served = f", served by {r.role}" if r.role else ""
        out += [f"/* {n}: {s.client} -> {s.server}{served} */",
                f"typedef void {n}_done(void *arg, int err, const struct {n}_reply *reply);",
                f"int {n}(struct ipc_chan *chan, const struct {n} *req, {n}_done *done, void *arg);",
                f"int {n}_timeout(struct ipc_chan *chan, const struct {n} *req, unsigned timeout_ms,",
                f"\t{n}_done *done, void *arg);",
                f"int {n}_wait(struct ipc_chan *chan, const struct {n} *req, int timeout_ms,",
                f"\tstruct {n}_reply *ret);",
                f"void on_{n}(struct {c}_server *self, struct ipc_call *call, const struct {n} *req);",
                f"int {n}_reply(struct ipc_call *call, const struct {n}_reply *reply);", ""]
    for m in s.notices:
        n = m.name
        a, b = (s.client, s.server) if m.to_server else (s.server, s.client)
        side = "server" if m.to_server else "client"
        out += [f"/* {n}: {a} -> {b} */", f"int {n}(struct ipc_chan *chan, const struct {n} *msg);",
                f"void on_{n}(struct {c}_{side} *self, const struct {n} *msg);", ""]
    out += ["/*", " * Codecs. _decode() takes over the reader's storage and the descriptors that it reads; on failure",
            " * nothing is left to release. _release() frees and closes what a decoded message owns."]
    out += [" * It carries keys: a sent message is its owner's to overwrite, a released one is overwritten."] * s.secret
    out += [" */"]
    for m in s.messages():
        n = m.name
        out += [f"int {n}_encode(const struct {n} *m, struct ipc_writer *w);",
                f"int {n}_decode(struct ipc_reader *r, struct {n} *m);",
                f"void {n}_release(struct {n} *m);"]
    return out + ["", "#endif"]


def c_codecs(s, sha):
    c = s.name
    out = [f'#include "ipc/{c}.gen.h"', "", "#include <errno.h>", "#include <string.h>",
           "#include <unistd.h>", "", f"const uint8_t {c}_digest[32] = {{"]
    hexes = [f"0x{b:02x}," for b in sha.digest()]
    out += ["\t" + " ".join(hexes[i:i + 8]) for i in range(0, 32, 8)] + ["};", ""]
    missing = nested(s) if s.keyed else ()
    for name in s.order:
        m = s.structs[name]
        if name in missing:
            out += c_preset(s, m)
        out += c_put(s, m) + c_get(s, m)
    for m in s.messages():
        out += c_put(s, m) + c_get(s, m) + c_codec(s, m)
    return out + c_check(s) + c_names(s)


def c_fuzz(s):
    """Byte 0 chooses the message, byte 1 how many descriptors came with it; the rest is its body."""
    every = list(s.messages())
    out = [f'#include "ipc/{s.name}.gen.h"', "", "#include <stdlib.h>", "#include <string.h>", "",
           "int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);", "",
           "static uint8_t first[IPC_MSG_MAX], second[IPC_MSG_MAX];", ""]
    for m in every:
        n = m.name
        out += [f"static void try_{n}(struct ipc_reader *r)", "{", f"\tstruct {n} m;",
                "\tstruct ipc_writer a, b;", "\tstruct ipc_reader again;", "",
                f"\tif ({n}_decode(r, &m) < 0)", "\t\treturn;",
                "\tipc_writer_init(&a, first, sizeof(first));",
                f"\tif ({n}_encode(&m, &a) < 0)", "\t\tabort();", f"\t{n}_release(&m);",
                "\tipc_reader_init(&again, first, a.len);",
                f"\tif ({n}_decode(&again, &m) < 0)", "\t\tabort();",
                "\tipc_writer_init(&b, second, sizeof(second));",
                f"\tif ({n}_encode(&m, &b) < 0 || a.len != b.len || memcmp(first, second, a.len) != 0)",
                "\t\tabort();", f"\t{n}_release(&m);", "}", ""]
    out += ["static void (*const tries[])(struct ipc_reader *) = {"]
    out += [f"\ttry_{m.name}," for m in every] + ["};", "",
            "int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)", "{",
            "\tint fds[4] = { -1, -1, -1, -1 };", "\tstruct ipc_reader r;", "",
            "\tif (size < 2 || size > IPC_MSG_MAX / 2)", "\t\treturn 0;",
            "\tipc_reader_init(&r, data + 2, size - 2);", "\tr.fds = fds;", "\tr.num_fds = data[1] % 5;",
            "\ttries[data[0] % (sizeof(tries) / sizeof(tries[0]))](&r);",
            "\tipc_mem_free(r.mem);", "\treturn 0;", "}"]
    return out


# --- well-formed inputs for the fuzz target


def pack_uint(v):
    if v < 0x80:
        return bytes([v])
    for head, size in ((0xcc, 1), (0xcd, 2), (0xce, 4), (0xcf, 8)):
        if v < 1 << (8 * size):
            return bytes([head]) + v.to_bytes(size, "big")
    raise ValueError(v)


def pack_head(n, fix, fix_max, head16):
    if n <= fix_max:
        return bytes([fix | n])
    return bytes([head16]) + n.to_bytes(2, "big")


def pack_bin(b):
    head = bytes([0xc4, len(b)]) if len(b) < 256 else b"\xc5" + len(b).to_bytes(2, "big")
    return head + b


def pack_text(n):
    head = bytes([0xa0 | n]) if n < 32 else bytes([0xd9, n])
    return head + b"a" * n


def sample(s, f, level):
    """A value: level 0 the least, 1 something, 2 the most (or a good deal)."""
    if f.kind in UINTS:
        return pack_uint((0, 7, (1 << int(f.kind[1:])) - 1)[level])
    if f.kind == "i64":
        return (b"\x00", b"\xff", b"\xd3" + b"\x80" + bytes(7))[level]
    if f.kind in ("bool", "fd"):
        return b"\xc3" if level else b"\xc2"
    if f.kind == "fixed":
        return pack_bin(bytes([level]) * f.max)
    if f.kind == "bytes":
        return pack_bin(b"b" * min(f.max, (0, 3, 300)[level]))
    if f.kind == "text":
        return pack_text(min(f.max, (0, 3, 200)[level]))
    if f.kind == "struct":
        return sample_fields(s, s.structs[f.struct].fields, level)
    n = min(f.max, (0, 1, 20)[level])
    return pack_head(n, 0x90, 15, 0xdc) + sample(s, f.elem, level) * n


def sample_fields(s, fields, level):
    if not s.keyed:
        return pack_head(len(fields), 0x90, 15, 0xdc) + b"".join(sample(s, f, level) for f in fields)
    body = b"".join(pack_uint(i) + sample(s, f, level) for i, f in enumerate(fields, 1))
    return pack_head(len(fields), 0x80, 15, 0xde) + body


def write_corpus(s, outdir):
    os.makedirs(outdir, exist_ok=True)
    for i, m in enumerate(s.messages()):
        fds = sum(f.kind == "fd" for f in m.fields)
        for level in range(3):
            data = bytes([i, fds if level else 0]) + sample_fields(s, m.fields, level)
            with open(os.path.join(outdir, f"{m.name}-{level}"), "wb") as f:
                f.write(data)


def write(path, lines, source):
    text = "\n".join(lines) + "\n"
    if not path.endswith(".h"):
        text = f"/* Made by ipc/ipcgen.py of {source}: do not edit. */\n" + text
    with open(path, "w") as f:
        f.write(text)


def generate(s, source, sha, outdir):
    os.makedirs(outdir, exist_ok=True)
    base = os.path.join(outdir, s.name)
    write(base + ".gen.h", c_header(s, source, sha), source)
    write(base + "_codec.gen.c", c_codecs(s, sha), source)
    write(base + "_client.gen.c", c_side(s, "client"), source)
    write(base + "_server.gen.c", c_side(s, "server"), source)
    write(base + "_fuzz.gen.c", c_fuzz(s), source)
    for role in s.roles():
        write(f"{base}_server_{role}.gen.c", c_side(s, "server", role), source)


def main(argv):
    if len(argv) not in (2, 3):
        sys.exit(__doc__)
    mode = argv[0] if argv[0].startswith("--") else ""
    path = argv[1] if mode else argv[0]
    with open(path) as f:
        text = f.read()
    sha = digest(text)
    try:
        schema = Parser(path, text).schema
    except SchemaError as e:
        sys.exit(str(e))
    if mode == "--digest":
        print(sha.hexdigest())
    elif mode == "--corpus":
        write_corpus(schema, argv[2])
    elif mode == "":
        generate(schema, os.path.basename(path), sha, argv[1])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
