// Calls of the REST API. A failure is thrown as a Problem, which holds the response's problem+json (RFC 9457).

export const API = "/api/v1";

/** One of several errors in a problem: a row of a file or a field of a form.
 *  @typedef {{row?: number, field?: string, message: string}} FieldProblem */

export class Problem extends Error {
  /** @param {{title?: string, detail?: string, status?: number, errors?: FieldProblem[], [more: string]: any}} body */
  constructor({ title, detail, status, errors, ...more }) {
    super(detail || title || "The server returned an unexpected response.");
    this.title = title ?? "Something went wrong";
    this.status = status ?? 0;
    this.errors = errors ?? [];
    /** Further members of the response, for example `current` in an edit conflict. */
    this.more = more;
    /** Whether only the beginning of a file was sent. */
    this.isPartial = false;
  }
}

/**
 * @param {string} path below API
 * @param {{method?: string, body?: unknown, signal?: AbortSignal}} [options] body is sent as JSON
 * @returns {Promise<any>} the decoded JSON; null for 204
 * @throws {Problem} for an error status or no response
 */
export async function api(path, { method = "GET", body, signal } = {}) {
  let response;
  try {
    response = await fetch(API + path, {
      method,
      signal,
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error instanceof Error && error.name === "AbortError") throw error;
    throw new Problem({
      title: "No answer",
      detail: "The server does not answer. Is Chesboard still running?",
    });
  }
  if (!response.ok) throw await problemOf(response);
  return response.status === 204 ? null : response.json();
}

/** @param {Response} response */
async function problemOf(response) {
  try {
    return new Problem(await response.json());
  } catch {
    return new Problem({ title: response.statusText, status: response.status });
  }
}

/**
 * The value of a JSON script element of the page.
 *
 * @returns {any}
 */
export function pageData(id = "page-data") {
  const element = document.getElementById(id);
  if (!element) throw new Error(`The page has no JSON element “${id}”.`);
  return JSON.parse(element.textContent ?? "");
}
