// Decides whether a figure only appends points to the one that is drawn, and appends them.

/** @import { Figure, Trace } from "../lib/types.js" */

/** @typedef {{
 *    mode: string, name: string, color?: string, length: number, firstX: unknown, lastX: unknown, lastY: unknown,
 *  }} TraceShape */
/** What of a drawn figure decides whether the next one only appends to it.
 *  @typedef {{around: string, traces: TraceShape[]}} Shape */

/** Arguments of one call of Plotly.extendTraces; window: how many points the traces keep.
 *  @typedef {{tails: Record<string, unknown[][]>, traces: number[], window?: number}} Extension */

/** @param {Figure} figure before Plotly changes it @returns {Shape} */
export function shapeOf(figure) {
  return {
    around: JSON.stringify([
      figure.layout?.shapes ?? null,
      figure.layout?.annotations ?? null,
      figure.layout?.xaxis?.dtick ?? null,
      figure.layout?.yaxis?.type ?? null,
      figure.layout?.yaxis?.dtick ?? null,
      figure.layout?.yaxis?.range ?? null,
    ]),
    traces: figure.data.map((trace) => ({
      mode: trace.mode,
      name: trace.name,
      color: trace.line?.color,
      length: trace.x?.length ?? 0,
      firstX: trace.x?.[0],
      lastX: trace.x?.at(-1),
      lastY: trace.y?.at(-1),
    })),
  };
}

/** A trace with meta.window holds only its last so many points, so its length does not grow. @param {Trace} trace */
const isWindow = (trace) => Boolean(trace.meta?.window);

/** @param {TraceShape} old @param {Trace} trace */
function grows(old, trace) {
  if (trace.type !== "scatter" || old.mode !== trace.mode || old.name !== trace.name) return false;
  if (old.color !== trace.line?.color) return false;
  if (isWindow(trace)) return old.length > 0 && trace.x.length === old.length;
  return (
    old.length > 0 &&
    trace.x.length >= old.length &&
    trace.x[0] === old.firstX &&
    trace.x[old.length - 1] === old.lastX &&
    trace.y[old.length - 1] === old.lastY
  );
}

/** The arrays of a trace that hold one value a point. @param {Trace} trace @returns {Record<string, unknown[]>} */
function pointwise(trace) {
  /** @type {Record<string, unknown[]>} */
  const lists = { x: trace.x, y: trace.y };
  if (Array.isArray(trace.customdata)) lists.customdata = trace.customdata;
  if (Array.isArray(trace.marker?.color)) lists["marker.color"] = trace.marker.color;
  return lists;
}

/**
 * How to get from a drawn figure to the next one by appending points.
 *
 * @param {Shape} before of the drawn figure
 * @param {Figure} figure the next one
 * @returns {Extension[] | null} null where appending would not give the same picture
 */
export function extensions(before, figure) {
  const after = figure.data;
  const fits =
    before.around === shapeOf({ data: [], layout: figure.layout }).around &&
    before.traces.length === after.length &&
    before.traces.every((old, i) => grows(old, after[i]));
  if (!fits) return null;
  /** @param {TraceShape} old @param {Trace} trace */
  const hasMoved = (old, trace) => old.lastX !== trace.x.at(-1) || old.lastY !== trace.y.at(-1);
  const grown = after
    .map((_, i) => i)
    .filter((i) =>
      isWindow(after[i]) ? hasMoved(before.traces[i], after[i]) : after[i].x.length > before.traces[i].length,
    );
  // Traces whose arrays differ in kind cannot be extended in one call.
  /** @type {Map<string, number[]>} */
  const kinds = new Map();
  for (const i of grown) {
    const kind = `${Object.keys(pointwise(after[i])).join()}|${after[i].meta?.window ?? ""}`;
    kinds.set(kind, [...(kinds.get(kind) ?? []), i]);
  }
  return [...kinds.values()].map((traces) => {
    const { window } = after[traces[0]].meta ?? {};
    const tails = Object.fromEntries(
      Object.keys(pointwise(after[traces[0]])).map((name) => [
        name,
        traces.map((i) => pointwise(after[i])[name].slice(window ? 0 : before.traces[i].length)),
      ]),
    );
    return { tails, traces, window };
  });
}

/**
 * Append the new points to a plot.
 *
 * @param {HTMLElement} plot
 * @param {Shape} before
 * @param {Figure} figure
 * @returns {boolean} false where that would not give the same picture, and nothing was done
 */
export function extend(plot, before, figure) {
  const steps = extensions(before, figure);
  for (const { tails, traces, window } of steps ?? []) Plotly.extendTraces(plot, tails, traces, window);
  return steps !== null;
}
