/** Marks in a prompt that mean something in other programs and are words like any other here: told, as the picture does not show it. */

const MARKS: readonly { readonly pattern: RegExp; readonly advice: string }[] = [
  { pattern: /\([^()]*:\s*\d+(?:\.\d+)?\s*\)/, advice: 'weights of words have no effect here; say what matters first' },
  {
    pattern: /<(?:lora|lyco|hypernet|embedding):[^>]*>/i,
    advice: 'nothing is loaded for it; merge it into the model before the export',
  },
  { pattern: /\bBREAK\b/, advice: 'a prompt is not divided here; leave it out' },
];

/**
 * One sentence a mark.
 * @param name what it is called in sentences: `prompt`
 */
export const syntaxWarnings = (name: string, prompt: string): readonly string[] =>
  MARKS.flatMap(({ pattern, advice }) => {
    const found = pattern.exec(prompt)?.[0];
    return found === undefined ? [] : [`The ${name} has "${found}", which is read as words: ${advice}.`];
  });
