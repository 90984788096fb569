"""Worker processes killed at random while something else goes on."""
import subprocess
import threading

import harness


class Killer(threading.Thread):
    """Kills workers of these roles, one at a time, until stop(). roles: a name, or names to choose from."""

    def __init__(self, node, roles, rng, pause=(0.05, 0.6)):
        super().__init__(daemon=True)
        self.node, self.rng, self.pause = node, rng, pause
        self.roles = [roles] if isinstance(roles, str) else list(roles)
        self.ending = threading.Event()
        self.kills = 0

    def run(self):
        while not self.ending.wait(self.rng.uniform(*self.pause)):
            role = self.rng.choice(self.roles)
            for pid in harness.children(self.node.server.pid):
                try:
                    with open(f"/proc/{pid}/comm", encoding="ascii") as f:
                        comm = f.read().strip()
                except OSError:
                    continue
                if comm == f"bazil-{role}"[:15]:
                    subprocess.run([*self.node.user.prefix(), "kill", "-KILL", str(pid)], capture_output=True)
                    self.kills += 1

    def stop(self):
        self.ending.set()
        self.join()
        return self.kills

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()


def settle(node):
    """All workers run again."""
    def running():
        try:
            return all(w["state"] == "running" for w in node.status()["workers"])
        except (harness.Failure, ValueError):
            return False
    harness.wait_for(running, f"{node.name}'s workers to run again", 60)
