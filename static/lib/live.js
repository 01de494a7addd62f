// Follows a run's Server-Sent Events. After a lost connection the stream resumes from the last event id
// (Last-Event-ID), so that no event is missed.

import { API } from "./api.js";

const EVENTS = ["status", "progress", "rewound", "metric", "probe", "answer", "quiet"];
const RETRY_MS = 1500;

const LOST = "Connection lost; catching up…";
const STORE_AWAY = "The database does not answer. The run goes on meanwhile; catching up once it is back…";

/**
 * @typedef {{
 *   [event: string]: ((data: any) => unknown) | undefined,
 *   connection?: (trouble: string | null) => unknown,
 *   end?: (data: any) => unknown,
 * }} Handlers one for each event; connection(trouble): what is wrong with the connection in words, null: nothing
 */

/**
 * @param {number} runId
 * @param {number | string} since the revision or event id after which events are wanted
 * @param {Handlers} handlers
 * @returns {() => void} stops following
 */
export function follow(runId, since, handlers) {
  let last = since;
  /** @type {EventSource | null} */
  let source = null;
  let timer = 0;

  function open() {
    const opened = new EventSource(`${API}/runs/${runId}/events?since=${last}`);
    source = opened;
    opened.onopen = () => handlers.connection?.(null);
    opened.onerror = () => {
      handlers.connection?.(LOST);
      // The browser reconnects by itself unless the server refused the request; then this does.
      if (opened.readyState === EventSource.CLOSED) timer = setTimeout(open, RETRY_MS);
    };
    for (const name of EVENTS) {
      opened.addEventListener(name, (event) => {
        if (event.lastEventId) last = event.lastEventId;
        handlers[name]?.(JSON.parse(event.data));
      });
    }
    opened.addEventListener("store", (event) => {
      handlers.connection?.(JSON.parse(event.data).answers ? null : STORE_AWAY);
    });
    opened.addEventListener("end", (event) => {
      stop();
      handlers.end?.(event.data ? JSON.parse(event.data) : null);
    });
  }

  function stop() {
    clearTimeout(timer);
    source?.close();
  }

  open();
  addEventListener("pagehide", stop);
  return stop;
}
