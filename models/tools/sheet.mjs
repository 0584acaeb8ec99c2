/** Grids of pictures with a line or two of text under each, as PNG. */
import { writeFileSync } from 'node:fs';
import { encode } from 'fast-png';

/** Capitals of 3 by 5 dots: five rows of three bits each. */
const GLYPHS = {
  a: '25755', b: '65656', c: '34443', d: '65556', e: '74647', f: '74644', g: '34553', h: '55755', i: '72227',
  j: '11152', k: '55655', l: '44447', m: '57755', n: '65555', o: '25552', p: '65644', q: '25563', r: '65655',
  s: '34216', t: '72222', u: '55557', v: '55552', w: '55775', x: '55255', y: '55222', z: '71247', ' ': '00000',
  0: '75557', 1: '26227', 2: '61247', 3: '61216', 4: '55711', 5: '74616', 6: '34757', 7: '71122', 8: '75757',
  9: '75716', '.': '00002', ',': '00024', '-': '00700', ':': '02020',
};
const DOT = 2;
const LETTER = 4 * DOT;
const LINE = 7 * DOT;
const SCALE = 2;
const GAP = 8;
const LINES = 2;

/** Breaks text into lines of at most `width` letters, at spaces. */
const wrap = (text, width) =>
  text.split(' ').reduce((lines, word) => {
    const last = lines.at(-1);
    const joined = last === undefined ? word : `${last} ${word}`;
    return last !== undefined && joined.length <= width ? [...lines.slice(0, -1), joined] : [...lines, word];
  }, []);

const newCanvas = (width, height) => ({ width, height, data: new Uint8Array(width * height * 3).fill(255) });

const square = (canvas, left, top, side, colour) => {
  for (let y = top; y < top + side; y++)
    for (let x = left; x < left + side; x++) canvas.data.set(colour, (y * canvas.width + x) * 3);
};

const drawLetter = (canvas, letter, left, top) => {
  const rows = GLYPHS[letter.toLowerCase()];
  if (rows === undefined) throw new Error(`The sheet's letters have no "${letter}"; add it to GLYPHS.`);
  for (const [row, bits] of [...rows].entries())
    for (let column = 0; column < 3; column++)
      if ((Number(bits) >> (2 - column)) & 1) square(canvas, left + column * DOT, top + row * DOT, DOT, [70, 70, 70]);
};

const drawText = (canvas, text, left, top, width) => {
  for (const [line, words] of wrap(text, Math.floor(width / LETTER)).slice(0, LINES).entries())
    for (const [index, letter] of [...words].entries())
      drawLetter(canvas, letter, left + index * LETTER, top + line * LINE);
};

const drawPicture = (canvas, { width, height, data }, left, top) => {
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const pixel = data.subarray((y * width + x) * 3, (y * width + x) * 3 + 3);
      square(canvas, left + x * SCALE, top + y * SCALE, SCALE, pixel);
    }
};

/**
 * Writes the pictures row by row, each at twice its size with its text below.
 * @param {string} file
 * @param {readonly { image: { width: number, height: number, data: Uint8Array }, text: string }[]} cells
 * @param {number} columns
 */
export const writeSheet = (file, cells, columns) => {
  const side = (cells[0]?.image.width ?? 0) * SCALE;
  const [cellWidth, cellHeight] = [side + GAP, side + LINES * LINE + GAP];
  const canvas = newCanvas(columns * cellWidth + GAP, Math.ceil(cells.length / columns) * cellHeight + GAP);
  for (const [index, { image, text }] of cells.entries()) {
    const left = GAP + (index % columns) * cellWidth;
    const top = GAP + Math.floor(index / columns) * cellHeight;
    drawPicture(canvas, image, left, top);
    drawText(canvas, text, left, top + side + DOT, side);
  }
  writeFileSync(file, encode({ ...canvas, channels: 3, depth: 8 }));
};
