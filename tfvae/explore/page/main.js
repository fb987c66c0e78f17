/**
 * The page: what is shown, and what each control does.
 *
 * Tests and consoles reach it as `window.explore`; see `Explorer`.
 *
 * @module
 */

import { CodeEditor } from './codes.js';
import { conditionControl } from './condition.js';
import { DrawingPad } from './drawing.js';
import { between, swing } from './interpolation.js';
import { latentEditor, origin } from './latents.js';
import { element, nextFrame, paint } from './picture.js';
import { loadModel, Problem, reason } from './runtime.js';

const PERIOD = 4; // seconds from A to B and back
const MEASURED = 1000; // milliseconds over which frames are counted

const $ = (id) => document.getElementById(id);

/**
 * What the page holds.
 *
 * @property {Promise} ready resolves when the first image is there, and rejects with what is wrong
 * @property model the file: `decode`, `encode`, `sample`, see runtime.js
 * @property {Float32Array|Int32Array} values the latents or codes that are shown
 * @property {Float32Array} image the image that is shown
 * @property {number} fps frames per second of the animation; NaN before the first second
 */
class Explorer {
  fps = NaN;

  constructor() {
    this.ready = this.#start();
    this.ready.catch((error) => {
      $('facts').textContent = 'The model did not load.';
      say('');
      complain(error);
    });
  }

  /**
   * Decode latents or codes and show the image; of many calls while one is at work, only the last.
   *
   * @param values
   * @param {boolean} fromEditor whether the editor shows them already
   * @returns {Promise} resolves when the last image is shown
   */
  show(values, fromEditor = false) {
    const copy = values.slice();
    if (!fromEditor) this.editor.set(copy);
    return this.#want({ find: () => copy });
  }

