// Issues of pairs, as the pages speak of them. Their labels come from the server (chesboard/issues.py).

/** What a pair with an issue is to the other pair that it names.
 *  @type {Record<string, string>} */
export const RELATIONS = {
  contradiction: "contradicts",
  conflicting_prompt: "in a circle with",
  duplicate: "repeats",
  repeated_prompt: "same prompt as",
  reused_response: "shares a response with",
};
