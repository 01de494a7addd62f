// Charts as files, drawn by Plotly and saved the way every other file of a page is, so that a
// picture that cannot be made is told to whoever asked for it (Plotly.downloadImage only throws).

import { saveFile, toast } from "../lib/dom.js";

const TYPES = { png: "image/png", svg: "image/svg+xml" };
const PNG_SCALE = 2; // sharp on screens of high density, and in print

/** Save a figure as `${name}.png` or `${name}.svg`; width and height in CSS pixels. */
export async function savePicture(figure, { name, format, width, height }) {
  try {
    const scale = format === "png" ? PNG_SCALE : 1;
    const drawn = await Plotly.toImage(figure, { format, width, height, scale, imageDataOnly: true });
    const content = format === "png" ? Uint8Array.from(atob(drawn), (char) => char.charCodeAt(0)) : drawn;
    saveFile(`${name}.${format}`, content, TYPES[format]);
  } catch (error) {
    const kind = format.toUpperCase();
    toast(`This chart could not be saved as ${kind} (${error.message ?? error}). Its CSV holds the same numbers.`);
  }
}
