"""A login system that a test can set: a file, a server and a socket of its own, gone afterwards."""

import contextlib
import http.client
import json
import os
import pathlib
import socket
import subprocess
import tempfile
import urllib.parse

SESSILE = os.environ.get("SESSILE", "sessile")
KEY = "a-key-for-tests"


class Sessile:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.socket = self.folder / "sock"
        (self.folder / "sessile.toml").write_text(
            f'mode = "development"\nserver.listen = "unix:{self.socket}"\n'
            f'[[auth.keys]]\nname = "tests"\nkey = "{KEY}"\n'
        )

    def run(self, *args, **options):
        subprocess.run([SESSILE, *args], cwd=self.folder, check=True, text=True, capture_output=True, **options)

    def sessions(self, *sessions):
        """Takes sessions in, with instants relative to now: they count from the next request on."""
        self.run("import", "-", input="\n".join(map(json.dumps, sessions)))

    def active(self, tenant, user, now=None):
        headers = {"X-API-Key": KEY, "X-Tenant-ID": tenant}
        if now:
            headers["X-Sessile-Now"] = now
        connection = http.client.HTTPConnection("localhost", timeout=5)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(self.socket))
        user = urllib.parse.quote(user, safe="")
        connection.request("GET", f"/internal/session/sessions/{user}/active", headers=headers)
        response = connection.getresponse()
        assert response.status == 200, response.read()
        return json.load(response)["session_count"]


@contextlib.contextmanager
def sessile():
    with tempfile.TemporaryDirectory() as folder:
        own = Sessile(folder)
        own.run("init")
        server = subprocess.Popen([SESSILE, "serve"], cwd=folder, stdout=subprocess.PIPE, text=True)
        try:
            server.stdout.readline()  # "listening on …": from here on it answers
            yield own
        finally:
            server.terminate()
            server.communicate()


def test_a_session_ends_at_its_deadline():
    with sessile() as login:
        login.sessions(
            {"tenant_id": "acme", "id": "s1", "user_id": "alice", "expires_in": "1h"},
            {"tenant_id": "acme", "id": "s2", "user_id": "alice", "expires_in": "-1s"},
            {"tenant_id": "acme", "id": "s3", "user_id": "bob", "expires_at": "2030-01-01T00:00:00Z"},
        )
        assert login.active("acme", "alice") == 1
        assert login.active("acme", "bob", now="2029-12-31T23:59:59.999Z") == 1
        assert login.active("acme", "bob", now="2030-01-01T00:00:00Z") == 0


def test_each_test_has_a_file_of_its_own():
    with sessile() as login:
        assert login.active("acme", "alice") == 0


if __name__ == "__main__":  # or by pytest
    test_a_session_ends_at_its_deadline()
    test_each_test_has_a_file_of_its_own()
    print("2 passed")
