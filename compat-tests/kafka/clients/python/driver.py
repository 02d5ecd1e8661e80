"""What the drivers of Python families share: see ../README.md."""

import asyncio
import contextlib
import hashlib
import inspect
import json
import os
import sys
import time

# Ends a request before the matrix gives up on the driver.
LIMIT_S = 50
DEFAULT_MAX_BYTES = 16 << 20
# How many records a member of a group processes at once, and until it commits.
FEW = 10


class Unsupported(Exception):
    """The library has no call for it."""


class Family:
    """A library; its operations are methods, plain or async, that take a request and give a reply or None."""

    def __init__(self, bootstrap, reply):
        self.bootstrap = bootstrap
        self.reply = reply
        self.member = None
        self._kept = {}

    def kept(self, make, *args):
        """What `make` made of these arguments, once for all requests."""
        key = (make.__name__, *args)
        if key not in self._kept:
            self._kept[key] = make(*args)
        return self._kept[key]

    def failure(self, error):
        """The codes of an exception, as a reply has them."""
        return {"client_error": type(error).__name__}

    async def join_group(self, request):
        self.member = await finished(self.new_member(request))

    async def poll_group(self, request):
        if self.member.processed_since_commit >= FEW:
            await finished(self.member.commit())
        deadline = Deadline(request)
        while not self.member.events and (left := deadline.left()) > 0:
            await finished(self.member.poll(min(left, 0.05)))
        return self.member.told()

    async def leave_group(self, _):
        member, self.member = self.member, None
        await finished(member.commit())
        await finished(member.close())
        return member.told()


class Member:
    """What a member of a group went through; `poll`, `commit` and `close`, plain or async, are its library's."""

    def __init__(self, request):
        self.topic = request["topic"]
        self.owned = set()
        self.events = []
        self.uncommitted = {}
        self.processed_since_commit = 0

    def assigned(self, partitions):
        """Tells of those that it did not have."""
        got = {place.partition for place in partitions} - self.owned
        self.owned |= got
        self.events.append({"assigned": sorted(got)})

    def revoked(self, partitions):
        """Tells of those that it had."""
        gone = {place.partition for place in partitions} & self.owned
        self.owned -= gone
        for partition in gone:
            self.uncommitted.pop(partition, None)
        self.events.append({"revoked": sorted(gone)})

    def processed(self, partition, offset):
        self.events.append({"record": [partition, offset]})
        self.uncommitted[partition] = offset + 1
        self.processed_since_commit += 1

    def told(self):
        events, self.events = self.events, []
        return {"events": events}

    @contextlib.contextmanager
    def committing(self):
        """Gives the offsets to commit. That they are refused while the group rebalances is part of a member's life."""
        try:
            yield self.uncommitted.copy()
            self.uncommitted.clear()
            self.processed_since_commit = 0
        except Exception as error:
            print(f"{self.uncommitted} are not committed: {error!r}")


def run(family):
    """Answers what comes on standard input until that ends."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def reply(fields):
        print(json.dumps(fields), file=replies, flush=True)

    asyncio.run(answer_all(family(sys.argv[1], reply)))


async def answer_all(family):
    while line := await asyncio.to_thread(sys.stdin.readline):
        request = json.loads(line)
        try:
            fields = await finished(getattr(family, request["op"])(request))
            family.reply({"ok": True} | (fields or {}))
        except Unsupported as why:
            family.reply({"unsupported": str(why)})
        except Exception as error:
            family.reply({"error": repr(error)} | family.failure(error))
    os._exit(0)


async def finished(result):
    """What a method gave, plain or async."""
    return await result if inspect.isawaitable(result) else result


def data(spec):
    """BYTES of the README."""
    if spec is None:
        return None
    if "text" in spec:
        return spec["text"].encode()
    period = 1 << 16
    made = bytes((i * 31 + (i >> 8) * 17 + spec["seed"] * 7) & 255 for i in range(min(spec["size"], period)))
    return (made * (spec["size"] // period + 1))[: spec["size"]]


def record(told):
    """A record of a request, with bytes in place of what describes them."""
    headers = [(name, data(value)) for name, value in told.get("headers") or []]
    return {
        "key": data(told.get("key")),
        "value": data(told.get("value")),
        "headers": headers,
        "timestamp": told.get("timestamp"),
    }


def seen(offset, timestamp, timestamp_type, key, value, headers):
    """A record as a reply has it."""
    return {
        "offset": offset,
        "timestamp": timestamp,
        "timestamp_type": timestamp_type,
        "key": digest(key),
        "value": digest(value),
        "headers": [[name, digest(value)] for name, value in headers or []],
    }


def seen_record(record):
    """The same of a record whose attributes have these names."""
    return seen(record.offset, record.timestamp, record.timestamp_type, record.key, record.value, record.headers)


def digest(some):
    return None if some is None else {"size": len(some), "sha256": hashlib.sha256(some).hexdigest()}


class Deadline:
    """The end of a request's `timeout_ms`."""

    def __init__(self, request):
        self.timeout_s = request["timeout_ms"] / 1000
        self.restart()

    def restart(self):
        self.end = time.monotonic() + self.timeout_s

    def left(self):
        return self.end - time.monotonic()


def need_all(records, count):
    if len(records) < count:
        raise TimeoutError(f"only {len(records)} of {count} records came")
