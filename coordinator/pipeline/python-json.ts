/** JSON as Python's `json` module writes it. */

/**
 * Parses JSON in which infinities may be bare words (`"lambda_min_clipped": -Infinity`). JSON itself has no word for them,
 * but a number that is too large for float64 says the same. NaN, which no option can be, becomes the word, so that whoever reads the
 * option refuses it by name.
 * @throws SyntaxError
 */
export const parsePythonJson = (text: string): unknown =>
  JSON.parse(
    text.replace(/([:[,]\s*-?)Infinity(?=\s*[,}\]])/g, '$11e999').replace(/([:[,]\s*)NaN(?=\s*[,}\]])/g, '$1"NaN"'),
  );
