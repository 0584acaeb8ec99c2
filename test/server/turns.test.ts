import { describe, expect, it } from 'vitest';
import { Pace } from '#tandem/coordinator/server/pace.js';
import { PartialPictures } from '#tandem/coordinator/server/partial-pictures.js';
import { Turns } from '#tandem/coordinator/server/turns.js';

const never = new AbortController().signal;

describe('turns', () => {
  it('go to whoever came first, one at a time', async () => {
    const turns = new Turns(1);
    const order: number[] = [];
    const work = async (name: number): Promise<void> => {
      const turn = await turns.take({ client: 'a', steps: 1, signal: never });
      expect(turns.running).toBe(1);
      order.push(name);
      turn.release();
      turn.release();
    };
    await Promise.all([work(1), work(2), work(3)]);
    expect(order).toEqual([1, 2, 3]);
    expect([turns.running, turns.waiting]).toEqual([0, 0]);
  });

  it('tell how many steps are ahead, with those that are done taken off', async () => {
    const turns = new Turns(1);
    const first = await turns.take({ client: 'a', steps: 10, signal: never });
    first.progress(4);
    const seen: (readonly number[])[] = [];
    const second = turns.take({ client: 'a', steps: 5, signal: never });
    const third = turns.take({
      client: 'a',
      steps: 1,
      signal: never,
      onPosition: (_, stepsAhead) => seen.push(stepsAhead),
    });
    expect(turns.stepsToNextEnd).toBe(4);
    first.release();
    (await second).release();
    (await third).release();
    expect(seen).toEqual([[4, 5], [5]]);
  });

  it('are given up by whoever leaves the line, with the reason that was given', async () => {
    const turns = new Turns(1);
    const first = await turns.take({ client: 'a', steps: 1, signal: never });
    const controller = new AbortController();
    const second = turns.take({ client: 'a', steps: 1, signal: controller.signal });
    const third = turns.take({ client: 'a', steps: 1, signal: never });
    controller.abort(new Error('gone'));
    await expect(second).rejects.toThrow('gone');
    await expect(turns.take({ client: 'a', steps: 1, signal: controller.signal })).rejects.toThrow('gone');
    first.release();
    (await third).release();
    expect(turns.waiting).toBe(0);
  });
});

describe('turns of several at a time', () => {
  const begin = async (turns: Turns, client: string, steps: number) => {
    let begun = false;
    const turn = turns.take({ client, steps, signal: never }).then((taken) => {
      begun = true;
      return taken;
    });
    await new Promise((resolve) => setImmediate(resolve));
    return { turn, begun };
  };

  it('are as many as may be, and one more for a client of whom none runs', async () => {
    const turns = new Turns(2);
    const [first, second, third] = [
      await begin(turns, 'a', 10),
      await begin(turns, 'a', 10),
      await begin(turns, 'a', 10),
    ];
    expect([first, second, third].map(({ begun }) => begun)).toEqual([true, true, false]);
    const other = await begin(turns, 'b', 1);
    expect(other.begun).toBe(true);
    expect([turns.running, turns.waiting]).toEqual([3, 1]);
    expect((await begin(turns, 'b', 1)).begun).toBe(false);
    (await other.turn).release();
    expect(turns.running).toBe(3);
    (await first.turn).release();
    expect(turns.running).toBe(2);
    (await second.turn).release();
    await third.turn;
    expect([turns.running, turns.waiting]).toEqual([2, 0]);
  });

  it('tell the steps until the first place is free', async () => {
    const turns = new Turns(2);
    const long = await turns.take({ client: 'a', steps: 10, signal: never });
    await turns.take({ client: 'a', steps: 3, signal: never });
    expect(turns.stepsToNextEnd).toBe(6);
    long.progress(1);
    expect(turns.stepsToNextEnd).toBe(2);
  });
});

describe('the pace', () => {
  it('is that of late, and not of one slow step', () => {
    const pace = new Pace();
    expect(pace.pictureMs(10)).toBe(0);
    for (let step = 0; step < 50; step++) pace.addStep(100);
    pace.addRest(50);
    expect(pace.pictureMs(10)).toBeCloseTo(1050);
    pace.addStep(1000);
    expect(pace.pictureMs(1)).toBeLessThan(400);
  });
});

describe('partial pictures', () => {
  const offerAll = async (steps: number, most: number, draw = async () => new Uint8Array(1)): Promise<number[]> => {
    const shown: number[] = [];
    const partials = new PartialPictures({ most, draw, onPicture: (step) => shown.push(step) });
    for (let step = 1; step <= steps; step++) {
      partials.offer({ step, steps, timestep: 0, step_ms: 1, latents: new Float32Array(1) });
      await partials.settled();
    }
    return shown;
  };

  it('come at most as often as asked, evenly, and never for the last step', async () => {
    expect(await offerAll(20, 4)).toEqual([4, 8, 12, 16]);
    expect(await offerAll(4, 50)).toEqual([1, 2, 3]);
    expect(await offerAll(10, 0)).toEqual([]);
    for (let most = 1; most < 12; most++) expect((await offerAll(11, most)).length).toBeLessThanOrEqual(most);
  });

  it('are passed over while one is being drawn', async () => {
    const shown: number[] = [];
    let finish = (): void => undefined;
    const partials = new PartialPictures({
      most: 10,
      draw: () =>
        new Promise((resolve) => {
          finish = () => resolve(new Uint8Array(1));
        }),
      onPicture: (step) => shown.push(step),
    });
    for (const step of [1, 2, 3])
      partials.offer({ step, steps: 8, timestep: 0, step_ms: 1, latents: new Float32Array(1) });
    finish();
    await partials.settled();
    expect(shown).toEqual([1]);
  });

  it('fail the picture where they cannot be drawn', async () => {
    const failing = async () => {
      throw new Error('no memory');
    };
    await expect(offerAll(4, 4, failing)).rejects.toThrow('no memory');
  });
});
