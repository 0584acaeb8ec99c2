/**
 * The share of held prompts whose picture's nearest training picture is of what was asked.
 *
 *     node models/tools/held-prompts.mjs
 *
 * Prompts and seeds are those of `models/docs/held-prompts.json`, whose sentences training never saw; training pictures are
 * those of `models/docs/training-pictures.png`, a row a concept. Both are written by `models/train/write_docs.py`.
 */
import { readFileSync } from 'node:fs';
import { decode } from 'fast-png';
import { distance, featuresOf } from './features.mjs';
import { withPainter } from './painter.mjs';
import { writeSheet } from './sheet.mjs';

const { concepts, prompts } = JSON.parse(readFileSync('models/docs/held-prompts.json', 'utf8'));
const all = decode(readFileSync('models/docs/training-pictures.png'));
const SIDE = 64;

const cut = (row, column) => {
  const data = new Uint8Array(SIDE * SIDE * 3);
  for (let y = 0; y < SIDE; y++) {
    const start = ((row * SIDE + y) * all.width + column * SIDE) * 3;
    data.set(all.data.subarray(start, start + SIDE * 3), y * SIDE * 3);
  }
  return { width: SIDE, height: SIDE, data };
};

const known = concepts.flatMap((concept, row) =>
  Array.from({ length: all.width / SIDE }, (_, column) => ({ concept, features: featuresOf(cut(row, column)) })),
);

const nearest = (image) => {
  const features = featuresOf(image);
  const distances = known.map((picture) => distance(features, picture.features));
  return known[distances.indexOf(Math.min(...distances))].concept;
};

const results = await withPainter('configs/dual-cpu.yaml', async (paint) => {
  const painted = [];
  for (const { prompt, seed, concept } of prompts) {
    const { image } = await paint({ prompt, seed });
    painted.push({ prompt, seed, concept, image, found: nearest(image) });
  }
  return painted;
});

const wrong = results.filter(({ concept, found }) => concept !== found);
for (const { prompt, seed, found } of wrong) console.log(`"${prompt}" (seed ${seed}) looks most like ${found}`);
const share = (results.length - wrong.length) / results.length;
console.log(`${results.length - wrong.length} of ${results.length} held prompts (${(100 * share).toFixed(1)} %) give a picture of what was asked.`);
if (wrong.length > 0 && process.argv[2]) writeSheet(process.argv[2], wrong.map(({ image, prompt }) => ({ image, text: prompt })), 8);
if (share < 0.9) throw new Error('Expected at least 90 %.');
