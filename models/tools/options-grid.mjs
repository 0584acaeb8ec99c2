/**
 * Shows what seed, negative prompt, guidance scale and steps do, a row each.
 *
 *     node models/tools/options-grid.mjs [grid.png]
 */
import { withPainter } from './painter.mjs';
import { writeSheet } from './sheet.mjs';

const [file = 'models/docs/options.png'] = process.argv.slice(2);

const ROWS = [
  [1, 2, 3, 4, 5, 6].map((seed) => [{ prompt: 'a heart', seed }, `a heart seed ${seed}`]),
  ['', 'red', 'yellow', 'green', 'blue', 'purple'].map((negativePrompt) => [
    { prompt: 'a heart', seed: 1, negativePrompt, guidanceScale: 4 },
    negativePrompt === '' ? 'a heart' : `a heart not ${negativePrompt}`,
  ]),
  [1.01, 1.5, 2, 3, 5, 10].map((guidanceScale) => [{ prompt: 'a fox', seed: 3, guidanceScale }, `a fox guidance ${guidanceScale}`]),
  [1, 2, 4, 6, 10, 20].map((numInferenceSteps) => [{ prompt: 'a rocket', seed: 3, numInferenceSteps }, `a rocket steps ${numInferenceSteps}`]),
];

const cells = await withPainter('configs/dual-cpu.yaml', async (paint) => {
  const painted = [];
  for (const [request, text] of ROWS.flat()) painted.push({ image: (await paint(request)).image, text });
  return painted;
});
writeSheet(file, cells, ROWS[0].length);
console.log(`Wrote ${file}: ${cells.length} pictures.`);
