/**
 * The way from one example to another.
 *
 * @module
 */

const SEED = 1;

/**
 * Return what lies between two latents, or between two grids of codes.
 *
 * Latents lie on the line between them. Codes do not have a middle: they change from those of A to
 * those of B a site at a time, in an order that is random and always the same.
 *
 * @param {Float32Array|Int32Array} a
 * @param {Float32Array|Int32Array} b
 * @param {number} t 0 gives a, 1 gives b
 * @param {number} depth codes of one site, which change together
 */
export function between(a, b, t, depth = 1) {
  if (a instanceof Float32Array) return a.map((value, n) => value + t * (b[n] - value));
  const sites = shuffled(a.length / depth);
  const mixed = a.slice();
  for (const site of sites.slice(0, Math.round(t * sites.length))) {
    mixed.set(b.subarray(site * depth, (site + 1) * depth), site * depth);
  }
  return mixed;
}

/** Return the numbers below `count` in a random order, the same in every call. */
function shuffled(count) {
  const order = Array.from({ length: count }, (_, n) => n);
  let state = SEED;
  for (let n = count - 1; n > 0; n -= 1) {
    // A linear congruential generator: the constants of Numerical Recipes.
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const other = Math.floor((state / 2 ** 32) * (n + 1));
    [order[n], order[other]] = [order[other], order[n]];
  }
  return order;
}

/** Return where an animation is after some seconds: from 0 to 1 and back, slower at the ends. */
export function swing(seconds, period) {
  return (1 - Math.cos((2 * Math.PI * seconds) / period)) / 2;
}
