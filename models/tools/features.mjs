/**
 * A feature space in which to ask which training picture a picture is nearest to: its colours in CIELAB, averaged over a grid
 * of 8 by 8 cells, beside histograms of gradient directions (Dalal and Triggs, 2005; here without overlapping blocks) of
 * the same cells. No network has a part in it.
 */

const GRID = 8;
const DIRECTIONS = 8;
/** Weight of the gradients beside the colours. */
const GRADIENTS = 1;

const linear = (byte) => {
  const value = byte / 255;
  return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
};

const cubic = (t) => (t > (6 / 29) ** 3 ? Math.cbrt(t) : t / (3 * (6 / 29) ** 2) + 4 / 29);

/** CIELAB of an sRGB pixel under D65 (IEC 61966-2-1), each part about -1 to 1. */
const lab = (red, green, blue) => {
  const [r, g, b] = [linear(red), linear(green), linear(blue)];
  const x = cubic((0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.95047);
  const y = cubic(0.2126 * r + 0.7152 * g + 0.0722 * b);
  const z = cubic((0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.08883);
  return [(116 * y - 16) / 100, (500 * (x - y)) / 100, (200 * (y - z)) / 100];
};

/**
 * @param {{ width: number, height: number, data: Uint8Array }} image RGB
 * @returns {Float64Array} `[8 * 8 * (3 + 8)]`
 */
export const featuresOf = ({ width, height, data }) => {
  const pixels = Array.from({ length: width * height }, (_, i) => lab(data[3 * i], data[3 * i + 1], data[3 * i + 2]));
  const light = (x, y) => pixels[Math.min(height - 1, Math.max(0, y)) * width + Math.min(width - 1, Math.max(0, x))][0];
  const features = new Float64Array(GRID * GRID * (3 + DIRECTIONS));
  const share = (GRID * GRID) / (width * height);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const cell = Math.floor((y * GRID) / height) * GRID + Math.floor((x * GRID) / width);
      const start = cell * (3 + DIRECTIONS);
      for (const [channel, value] of pixels[y * width + x].entries()) features[start + channel] += value * share;
      const [right, down] = [light(x + 1, y) - light(x - 1, y), light(x, y + 1) - light(x, y - 1)];
      const direction = Math.floor(((Math.atan2(down, right) + 2 * Math.PI) / Math.PI) * DIRECTIONS) % DIRECTIONS;
      features[start + 3 + direction] += GRADIENTS * Math.hypot(right, down) * share;
    }
  return features;
};

/** Squared Euclidean distance. */
export const distance = (left, right) => left.reduce((sum, value, index) => sum + (value - right[index]) ** 2, 0);
