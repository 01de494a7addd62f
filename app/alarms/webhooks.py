"""Sends alarms to the webhooks of the settings, from a thread for each: none waits for another.

The body is JSON that Slack's incoming webhooks take: {"text": …}. With CHESBOARD_WEBHOOK_SECRET it
is signed: the header X-Chesboard-Signature is `t=SECONDS,v1=HEX`, HEX the HMAC-SHA256 of
"SECONDS.BODY". An address is resolved before each try and the connection goes to what was resolved,
so that no name can lead into a private network later on; redirects are not followed, and no more is
read of an answer than its head.
"""

import asyncio
import hashlib
import hmac
import ipaddress
import json
import logging
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from html import escape
from typing import Any
from urllib.parse import urlsplit

import httpx
from sqlalchemy import func, select, update
from sqlalchemy.exc import SQLAlchemyError

from app.core.database import transaction
from app.core.settings import Settings, get_settings
from app.store.alarms import Alarm, AlarmDelivery
from app.store.runs import Run

INTERVAL_SECONDS = 5.0
STOP_SECONDS = 5.0
TIMEOUT_SECONDS = 10.0
"""For one message, from the connection to the head of the answer, however slowly that comes."""
CLAIM = timedelta(minutes=1)
"""How long a message is one process's, which may die before it has been sent."""
FIRST_WAIT = timedelta(seconds=30)
LONGEST_WAIT = timedelta(hours=6)
MAX_TRIES = 10

log = logging.getLogger(__name__)


class WebhookError(Exception):
    """A message could not be delivered; the text holds no part of the address but its host."""


def send(settings: Settings, address: str, text: str, at: float | None = None) -> None:
    """Send one message.

    Raises:
        WebhookError: why it did not arrive.
    """
    body = json.dumps({"text": text}).encode("ascii")
    headers = {"content-type": "application/json", "user-agent": "chesboard"}
    if settings.webhook_secret is not None:
        secret = settings.webhook_secret.get_secret_value()
        headers["x-chesboard-signature"] = sign(secret, body, int(at or time.time()))
    parts = urlsplit(address)
    host = parts.hostname or ""
    ip = resolve(host, private=settings.webhook_private)
    port = f":{parts.port}" if parts.port else ""
    literal = f"[{ip}]" if ":" in ip else ip
    target = parts._replace(netloc=f"{literal}{port}").geturl()
    try:
        status = asyncio.run(
            _post(target, body, {**headers, "host": f"{host}{port}"}, sni_hostname=host)
        )
    except (httpx.HTTPError, TimeoutError) as error:
        raise WebhookError(f"{host} does not answer ({type(error).__name__})") from None
    if not 200 <= status < 300:
        raise WebhookError(f"{host} answered with status {status}")


async def _post(address: str, body: bytes, headers: Mapping[str, str], sni_hostname: str) -> int:
    """The status of the answer; what follows its head may be endless, and is not read.

    Raises:
        httpx.HTTPError, TimeoutError: there was none, or not in time.
    """
    # trust_env: a proxy of the environment would resolve the name again.
    # httpx's own timeout is that of one read, and an answer may come a byte at a time.
    async with (
        asyncio.timeout(TIMEOUT_SECONDS),
        httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False) as http,
        http.stream(
            "POST",
            address,
            content=body,
            headers=headers,
            extensions={"sni_hostname": sni_hostname},
        ) as response,
    ):
        return response.status_code


def sign(secret: str, body: bytes, seconds: int) -> str:
    """The value of X-Chesboard-Signature."""
    signed = hmac.new(secret.encode(), b"%d.%s" % (seconds, body), hashlib.sha256)
    return f"t={seconds},v1={signed.hexdigest()}"


