/**
 * Editors of latents: a slider, a switch or a choice for each, or a map of two.
 *
 * @module
 */

import { button, clamp, element, nextFrame, onDrag, toPixels } from './picture.js';
import { product } from './runtime.js';

const SHOWN = 16;
const RANGE = 4;
const DRAWS = 32; // images that decide which latents matter
const MAP_RANGE = 3;
const MAP_IMAGES = 15; // along each side
const GAP = 1; // pixels between them

/**
 * Return the editor that fits the latents of a model.
 *
 * @param model
 * @param {(values: Float32Array) => void} onChange
 * @param {(text: string) => void} say tells what is worth saying aloud
 */
export async function latentEditor(model, onChange, say) {
  const controls = controlsOf(model.description);
  if (model.size === 2 && controls.every(({ kind }) => kind === 'continuous')) {
    return new LatentMap(model, onChange, say);
  }
  return new LatentControls(await byImportance(controls, model), model, onChange);
}

/** Return one control for each latent: its kind, where its values begin, how many, its name. */
export function controlsOf({ latent_shape: all, latent_kinds: kinds, layer_shapes: shapes }) {
  const layers = (kinds ?? ['continuous']).map((kind, n) => [kind, shapes?.[n] ?? all]);
  let end = 0;
  return layers.flatMap(([kind, shape], layer) => {
    const width = kind === 'categorical' ? shape.at(-1) : 1;
    const first = end;
    end += product(shape);
    return Array.from({ length: product(shape) / width }, (_, n) => ({
      kind,
      start: first + n * width,
      width,
      name: layers.length > 1 ? `z${layer + 1}, ${n + 1}` : `z ${n + 1}`,
    }));
  });
}

/** Return where a model's values begin: at 0, and for a category at the first one. */
export function origin(model) {
  const values = model.zeros();
  if (model.hasCodes) return values;
  for (const { kind, start } of controlsOf(model.description)) {
    if (kind === 'categorical') values[start] = 1;
  }
  return values;
}

/** Whether there are images to encode, and what encodes them. */
const canCompare = (model) => !model.noSample && model.can('encode');

/**
 * Return the controls with those first whose posterior mean varies most between images that the
 * model draws: a latent that it does not use has the same mean for all.
 */
async function byImportance(controls, model) {
  if (!canCompare(model) || controls.length <= SHOWN) return controls;
  const means = [];
  for (let index = 0; index < DRAWS; index += 1) {
    means.push(await model.encode((await model.sample({ index })).image));
  }
  const variance = (at) => {
    const mean = means.reduce((sum, row) => sum + row[at], 0) / DRAWS;
    return means.reduce((sum, row) => sum + (row[at] - mean) ** 2, 0);
  };
  const importance = ({ start, width }) =>
    Array.from({ length: width }, (_, n) => variance(start + n)).reduce((a, b) => a + b);
  const pairs = controls.map((control) => [importance(control), control]);
  return pairs.sort(([a], [b]) => b - a).map(([, control]) => control);
}