  /**
   * Show a draw from the prior, as the form has it, unless something else is wanted before it is
   * made.
   */
  async draw() {
    const index = Math.max(0, $('index').valueAsNumber || 0);
    const options = {
      seed: wholeNumber($('seed').value),
      index,
      temperature: $('temperature').valueAsNumber,
    };
    await this.#want({
      find: async () => (await this.model.sample(options)).values,
      isDraw: true,
      said: `Image ${index} of seed ${options.seed}.`,
    });
  }

  /**
   * Compute with another condition from now on, and show what becomes of the image: the same values
   * decoded anew, or another draw where only the prior takes the condition.
   *
   * @param {Int32Array|Float32Array} condition
   */
  async setCondition(condition) {
    this.stop();
    this.model.condition = condition;
    if (this.model.depends(this.model.decoding)) {
      this.editor.renew?.();
      const { values } = this;
      await this.#want(this.wanted ?? this.current ?? { find: () => values });
    } else if (this.model.depends('sample')) {
      await this.draw();
    }
  }

  /** Make latents or codes one end of the interpolation, "a" or "b". */
  async setEnd(end, values, image) {
    this.ends[end].values = values.slice();
    if (image) await this.ends[end].pad.show(image);
  }

  /** Show what is between A and B. */
  showBetween(t) {
    $('way').value = t;
    const depth = this.model.shape.length > 2 ? this.model.shape.at(-1) : 1;
    return this.show(between(this.ends.a.values, this.ends.b.values, t, depth));
  }

  /** Go from A to B and back until `stop`, a decode for every frame of the screen. */
  async animate() {
    const playing = {};
    this.playing = playing; // ends an animation that is going on
    $('animate').setAttribute('aria-pressed', true);
    const start = await nextFrame();
    const frames = [];
    for (;;) {
      const now = await nextFrame();
      if (this.playing !== playing) return;
      await this.showBetween(swing((now - start) / 1000, PERIOD));
      frames.push(now);
      while (now - frames[0] > MEASURED) frames.shift();
      if (now - start > MEASURED) this.fps = (1000 * (frames.length - 1)) / (now - frames[0]);
      $('fps').textContent = amount(this.fps, 'frames/s', 0);
    }
  }

  /** End the animation. */
  stop() {
    this.playing = null;
    $('animate').setAttribute('aria-pressed', false);
  }

  /** Find values and show their image; of many calls while one is at work, only the last. */
  #want(request) {
    this.wanted = request;
    this.working ??= this.#work();
    return this.working;
  }

  async #work() {
    try {
      while (this.wanted) {
        const request = this.wanted;
        [this.current, this.wanted] = [request, null];
        const values = await request.find();
        if (request.isDraw && this.wanted) continue;
        if (request.isDraw) this.editor.set(values);
        this.image = await this.model.decode(values);
        this.values = values;
        paint($('image'), this.image, this.model.imageShape);
        $('problem').hidden = true;
        $('latency').textContent = amount(this.model.latency, 'ms', 1);
        if (request.said) say(request.said);
      }
    } finally {
      this.current = null;
      this.working = null;
    }
  }

  async #start() {
    this.model = await loadModel();
    describe(this.model.offer);
    say('Preparing …');
    const main = document.querySelector('main');
    main.hidden = false;
    this.#prepareCondition();
    await this.#prepareEditor();
    this.#prepareSample();
    await this.#prepareEnds();
    if (this.model.noSample) await this.show(origin(this.model));
    else await this.draw();
    main.inert = false;
    say('Ready.');
  }

  #prepareCondition() {
    const control = conditionControl(this.model, (condition) => this.setCondition(condition));
    if (!control) return;
    $('given').replaceChildren(control);
    $('given-note').textContent = this.model.depends(this.model.decoding)
      ? 'What is shown is decoded anew; what is drawn or encoded next is given it too.'
      : 'What the prior draws images of.';
    document.querySelector('.given').hidden = false;
  }

  async #prepareEditor() {
    const onChange = (values) => {
      this.stop();
      this.show(values, true);
    };
    this.editor = this.model.hasCodes
      ? new CodeEditor(this.model, onChange, say)
      : await latentEditor(this.model, onChange, say);
    $('values-title').textContent = this.editor.title;
    const note = element('p', { className: 'note', textContent: this.editor.note ?? '' });
    $('editor').replaceChildren(...(this.editor.note ? [note] : []), this.editor.element);
    this.editor.set(origin(this.model));
  }

  #prepareSample() {
    const { noSample } = this.model;
    $('sample').hidden = Boolean(noSample);
    $('no-sample').hidden = !noSample;
    $('no-sample').textContent = noSample;
    $('sample').addEventListener('submit', (event) => event.preventDefault());
    const redraw = () => {
      this.stop();
      $('temperature-value').textContent = $('temperature').valueAsNumber.toFixed(2);
      return this.draw();
    };
    $('sample').addEventListener('input', redraw);
    $('sample').addEventListener('submit', redraw);
    $('next').addEventListener('click', () => {
      $('index').value = ($('index').valueAsNumber || 0) + 1;
      return redraw();
    });
  }

  async #prepareEnds() {
    const encodes = this.model.can('encode');
    $('draw').hidden = !encodes;
    const examples = encodes ? await this.model.examples() : [];
    this.ends = {};
    for (const [number, name] of ['a', 'b'].entries()) {
      this.ends[name] = { values: origin(this.model) };
      this.ends[name].pad = this.#pad(name, examples, number);
      $(name).replaceChildren(this.ends[name].pad.element);
      await this.#fillEnd(name, examples[number], number);
    }
    $('way').addEventListener('input', () => {
      this.stop();
      return this.showBetween($('way').valueAsNumber);
    });
    $('animate').addEventListener('click', () => (this.playing ? this.stop() : this.animate()));
  }

  #pad(name, examples, first) {
    const others = [['Current image', () => this.setEnd(name, this.values, this.image)]];
    let number = first;
    const next = () => {
      number = (number + 1) % examples.length;
      return this.#fillEnd(name, examples[number]);
    };
    if (examples.length) others.push(['Next test image', next]);
    const onDrawn = this.model.can('encode') ? (image) => this.#encodeEnd(name, image) : null;
    return new DrawingPad(name.toUpperCase(), this.model.imageShape, onDrawn, others);
  }

  /** Encode an image as an end and show what the model makes of it. */
  async #encodeEnd(name, image) {
    this.stop();
    await this.setEnd(name, await this.model.encode(image));
    await this.showBetween(name === 'a' ? 0 : 1);
    say(`${name.toUpperCase()} is what was drawn.`);
  }

  /** Put a test image at an end, or without one a draw from the prior, or nothing. */
  async #fillEnd(name, example, index) {
    if (example) {
      const { image, condition } = example;
      await this.setEnd(name, await this.model.encode(image, condition), image);
    } else if (!this.model.noSample) {
      const { image, values } = await this.model.sample({ index });
      await this.setEnd(name, values, image);
    }
  }
}

function describe({ name, bytes, description }) {
  const { model, image_shape: shape, likelihood, codebook_size: size } = description;
  document.title = `${name} · tfvae explore`;
  $('name').textContent = name;
  const codes = description.code_shape?.join('×');
  $('facts').textContent = [
    model,
    size ? `${codes} codes of ${size}` : `${description.latent_shape.join('×')} latents`,
    `${shape.join('×')} images`,
    likelihood?.name,
    `${(bytes / 1e6).toFixed(2)} MB`,
  ].filter(Boolean).join(' · ');
}

function amount(value, unit, digits) {
  return Number.isNaN(value) ? '–' : `${value.toFixed(digits)} ${unit}`;
}

function wholeNumber(text) {
  if (!/^\s*-?\d+\s*$/.test(text)) {
    throw new Problem(`The seed is "${text}"; expected a whole number.`);
  }
  return BigInt(text);
}

/** Tell what is worth saying aloud, in the one line of the page that is read out. */
function say(text) {
  if ($('status').textContent !== text) $('status').textContent = text;
}

function complain(error) {
  $('problem').textContent = reason(error);
  $('problem').hidden = false;
}

// Whatever goes wrong, in any handler, is said on the page.
addEventListener('unhandledrejection', (event) => complain(event.reason));

window.explore = new Explorer();