def resolve(host: str, *, private: bool) -> str:
    """An address of the host.

    Raises:
        WebhookError: it has none, or one of a private network, which is not allowed.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise WebhookError(f"{host} cannot be resolved") from None
    addresses = [str(entry[4][0]) for entry in found]
    if not private and not all(map(_is_public, addresses)):
        raise WebhookError(
            f"{host} is in a private network; CHESBOARD_WEBHOOK_PRIVATE=true allows that"
        )
    return addresses[0]


def _is_public(address: str) -> bool:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    parsed = getattr(parsed, "ipv4_mapped", None) or parsed
    return parsed.is_global and not parsed.is_multicast


def message_of(alarm: Alarm, run: Run) -> str:
    step = "" if alarm.step is None else f" (step {alarm.step:,})"
    # Slack reads & < > as markup.
    name = escape(run.name, quote=False)
    return f"Chesboard, run {run.id} “{name}”: {alarm.message}{step}."


def wait_after(tries: int) -> timedelta | None:
    """How long to wait after so many failed tries; None: give up."""
    if tries >= MAX_TRIES:
        return None
    return min(LONGEST_WAIT, FIRST_WAIT * float(2 ** (tries - 1)))


@dataclass(frozen=True, slots=True)
class _Message:
    """One that this process is to send."""

    alarm_id: int
    webhook: int
    tries: int
    text: str


def deliver_due(thread: int = 0, threads: int = 1) -> int:
    """Send what is due, one message at a time; how many were tried.

    thread: which of so many threads, among which the webhooks are divided, this is.
    """
    settings, tried = get_settings(), 0
    while (message := _claim(thread, threads)) is not None:
        _deliver(settings, message)
        tried += 1
    return tried


def _claim(thread: int, threads: int) -> _Message | None:
    """A message that is due, which no other process sends meanwhile."""
    # No transaction stays open while it is sent: others wait for its connection.
    with transaction() as session:
        row = session.execute(
            select(AlarmDelivery, Alarm, Run)
            .join(Alarm, Alarm.id == AlarmDelivery.alarm_id)
            .join(Run, Run.id == Alarm.run_id)
            .where(
                AlarmDelivery.next_at <= func.clock_timestamp(),
                AlarmDelivery.webhook % threads == thread,
            )
            .order_by(AlarmDelivery.next_at)
            .limit(1)
            .with_for_update(of=AlarmDelivery, skip_locked=True)
        ).one_or_none()
        if row is None:
            return None
        delivery, alarm, run = row
        delivery.tries += 1
        delivery.next_at = func.clock_timestamp() + CLAIM
        return _Message(alarm.id, delivery.webhook, delivery.tries, message_of(alarm, run))


def _deliver(settings: Settings, message: _Message) -> None:
    addresses = settings.webhooks
    try:
        if message.webhook >= len(addresses):
            raise WebhookError("the settings name no such webhook any more")
        send(settings, addresses[message.webhook], message.text)
    except WebhookError as error:
        wait = wait_after(message.tries)
        next_at = None if wait is None else func.clock_timestamp() + wait
        _note(message, error=str(error), next_at=next_at)
        log.warning(
            "alarm %s, webhook %s, try %s: %s",
            message.alarm_id,
            message.webhook,
            message.tries,
            error,
        )
    else:
        _note(message, error=None, next_at=None, sent_at=func.clock_timestamp())
        log.info("alarm %s was sent to webhook %s", message.alarm_id, message.webhook)


def _note(message: _Message, **values: Any) -> None:
    """Note how a try ended, unless another process has tried since."""
    with transaction() as session:
        session.execute(
            update(AlarmDelivery)
            .where(
                AlarmDelivery.alarm_id == message.alarm_id,
                AlarmDelivery.webhook == message.webhook,
                AlarmDelivery.tries == message.tries,
            )
            .values(**values)
        )


class Messenger:
    """Threads that send what is due, one for each webhook, until stopped."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        count = len(get_settings().webhooks)
        for number in range(count):
            thread = threading.Thread(
                target=self._run, args=(number, count), name=f"messenger-{number}", daemon=True
            )
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        self._stop.set()
        ends = time.monotonic() + STOP_SECONDS
        for thread in self._threads:
            thread.join(timeout=max(0.0, ends - time.monotonic()))

    def _run(self, number: int, count: int) -> None:
        while not self._stop.wait(INTERVAL_SECONDS):
            try:
                deliver_due(number, count)
            except SQLAlchemyError as error:
                log.warning("no alarm is sent: %s", str(error).splitlines()[0])
