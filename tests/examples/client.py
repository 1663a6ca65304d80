"""client.py TENANT USER: ends with 0 if the user has an active session, with 1 if not, with 2 if nobody knows."""

import os
import sys
import time
import urllib.parse

import httpx


class Unknown(Exception):
    """There is no answer: neither yes nor no."""


client = httpx.Client(  # one for the process: its connections are used again
    base_url=os.environ["SESSILE_URL"],
    headers={"X-API-Key": os.environ["SESSILE_KEY"]},
    timeout=httpx.Timeout(2.0, connect=0.5),
)


def is_active(tenant, user, tries=3):
    path = f"/internal/session/sessions/{urllib.parse.quote(user, safe='')}/active"
    reason = "not asked"
    for left in reversed(range(tries)):
        pause = 0.1
        try:
            response = client.get(path, headers={"X-Tenant-ID": tenant})
        except httpx.TransportError as error:  # a question changes nothing: it may be asked again
            reason = str(error)
        else:
            if response.status_code == 200:
                return response.json()["active"]
            problem = response.json()
            reason = f"{problem['status']} {problem['detail']} ({problem['request_id']})"
            if response.status_code not in (429, 503):
                break  # asked again it would fail the same way
            pause = min(float(response.headers["Retry-After"]), 2.0)
        if left:
            time.sleep(pause)
    raise Unknown(reason)


if __name__ == "__main__":
    try:
        sys.exit(0 if is_active(*sys.argv[1:3]) else 1)
    except Unknown as unknown:
        print(unknown, file=sys.stderr)
        sys.exit(2)
