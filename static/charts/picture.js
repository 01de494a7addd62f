// Exports charts as PNG and SVG files. A failure is shown to the user, which Plotly.downloadImage would only throw.

import { saveFile, toast } from "../lib/dom.js";

const TYPES = { png: "image/png", svg: "image/svg+xml" };
const PNG_SCALE = 2; // sharp on screens of high density, and in print

/**
 * Save a figure as `${name}.png` or `${name}.svg`.
 *
 * @param {import("../lib/types.js").Figure} figure
 * @param {{name: string, format: string, width: number, height: number}} options width and height in CSS pixels
 */
export async function savePicture(figure, { name, format, width, height }) {
  try {
    const scale = format === "png" ? PNG_SCALE : 1;
    const drawn = await Plotly.toImage(figure, { format, width, height, scale, imageDataOnly: true });
    const content = format === "png" ? Uint8Array.from(atob(drawn), (char) => char.charCodeAt(0)) : drawn;
    saveFile(`${name}.${format}`, content, TYPES[format]);
  } catch (error) {
    const kind = format.toUpperCase();
    const reason = error instanceof Error ? error.message : error;
    toast(`This chart could not be saved as ${kind} (${reason}). Its CSV holds the same numbers.`);
  }
}
