/**
 * Draws 32 prompts with two workers, and once more with one, and prints how alike the two are.
 *
 *     node models/tools/contact-sheet.mjs [sheet.png] [pictures.bin]
 *
 * `pictures.bin`, where it is named, gets the two workers' pictures as raw bytes for `models/train/compare.py`.
 */
import { writeFileSync } from 'node:fs';
import { psnr, withPainter } from './painter.mjs';
import { CONTACT_SEED, CONTACT_PROMPTS } from './prompts.mjs';
import { writeSheet } from './sheet.mjs';

const [file = 'models/docs/contact-sheet.png', raw] = process.argv.slice(2);

const paintAll = (config) =>
  withPainter(config, async (paint) => {
    const pictures = [];
    for (const prompt of CONTACT_PROMPTS) pictures.push(await paint({ prompt, seed: CONTACT_SEED }));
    return pictures;
  });

const together = await paintAll('configs/dual-cpu.yaml');
const alone = await paintAll('configs/single-cpu.yaml');
writeSheet(file, together.map(({ image }, index) => ({ image, text: CONTACT_PROMPTS[index] })), 8);
if (raw !== undefined) writeFileSync(raw, Buffer.concat(together.map(({ image }) => image.data)));
const likeness = together.map(({ image }, index) => psnr(image.data, alone[index].image.data));
const times = together.map(({ timings }) => timings.text_encode_ms + timings.denoise_ms + timings.vae_decode_ms);
console.log(`Wrote ${file}: ${together.length} pictures of two workers, ${Math.round(times.reduce((a, b) => a + b) / times.length)} ms each.`);
console.log(`One worker against two: lowest PSNR ${Math.min(...likeness).toFixed(1)} dB over ${likeness.length} prompts.`);
if (!(Math.min(...likeness) >= 60)) throw new Error('Expected at least 60 dB for every prompt.');