/** Controls in a list, the first ones and on request all. */
class LatentControls {
  constructor(controls, model, onChange) {
    this.title = `${controls.length} latents`;
    this.model = model;
    this.values = origin(model);
    this.onChange = onChange;
    this.rows = controls.map((control) => this.#row(control));
    const list = element('div', { className: 'controls' }, ...this.rows.map((row) => row.element));
    this.element = element('div', {}, list);
    const buttons = element('span', { className: 'buttons' }, button('Reset', () => this.#reset()));
    if (this.rows.length > SHOWN) {
      buttons.append(this.#more());
      if (canCompare(model)) this.note = 'Those that vary most between images come first.';
    }
    this.element.append(buttons);
  }

  set(values) {
    this.values = Float32Array.from(values);
    for (const row of this.rows) row.update();
  }

  /** Hide all but the first controls; return the button that shows them. */
  #more() {
    const others = this.rows.slice(SHOWN).map((row) => row.element);
    for (const other of others) other.hidden = true;
    const more = button(`Show all ${this.rows.length}`, () => {
      for (const other of others) other.hidden = false;
      more.remove();
    });
    return more;
  }

  #reset() {
    this.set(origin(this.model));
    this.onChange(this.values);
  }

  #row(control) {
    const make = { continuous: slider, bernoulli: toggle, categorical: choice }[control.kind];
    return make(control, this);
  }
}

function slider({ start, name }, editor) {
  const input = element('input', { type: 'range', min: -RANGE, max: RANGE, step: 0.01, value: 0 });
  const output = element('output', { textContent: '0.00', ariaLive: 'off' });
  input.addEventListener('input', () => {
    editor.values[start] = input.valueAsNumber;
    output.textContent = input.valueAsNumber.toFixed(2);
    editor.onChange(editor.values);
  });
  return {
    element: element('label', {}, name, input, output),
    update() {
      const value = editor.values[start];
      const range = Math.max(RANGE, Math.abs(value));
      Object.assign(input, { min: -range, max: range, value });
      output.textContent = value.toFixed(2);
    },
  };
}

function toggle({ start, name }, editor) {
  const input = element('input', { type: 'checkbox' });
  input.addEventListener('change', () => {
    editor.values[start] = Number(input.checked);
    editor.onChange(editor.values);
  });
  return {
    element: element('label', { className: 'switch' }, input, name),
    update() {
      input.checked = editor.values[start] > 0.5;
    },
  };
}

function choice({ start, width, name }, editor) {
  const options = Array.from({ length: width }, (_, n) => element('option', { text: n, value: n }));
  const input = element('select', {}, ...options);
  input.addEventListener('change', () => {
    editor.values.fill(0, start, start + width);
    editor.values[start + Number(input.value)] = 1;
    editor.onChange(editor.values);
  });
  return {
    element: element('label', { className: 'choice' }, name, input),
    update() {
      const own = editor.values.subarray(start, start + width);
      input.value = own.indexOf(Math.max(...own));
    },
  };
}

/** The images of a square of the plane of two latents; a place on it is a pair of values. */
class LatentMap {
  constructor(model, onChange, say) {
    this.title = 'A map of the two latents';
    this.note = `Each from −${MAP_RANGE} to ${MAP_RANGE}; click or drag, or use the arrow keys.`;
    this.model = model;
    this.onChange = onChange;
    this.say = say;
    this.canvas = element('canvas', { className: 'pixels', tabIndex: 0, role: 'application' });
    this.canvas.setAttribute('aria-label', 'Map of the two latents');
    this.marker = element('span', { className: 'marker' });
    this.output = element('output', { ariaLive: 'off' });
    this.element = element(
      'div',
      {},
      element('div', { className: 'map' }, this.canvas, this.marker),
      element('p', {}, this.output),
    );
    onDrag(this.canvas, {
      move: (x, y) => this.#move(MAP_RANGE * (2 * x - 1), MAP_RANGE * (1 - 2 * y)),
    });
    this.canvas.addEventListener('keydown', (event) => this.#step(event));
    this.ready = this.#draw();
  }

  set(values) {
    this.values = Float32Array.from(values);
    const [x, y] = this.values.map((value) => clamp(value / MAP_RANGE, -1, 1));
    this.marker.style.left = `${50 * (1 + x)}%`;
    this.marker.style.top = `${50 * (1 - y)}%`;
    this.output.textContent = `z = (${[...this.values].map((v) => v.toFixed(2)).join(', ')})`;
  }

  #move(x, y) {
    this.set([x, y]);
    this.onChange(this.values);
  }

  #step(event) {
    const [dx, dy] = {
      ArrowLeft: [-0.1, 0],
      ArrowRight: [0.1, 0],
      ArrowUp: [0, 0.1],
      ArrowDown: [0, -0.1],
    }[event.key] ?? [0, 0];
    if (dx === 0 && dy === 0) return;
    event.preventDefault();
    this.#move(this.values[0] + dx, this.values[1] + dy);
    this.say(this.output.textContent);
  }

  /** Draw the map anew, for another condition. */
  renew() {
    this.ready = this.#draw();
  }

  async #draw() {
    const drawing = {};
    this.drawing = drawing; // ends one that is at work
    const [height, width] = this.model.imageShape;
    this.canvas.width = MAP_IMAGES * (width + GAP);
    this.canvas.height = MAP_IMAGES * (height + GAP);
    const context = this.canvas.getContext('2d');
    const at = (n) => MAP_RANGE * ((2 * n + 1) / MAP_IMAGES - 1);
    for (let row = 0; row < MAP_IMAGES; row += 1) {
      for (let column = 0; column < MAP_IMAGES; column += 1) {
        if (this.drawing !== drawing) return;
        const image = await this.model.decode(Float32Array.of(at(column), -at(row)));
        const pixels = toPixels(image, this.model.imageShape);
        context.putImageData(pixels, column * (width + GAP), row * (height + GAP));
      }
      await nextFrame();
    }
  }
}
