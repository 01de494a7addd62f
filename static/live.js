// A run's events as they happen. What was missed while the connection was away comes first when
// it is back (Last-Event-ID), so that there is neither a gap nor a point twice.

import { API } from "./api.js";

const EVENTS = ["status", "progress", "metric", "probe", "answer"];
const RETRY_MS = 1500;

/** handlers: {status, progress, metric, probe, answer, end, connection(isUp)}. Returns what stops it. */
export function follow(runId, since, handlers) {
  let last = since;
  let source = null;
  let timer = 0;

  function open() {
    source = new EventSource(`${API}/runs/${runId}/events?since=${last}`);
    source.onopen = () => handlers.connection?.(true);
    source.onerror = () => {
      handlers.connection?.(false);
      // The browser reconnects by itself unless the server refused; then we do.
      if (source.readyState === EventSource.CLOSED) timer = setTimeout(open, RETRY_MS);
    };
    for (const name of EVENTS) {
      source.addEventListener(name, (event) => {
        if (event.lastEventId) last = event.lastEventId;
        handlers[name]?.(JSON.parse(event.data));
      });
    }
    source.addEventListener("end", (event) => {
      stop();
      handlers.end?.(event.data ? JSON.parse(event.data) : null);
    });
  }

  function stop() {
    clearTimeout(timer);
    source.close();
  }

  open();
  addEventListener("pagehide", stop);
  return stop;
}
