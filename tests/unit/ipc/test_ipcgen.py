#!/usr/bin/env python3
"""What the schema compiler refuses, and that it says where. Usage: test_ipcgen.py IPCGEN"""
import os
import subprocess
import sys
import tempfile
import unittest

IPCGEN = ""
HEAD = "channel ab one -> two version 1\n"


def compile_schema(text):
    with tempfile.TemporaryDirectory() as tmp:
        path = os.path.join(tmp, "x.msg")
        with open(path, "w") as f:
            f.write(text)
        r = subprocess.run([sys.executable, IPCGEN, path, os.path.join(tmp, "out")],
                           capture_output=True, text=True)
        made = {}
        if r.returncode == 0:
            for name in os.listdir(os.path.join(tmp, "out")):
                with open(os.path.join(tmp, "out", name)) as f:
                    made[name] = f.read()
        return r.returncode, r.stderr, made


class Ipcgen(unittest.TestCase):
    def refused(self, line, why, text):
        code, err, _ = compile_schema(text)
        self.assertEqual(code, 1, text)
        self.assertIn(why, err)
        self.assertIn(f"x.msg:{line}:" if line else "x.msg:", err)
        self.assertNotIn("Traceback", err)

    def test_refuses_malformed_declarations(self):
        self.refused(0, "no channel", "# nothing\n")
        self.refused(1, "first declaration", "struct x\n\ta\tu8\n")
        self.refused(1, "expected once", "channel ab one two version 1\n")
        self.refused(2, "expected once", HEAD + HEAD)
        self.refused(1, "malformed channel", "channel ab one -> one version 1\n")
        self.refused(2, "unknown declaration", HEAD + "message ab_x 1\n")
        self.refused(2, "begin with ab_", HEAD + "request x 1\nreply\n")
        self.refused(2, "numbers are from", HEAD + "request ab_x 0\nreply\n")
        self.refused(4, "numbers are from", HEAD + "request ab_x 1\nreply\nrequest ab_y 1\nreply\n")
        self.refused(4, "declared twice", HEAD + "request ab_x 1\nreply\nrequest ab_x 2\nreply\n")
        self.refused(0, "has no reply", HEAD + "request ab_x 1\n")
        self.refused(2, "reply belongs", HEAD + "reply\n")
        self.refused(2, "expected: notice", HEAD + "notice ab_x 1 one -> three\n")
        self.refused(2, "unknown", HEAD + "request ab_x 1 served for me\nreply\n")

    def test_refuses_malformed_fields(self):
        def field(line):
            return HEAD + "request ab_x 1\n\t" + line + "\nreply\n"

        self.refused(3, "unknown type", field("a\tu128"))
        self.refused(3, "unknown type", field("a\tbytes"))
        self.refused(3, "positive number", field("a\tbytes many"))
        self.refused(3, "positive number", field("a\tfixed 0"))
        self.refused(3, "does not fit", field("a\tbytes 1000000"))
        self.refused(3, "cannot hold", field("a\tlist 3 text 5"))
        self.refused(3, "no struct", field("a\tlist 3 nobody"))
        self.refused(3, "no struct", field("a\tstruct nobody"))
        self.refused(3, "is no name", field("A\tu8"))
        self.refused(4, "declared twice", field("a\tu8\n\ta\tu8"))
        self.refused(4, "declared twice", field("a\tlist 2 u32\n\tnum_a\tu8"))
        self.refused(3, "takes nothing", field("a\tu8 5"))
        self.refused(3, "contains itself", HEAD + "struct s\n\ta\tlist 2 s\n")
        self.refused(3, "only be a field of a message", HEAD + "struct s\n\ta\tfd\n")
        self.refused(2, "too many descriptors",
                     HEAD.replace("\n", " keyed\n") + "request ab_x 1\n\ta\tfd\nreply\n")
        self.refused(2, "does not fit", HEAD + "request ab_x 1\n\ta\tfixed 100000\n\tb\tfixed 100000\nreply\n")

    def test_a_secret_channel_is_overwritten(self):
        text = HEAD.replace("\n", "%s\n") + "request ab_x 1\nreply\n\ta\tlist 3 u32\n"
        self.refused(1, "malformed channel", text % " hidden")
        self.refused(1, "malformed channel", text % " secret keyed")
        for words, wiped in (("", False), (" keyed", False), (" secret", True), (" keyed secret", True)):
            made = compile_schema(text % words)[2]
            self.assertEqual("ipc_mem_wipe(m->ipc_storage)" in made["ab_codec.gen.c"], wiped)
            self.assertEqual("ipc_mem_free(" in made["ab_codec.gen.c"], not wiped)
            for side in ("ab_client.gen.c", "ab_server.gen.c"):
                self.assertIn(".secret = " + ("true" if wiped else "false"), made[side])

    def test_comments_and_white_space_do_not_change_the_digest(self):
        def digest_of(text):
            made = compile_schema(text)[2]["ab.gen.h"]
            return [line for line in made.splitlines() if "AB_DIGEST" in line]

        plain = HEAD + "request ab_x 1\n\ta\tu8\nreply\n"
        noisy = "# why\n" + HEAD + "\n\n# what\nrequest  ab_x 1  # here\n\ta  u8\n\nreply\n"
        self.assertEqual(digest_of(plain), digest_of(noisy))
        self.assertNotEqual(digest_of(plain), digest_of(plain.replace("u8", "u16")))

    def test_carries_comments_into_the_header(self):
        made = compile_schema(HEAD + "# Asks.\nrequest ab_x 1\n\t# in bytes\n\ta\tu8\nreply\n")[2]
        self.assertIn("/* Asks. */\nstruct ab_x {\n\t/* in bytes */\n\tuint8_t a;", made["ab.gen.h"])

    def test_makes_a_service_for_each_role(self):
        made = compile_schema(HEAD + "request ab_x 1 served by k\nreply\nrequest ab_y 2 served by l\nreply\n")[2]
        self.assertIn("on_ab_x(self", made["ab_server_k.gen.c"])
        self.assertNotIn("on_ab_y(self", made["ab_server_k.gen.c"])
        self.assertIn("on_ab_y(self", made["ab_server.gen.c"])


if __name__ == "__main__":
    IPCGEN = sys.argv.pop(1)
    unittest.main()
