/** "Did you mean": the known word nearest to a mistyped one. */
import { editDistance } from '../../common/edit-distance.js';

/** The nearest of `known`, where it is near enough to be what was meant: at most half of the word's letters differ. */
export const nearest = (word: string, known: readonly string[]): string | undefined => {
  const ranked = known
    .map((candidate) => ({ candidate, distance: editDistance(word.toLowerCase(), candidate) }))
    .sort((a, b) => a.distance - b.distance);
  const best = ranked[0];
  return best && best.distance <= Math.max(1, Math.floor(best.candidate.length / 2)) ? best.candidate : undefined;
};
