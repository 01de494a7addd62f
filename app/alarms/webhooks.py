"""Sends alarms to the webhooks of the settings, from a thread of its own.

The body is JSON that Slack's incoming webhooks take: {"text": …}. With CHESBOARD_WEBHOOK_SECRET it
is signed: the header X-Chesboard-Signature is `t=SECONDS,v1=HEX`, HEX the HMAC-SHA256 of
"SECONDS.BODY". An address is resolved before each try and the connection goes to what was resolved,
so that no name can lead into a private network later on; redirects are not followed.
"""

import hashlib
import hmac
import ipaddress
import json
import logging
import socket
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from html import escape
from urllib.parse import urlsplit

import httpx
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from app.core.database import transaction
from app.core.settings import Settings, get_settings
from app.store.alarms import Alarm, AlarmDelivery
from app.store.runs import Run

INTERVAL_SECONDS = 5.0
TIMEOUT_SECONDS = 10.0
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
        # trust_env: a proxy of the environment would resolve the name again.
        with httpx.Client(timeout=TIMEOUT_SECONDS, trust_env=False) as http:
            response = http.post(
                target,
                content=body,
                headers={**headers, "host": f"{host}{port}"},
                extensions={"sni_hostname": host},
            )
    except httpx.HTTPError as error:
        raise WebhookError(f"{host} does not answer ({type(error).__name__})") from None
    if not response.is_success:
        raise WebhookError(f"{host} answered with status {response.status_code}")


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


def deliver_due() -> int:
    """Send what is due, one message at a time; how many were tried."""
    settings, tried = get_settings(), 0
    addresses = settings.webhooks
    while _deliver_one(settings, addresses):
        tried += 1
    return tried


def _deliver_one(settings: Settings, addresses: Sequence[str]) -> bool:
    # The row stays locked while it is sent, so that no other web process sends it too.
    with transaction() as session:
        row = session.execute(
            select(AlarmDelivery, Alarm, Run)
            .join(Alarm, Alarm.id == AlarmDelivery.alarm_id)
            .join(Run, Run.id == Alarm.run_id)
            .where(AlarmDelivery.next_at <= func.clock_timestamp())
            .order_by(AlarmDelivery.next_at)
            .limit(1)
            .with_for_update(of=AlarmDelivery, skip_locked=True)
        ).one_or_none()
        if row is None:
            return False
        delivery, alarm, run = row
        delivery.tries += 1
        try:
            if delivery.webhook >= len(addresses):
                raise WebhookError("the settings name no such webhook any more")
            send(settings, addresses[delivery.webhook], message_of(alarm, run))
        except WebhookError as error:
            wait = wait_after(delivery.tries)
            delivery.error = str(error)
            delivery.next_at = None if wait is None else func.clock_timestamp() + wait
            log.warning(
                "alarm %s, webhook %s, try %s: %s",
                alarm.id,
                delivery.webhook,
                delivery.tries,
                error,
            )
        else:
            delivery.error = delivery.next_at = None
            delivery.sent_at = func.clock_timestamp()
            log.info("alarm %s was sent to webhook %s", alarm.id, delivery.webhook)
        return True


class Messenger:
    """A thread that sends what is due, until stopped. Does nothing without webhooks."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="messenger", daemon=True)

    def start(self) -> None:
        if get_settings().webhooks:
            self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL_SECONDS):
            try:
                deliver_due()
            except SQLAlchemyError as error:
                log.warning("no alarm is sent: %s", str(error).splitlines()[0])
