// The figure of a forecast against what training measured, a point a pair.

import { faded, layout } from "./frame.js";

/** @import { Colors, Figure } from "../lib/types.js" */

/** @typedef {{pair: number, forecast: number, change: number}} ForecastPoint */
/** @typedef {{pairs: number, forecast: number, change: number, fell: number}} ForecastBin */

const FALLEN = -1e-4; // nats, as chesboard.records.STILL_NATS has it

/** Whether the sign came out as forecast. @param {ForecastPoint} point */
export const isHit = ({ forecast, change }) => forecast < 0 === change < FALLEN;

/**
 * @param {ForecastPoint[]} points
 * @param {ForecastBin[]} bins drawn as a line through their means
 * @param {Colors} colors
 * @returns {Figure}
 */
export function forecastFigure(points, bins, colors) {
  const zero = { zeroline: true, zerolinecolor: colors.ink2, zerolinewidth: 1 };
  /** @param {string} name @param {ForecastPoint[]} shown @param {string} color @param {string} symbol */
  const cloud = (name, shown, color, symbol) => ({
    type: "scatter",
    mode: "markers",
    name,
    x: shown.map((point) => point.forecast),
    y: shown.map((point) => point.change),
    customdata: shown.map((point) => point.pair),
    marker: { color: faded(color, 0.65), size: 7, symbol },
    hovertemplate: "pair %{customdata}<br>forecast %{x:.4~g}<br>%{y:+.3f} nats<extra></extra>",
  });
  return {
    data: [
      cloud("sign as forecast", points.filter(isHit), colors.preferred, "circle"),
      cloud(
        "sign missed",
        points.filter((point) => !isHit(point)),
        colors.dispreferred,
        "diamond",
      ),
      {
        type: "scatter",
        mode: "lines+markers",
        name: "means of tenths",
        x: bins.map((bin) => bin.forecast),
        y: bins.map((bin) => bin.change),
        customdata: bins.map((bin) => [bin.pairs, bin.fell]),
        line: { color: colors.ink, width: 1.5 },
        marker: { color: colors.ink, size: 5 },
        hovertemplate:
          "%{customdata[0]} pairs, %{customdata[1]} fell<br>mean forecast %{x:.4~g}<br>%{y:+.3f} nats<extra></extra>",
      },
    ],
    layout: layout(colors, {
      x: { title: "forecast, per unit of learning rate", showgrid: true, ...zero },
      y: { title: "measured change of log p(y+), nats", ...zero },
      hovermode: "closest",
    }),
  };
}
