/** ONNX Runtime's messages without the places in its own source at which they were made: nobody here can look there. */

const SOURCE_PLACE = /\S*onnxruntime\S*\.(?:cc|cpp|cu|h|hpp|mm):\d+ /;

/** Where the parenthesis that is the first one from `start` closes again; -1 where none does. */
const closing = (text: string, start: number): number => {
  let depth = 0;
  for (let index = start; index < text.length; index++) {
    if (text[index] === '(') depth += 1;
    if (text[index] === ')') depth -= 1;
    if (depth === 0 && text[index] === ')') return index;
  }
  return -1;
};

/** What follows a function's parameters in its signature. */
const SIGNATURE_END = /^(?: const)?(?:::(?:<lambda\([^)]*\)>|operator\(\)[^ ]*))*(?: const)?(?: \[with [^\]]*\])?\s*/;

/** A check that failed, as C++; the sentence for people comes after it. */
const CONDITION = /^[^.]*?(?:\.\S[^.]*?)* was false\. (?=\S)/;

const withoutSignature = (rest: string): string => {
  const open = rest.indexOf('(');
  const end = open < 0 ? -1 : closing(rest, open);
  if (end < 0) return rest;
  return rest
    .slice(end + 1)
    .replace(SIGNATURE_END, '')
    .replace(CONDITION, '');
};

/** The message with every file, line and C++ signature left out, on as few lines as it has. */
export const plainMessage = (message: string): string => {
  const place = SOURCE_PLACE.exec(message);
  if (!place) return message.trim();
  const rest = message.slice(place.index + place[0].length);
  return plainMessage(`${message.slice(0, place.index)}${withoutSignature(rest)}`);
};
