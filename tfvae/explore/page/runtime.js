/**
 * The model in this browser: LiteRT's runtime, the file, and calls of its signatures.
 *
 * @module
 */

const RECENT = 60; // decodes whose median time is shown

/**
 * What LiteRT said of the call that is at work. Some calls that fail return something all the same,
 * and only say so.
 */
const failures = [];

/** Resolves when the calls so far have ended: there is one at a time, so that `failures` are its. */
let lastCall = Promise.resolve();

/** Note what LiteRT prints: all that it does, on its error stream, and errors among it. */
function note(line) {
  console.debug(line);
  if (line.startsWith('ERROR')) failures.push(line);
}

/** What went wrong, in words for the page. */
export class Problem extends Error {}

/**
 * Load LiteRT and the model that the server offers.
 *
 * @returns {Promise<Model>}
 */
export async function loadModel() {
  const offer = await (await fetched('/model.json')).json();
  const litert = await orProblem(
    import('@litertjs/core'),
    "LiteRT's JavaScript did not load. Is `tfvae explore` still running?",
  );
  globalThis.Module = { printErr: note };
  await orProblem(
    litert.loadLiteRt('/runtime/core/wasm/'),
    'This browser could not start LiteRT, which needs WebAssembly with SIMD: update the browser.',
  );
  const compiled = await orProblem(
    litert.loadAndCompile('/model.tflite', { accelerator: 'wasm' }),
    `LiteRT refused ${offer.name}. Export it again.`,
  );
  const model = new Model(litert, compiled, offer);
  model.noSample = await whyNoSample(model);
  return model;
}

/** Return why there is no drawing from the prior, in words; null if there is. */
export async function whyNoSample(model) {
  if (!model.can('sample')) {
    const because = model.description.left_out?.sample;
    return `This file was exported without \`sample\`${because ? `: ${because}` : ''}.`;
  }
  try {
    await model.sample();
    return null;
  } catch (error) {
    return reason(error);
  }
}

/**
 * An exported model. Its values are latents or codes, as one flat array, whichever the file holds.
 *
 * @property {string|null} noSample why there is no drawing from the prior
 * @property {Int32Array|Float32Array} condition the label, or the vector, of what is computed
 */
export class Model {
  /**
   * @param litert the module of LiteRT
   * @param compiled what it made of the file
   * @param offer what the server says of the file
   */
  constructor(litert, compiled, offer) {
    this.litert = litert;
    this.compiled = compiled;
    this.offer = offer;
    this.description = offer.description;
    this.hasCodes = 'code_shape' in this.description;
    this.shape = this.description[this.hasCodes ? 'code_shape' : 'latent_shape'];
    this.size = product(this.shape);
    this.imageShape = this.description.image_shape;
    const { condition_size: size = 0 } = this.description;
    this.condition = size ? new Float32Array(size) : Int32Array.of(0);
    this.times = [];
  }

  /** Whether the file has a signature for one example. */
  can(signature) {
    return `${signature}_1` in this.compiled.signatures;
  }

  /** Whether a signature takes the condition. */
  depends(signature) {
    return this.offer.conditioned.includes(signature);
  }

  /** The name of the signature that decodes. */
  get decoding() {
    return this.hasCodes ? 'decode_codes' : 'decode';
  }

  /** Return latents or codes that are all 0. */
  zeros() {
    return new (this.hasCodes ? Int32Array : Float32Array)(this.size);
  }

  /** Return the image of latents or codes, `[height, width, channels]` as one Float32Array. */
  async decode(values) {
    const input = this.hasCodes ? 'codes' : 'latents';
    const { image } = await this.run(this.decoding, { [input]: [values, [1, ...this.shape]] });
    return image;
  }

  /** Return the codes of an image, or the mean of q(z|x), given its own condition if it has one. */
  async encode(image, condition = this.condition) {
    const inputs = { image: [image, [1, ...this.imageShape]] };
    const outputs = await this.run('encode', inputs, condition);
    return outputs[this.hasCodes ? 'codes' : 'mean'];
  }

