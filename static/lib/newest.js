// Answers that come in another order than they were asked for: only that of the newest question counts.

/**
 * A function that waits for an answer, and gives undefined (also for an error) where it was called again meanwhile.
 *
 * @returns {<T>(answer: Promise<T>) => Promise<T | undefined>}
 */
export function newestOnly() {
  let asked = 0;
  return async (answer) => {
    asked += 1;
    const mine = asked;
    try {
      const found = await answer;
      return mine === asked ? found : undefined;
    } catch (problem) {
      if (mine === asked) throw problem;
      return undefined;
    }
  };
}
