import { describe, expect, it } from 'vitest';
import { toNumbers } from '#tandem/common/elements.js';
import { elementCount } from '#tandem/common/tensor.js';
import { randomInputs } from '#tandem/coordinator/verify/random-inputs.js';

const SPECS = [
  { name: 'sample', dtype: 'float32', shape: [2, 4, 32, 32] },
  { name: 'timestep', dtype: 'int64', shape: [2] },
  { name: 'encoder_hidden_states', dtype: 'float16', shape: [2, 77, 64] },
  { name: 'encoder_attention_mask', dtype: 'int64', shape: [2, 77] },
  { name: 'input_ids', dtype: 'int32', shape: [2, 77] },
  { name: 'position_ids', dtype: 'int64', shape: [1, 5] },
  { name: 'time_ids', dtype: 'float32', shape: [2, 6] },
  { name: 'flag', dtype: 'bool', shape: [] },
  { name: 'class_labels', dtype: 'int64', shape: [40] },
] as const;

const numbers = (seed: number) =>
  Object.fromEntries(Object.entries(randomInputs(SPECS, seed)).map(([name, tensor]) => [name, [...toNumbers(tensor)]]));

const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;

describe('random inputs', () => {
  it('make sense to a denoiser', () => {
    const inputs = numbers(1);
    for (const { name, shape } of SPECS) expect(inputs[name]).toHaveLength(elementCount(shape));
    for (const name of ['sample', 'encoder_hidden_states']) {
      const values = inputs[name] ?? [];
      expect(Math.abs(mean(values))).toBeLessThan(0.05);
      expect(mean(values.map((value) => value * value))).toBeCloseTo(1, 1);
    }
    const [timestep = -1, other] = inputs.timestep ?? [];
    expect(timestep).toBe(other);
    expect(Number.isInteger(timestep) && timestep >= 0 && timestep < 1000).toBe(true);
    expect(inputs.encoder_attention_mask?.slice(0, 77).join('')).toMatch(/^1{38,}0*$/);
    expect(Math.max(...(inputs.input_ids ?? []))).toBeLessThan(100);
    expect(Math.max(...(inputs.class_labels ?? []))).toBeLessThan(10);
    expect(inputs.position_ids).toEqual([0, 1, 2, 3, 4]);
    expect(inputs.time_ids?.slice(0, 6)).toEqual([1024, 1024, 0, 0, 1024, 1024]);
    expect(inputs.flag).toEqual([1]);
  });

  it('are the same for the same seed and others for another', () => {
    expect(numbers(7)).toEqual(numbers(7));
    expect(numbers(7).sample).not.toEqual(numbers(8).sample);
  });
});