  /**
   * Return one draw from the prior, the one that `Decoder.sample` makes for this seed and number.
   *
   * @param {{seed?: bigint, index?: number, temperature?: number}} draw
   * @returns {Promise<{image: Float32Array, values: Float32Array|Int32Array}>}
   */
  async sample({ seed = 0n, index = 0, temperature = 1 } = {}) {
    const words = [seed >> 32n, seed].map((word) => Number(BigInt.asIntN(32, word)));
    const inputs = {
      seed: [Int32Array.from(words), [2]],
      index: [Int32Array.of(index), [1]],
      temperature: [Float32Array.of(temperature), []],
    };
    const outputs = await this.run('sample', inputs);
    return { image: outputs.image, values: outputs[this.hasCodes ? 'codes' : 'latents'] };
  }

  /**
   * Run a signature for one example, given the condition where it takes one, after the calls so far.
   *
   * @param {string} signature without the `_1` behind its name
   * @param {Object<string, [Float32Array|Int32Array, number[]]>} inputs values and shape by name
   * @param {Int32Array|Float32Array} condition
   * @returns {Promise<Object<string, Float32Array|Int32Array>>} the outputs by name
   */
  run(signature, inputs, condition = this.condition) {
    const given = { ...inputs };
    if (this.depends(signature)) {
      const { condition_size: size } = this.description;
      given.condition = [condition, size ? [1, size] : [1]];
    }
    const call = lastCall.then(() => this.#call(signature, given));
    lastCall = call.catch(() => {});
    return call;
  }

  async #call(signature, inputs) {
    const start = performance.now();
    const tensors = {};
    let outputs = {};
    failures.length = 0;
    try {
      for (const [name, [values, shape]] of Object.entries(inputs)) {
        tensors[name] = new this.litert.Tensor(values, shape);
      }
      outputs = await this.compiled.run(`${signature}_1`, tensors);
      const results = {};
      for (const [name, tensor] of Object.entries(outputs)) results[name] = await tensor.data();
      if (failures.length) throw new Error(failures.at(-1));
      if (signature === this.decoding) this.times.push(performance.now() - start);
      if (this.times.length > RECENT) this.times.shift();
      return results;
    } catch (error) {
      throw new Problem(`LiteRT could not run \`${signature}\`: ${reason(error)}`);
    } finally {
      // LiteRT's tensors lie in WebAssembly's memory, which nothing collects.
      for (const tensor of [...Object.values(tensors), ...Object.values(outputs)]) tensor.delete();
    }
  }

  /** The median time of the last decodes in milliseconds; NaN before the first. */
  get latency() {
    const sorted = [...this.times].sort((a, b) => a - b);
    return sorted.length ? sorted[sorted.length >> 1] : NaN;
  }

  /**
   * Return the test images that the server offers.
   *
   * @returns {Promise<{image: Float32Array, condition?: Int32Array|Float32Array}[]>}
   */
  async examples() {
    const { num_examples: count, conditions } = this.offer;
    if (!count) return [];
    const all = new Float32Array(await (await fetched('/examples.f32')).arrayBuffer());
    const size = product(this.imageShape);
    return Array.from({ length: count }, (_, n) => ({
      image: all.slice(n * size, (n + 1) * size),
      condition: conditions && this.condition.constructor.of(...[conditions[n]].flat()),
    }));
  }
}

export const product = (sizes) => sizes.reduce((a, b) => a * b, 1);

/** Return what an error says; what a script tag throws says nothing. */
export function reason(error) {
  return error?.message ?? String(error);
}

async function fetched(path) {
  const response = await orProblem(fetch(path), 'The server has gone. Is `tfvae explore` running?');
  if (!response.ok) throw new Problem(`The server did not give ${path} (${response.status}).`);
  return response;
}

async function orProblem(promise, words) {
  try {
    return await promise;
  } catch (error) {
    const because = error instanceof Error ? ` (${reason(error)})` : '';
    throw new Problem(words + because);
  }
}
