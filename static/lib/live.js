// A run's events as they happen. What was missed while the connection was away comes first when
// it is back (Last-Event-ID), so that there is neither a gap nor a point twice.

import { API } from "./api.js";

const EVENTS = ["status", "progress", "metric", "probe", "answer"];
const RETRY_MS = 1500;

const LOST = "Connection lost; catching up…";
const STORE_AWAY = "The database does not answer. The run goes on meanwhile; catching up once it is back…";

/** handlers: {status, progress, metric, probe, answer, end, connection(trouble)}, where trouble is
 * what to say, or null where all is well. Returns what stops it. */
export function follow(runId, since, handlers) {
  let last = since;
  let source = null;
  let timer = 0;

  function open() {
    source = new EventSource(`${API}/runs/${runId}/events?since=${last}`);
    source.onopen = () => handlers.connection?.(null);
    source.onerror = () => {
      handlers.connection?.(LOST);
      // The browser reconnects by itself unless the server refused; then we do.
      if (source.readyState === EventSource.CLOSED) timer = setTimeout(open, RETRY_MS);
    };
    for (const name of EVENTS) {
      source.addEventListener(name, (event) => {
        if (event.lastEventId) last = event.lastEventId;
        handlers[name]?.(JSON.parse(event.data));
      });
    }
    source.addEventListener("store", (event) => {
      handlers.connection?.(JSON.parse(event.data).answers ? null : STORE_AWAY);
    });
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
