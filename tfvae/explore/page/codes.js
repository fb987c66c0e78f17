/**
 * The editor of codes: a grid to paint on, with a palette of all codes.
 *
 * @module
 */

import { button, clamp, element, nextFrame, onDrag, toPixels } from './picture.js';
import { product } from './runtime.js';

const TOOLS = { brush: 'Brush', fill: 'Fill', pick: 'Pick up' };
const GRID = 960; // pixels of the longer side of the grid's canvas
const SMALLEST = 48; // pixels of a site that has room for its number
const ARROWS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

/**
 * Return the grids that the codes of an image form.
 *
 * A grid may have a third axis, the codes of one site: each of these is a layer of its own. `at`
 * gives the place of a site in the flat list of codes.
 *
 * @returns {{name: string, height: number, width: number, at: (row, column) => number}[]}
 */
export function layersOf({ code_shape: shape, code_grids: grids }) {
  let end = 0;
  return (grids ?? [shape]).flatMap((grid, number) => {
    const [height, width, depth] = grid.length > 1 ? [...grid, 1] : [1, ...grid, 1];
    const first = end;
    end += product(grid);
    return Array.from({ length: depth }, (_, level) => ({
      name: (grids ?? [shape]).length > 1 ? `${height}×${width}` : `${level + 1}`,
      number,
      height,
      width,
      at: (row, column) => first + (row * width + column) * depth + level,
    }));
  });
}

export class CodeEditor {
  /**
   * @param model
   * @param {(values: Int32Array) => void} onChange
   * @param {(text: string) => void} say tells what is worth saying aloud
   */
  constructor(model, onChange, say) {
    this.title = `${model.shape.join('×')} codes, each from 0 to ${lastCode(model)}`;
    this.note = 'Choose a code below and paint with it, by pointer or by arrow keys and Enter. An '
      + 'icon is what a whole image of its code looks like in the middle.';
    this.model = model;
    this.values = model.zeros();
    this.onChange = onChange;
    this.say = say;
    this.layers = layersOf(model.description);
    this.layer = this.layers[0];
    this.code = 0;
    this.tool = 'brush';
    this.cursor = [0, 0]; // row and column of the site that keys work on
    this.icons = new Icons(model, () => this.#drawSoon());
    this.canvas = element('canvas', { className: 'grid', tabIndex: 0, role: 'application' });
    this.canvas.setAttribute('aria-label', 'Grid of codes: arrow keys move, Enter uses the tool');
    this.output = element('output', { ariaLive: 'off' });
    this.palette = element('div', { className: 'palette', role: 'toolbar' });
    this.palette.setAttribute('aria-label', 'Codes to paint with');
    this.element = element(
      'div',
      {},
      this.#tools(),
      this.canvas,
      element('p', {}, this.output),
      this.palette,
    );
    this.#listen();
    this.#fillPalette(model);
    this.#press(0);
  }

  set(values) {
    this.values = Int32Array.from(values);
    this.#drawSoon();
  }

  /** Make the icons anew, for another condition. */
  renew() {
    this.icons = new Icons(this.model, () => this.#drawSoon());
    this.#emptyPalette();
    this.#drawSoon();
  }

  /** Paint with a code from now on. */
  choose(code) {
    this.#press(code);
    this.say(this.output.textContent);
  }

  /** Use the tool on a site of the grid that is shown. */
  use(row, column) {
    const at = this.layer.at(row, column);
    if (this.tool === 'pick') {
      this.choose(this.values[at]);
      return;
    }
    if (this.values[at] === this.code) return;
    if (this.tool === 'fill') this.#fill(row, column, this.values[at]);
    else this.values[at] = this.code;
    this.#drawSoon();
    this.onChange(this.values);
  }

  /** Replace a code by the chosen one at a site, and at its neighbours with the same code. */
  #fill(row, column, old) {
    const { height, width, at } = this.layer;
    const open = [[row, column]];
    while (open.length) {
      const [y, x] = open.pop();
      const inside = y >= 0 && y < height && x >= 0 && x < width;
      if (!inside || this.values[at(y, x)] !== old) continue;
      this.values[at(y, x)] = this.code;
      open.push([y + 1, x], [y - 1, x], [y, x + 1], [y, x - 1]);
    }
  }

  #tools() {
    const made = Object.entries(TOOLS).map(([name, text]) => {
      const tool = button(text, () => {
        this.tool = name;
        for (const other of made) other.setAttribute('aria-pressed', other === tool);
      });
      tool.setAttribute('aria-pressed', name === this.tool);
      return tool;
    });
    const buttons = element('div', { className: 'buttons' }, ...made);
    if (this.layers.length > 1) buttons.append(this.#layerChoice());
    return buttons;
  }

  #layerChoice() {
    const options = this.layers.map(({ name }, value) => element('option', { text: name, value }));
    const select = element('select', {}, ...options);
    select.addEventListener('change', () => {
      this.layer = this.layers[select.value];
      this.cursor = [0, 0];
      this.#emptyPalette();
      this.#drawSoon();
    });
    return element('label', {}, 'Codes of grid ', select);
  }

  #listen() {
    const site = (x, y) => [Math.floor(y * this.layer.height), Math.floor(x * this.layer.width)];
    onDrag(this.canvas, { move: (x, y) => this.use(...site(x, y)) });
    this.canvas.addEventListener('pointermove', (event) => {
      const box = this.canvas.getBoundingClientRect();
      const [row, column] = site(
        (event.clientX - box.left) / box.width,
        (event.clientY - box.top) / box.height,
      );
      const code = this.values[this.layer.at(row, column)];
      if (code !== undefined) this.#show(`Row ${row}, column ${column}: code ${code}`);
    });
    this.canvas.addEventListener('keydown', (event) => this.#useKey(event));
    for (const name of ['focus', 'blur']) {
      this.canvas.addEventListener(name, () => this.#drawSoon());
    }
  }

  /** Move the cursor by the arrow keys, and use the tool on its site by Enter or the space bar. */
  #useKey(event) {
    const [down, right] = ARROWS[event.key] ?? [0, 0];
    if (!down && !right && !['Enter', ' '].includes(event.key)) return;
    event.preventDefault();
    const { height, width, at } = this.layer;
    const [row, column] = [
      clamp(this.cursor[0] + down, 0, height - 1),
      clamp(this.cursor[1] + right, 0, width - 1),
    ];
    this.cursor = [row, column];
    if (!down && !right) this.use(row, column);
    this.#show(`Row ${row}, column ${column}: code ${this.values[at(row, column)]}`);
    this.say(this.output.textContent);
    this.#drawSoon();
  }

  #fillPalette(model) {
    for (let code = 0; code <= lastCode(model); code += 1) {
      const cell = button('', () => this.choose(code));
      Object.assign(cell, { title: `code ${code}`, tabIndex: -1, ariaPressed: false });
      cell.setAttribute('aria-label', cell.title);
      cell.addEventListener('pointerenter', () => this.#show(`Code ${code}`));
      this.palette.append(cell);
    }
    this.palette.addEventListener('keydown', (event) => this.#walk(event));
    this.#watchPalette();
  }

  /** Mark a code in the palette as the one to paint with. */
  #press(code) {
    const cells = this.palette.children;
    cells[this.code].ariaPressed = false;
    cells[code].ariaPressed = true;
    this.code = code;
    this.#putTabStop(cells[code]);
    this.#show(`Painting with code ${code}`);
  }

  /** The palette is one stop of the Tab key, and the arrow keys go about in it. */
  #putTabStop(cell) {
    if (this.stop) this.stop.tabIndex = -1;
    this.stop = cell;
    cell.tabIndex = 0;
  }

  #walk(event) {
    const cells = [...this.palette.children];
    const [down, right] = ARROWS[event.key] ?? [0, 0];
    if (!down && !right) return;
    event.preventDefault();
    const columns = cells.filter((cell) => cell.offsetTop === cells[0].offsetTop).length;
    const next = cells[cells.indexOf(this.stop) + down * columns + right];
    if (!next) return;
    this.#putTabStop(next);
    next.focus();
  }

  #emptyPalette() {
    for (const cell of this.palette.children) cell.firstChild?.remove();
    this.#watchPalette();
  }

  /** Ask for the icons of those codes that have been in view. */
  #watchPalette() {
    this.watcher?.disconnect();
    const codes = new Map([...this.palette.children].map((cell, code) => [cell, code]));
    this.watcher = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        if (!isIntersecting) continue;
        this.watcher.unobserve(target);
        const { layer, icons } = this;
        icons.get(layer, codes.get(target)).then((icon) => {
          if (layer === this.layer && icons === this.icons) target.replaceChildren(copyOf(icon));
        });
      }
    });
    for (const cell of codes.keys()) this.watcher.observe(cell);
  }

  /** Draw the grid once before the next frame, however much changes until then. */
  async #drawSoon() {
    if (this.isWaiting) return;
    this.isWaiting = true;
    await nextFrame();
    this.isWaiting = false;
    this.#draw();
  }

  #draw() {
    const { height, width, at } = this.layer;
    const cell = Math.ceil(GRID / Math.max(height, width));
    this.canvas.width = cell * width;
    this.canvas.height = cell * height;
    const context = this.canvas.getContext('2d');
    const font = `${cell / 5}px sans-serif`;
    Object.assign(context, { imageSmoothingEnabled: false, font, textBaseline: 'top' });
    for (let row = 0; row < height; row += 1) {
      for (let column = 0; column < width; column += 1) {
        const code = this.values[at(row, column)];
        const [x, y] = [cell * column, cell * row];
        const icon = this.icons.found(this.layer, code);
        if (icon) context.drawImage(icon, x, y, cell - 2, cell - 2);
        if (cell >= SMALLEST) label(context, code, x + cell / 16, y + cell / 16);
      }
    }
    if (document.activeElement === this.canvas) frame(context, this.cursor, cell);
  }

  #show(text) {
    this.output.textContent = text;
  }
}

/** What codes look like: a grid of nothing but one code is decoded, and its middle cut out. */
export class Icons {
  constructor(model, onNew) {
    this.model = model;
    this.onNew = onNew;
    this.made = new Map();
    this.waiting = [];
    this.isWorking = false;
  }

  /** Return the icon if it has been made; ask for it otherwise. */
  found(layer, code) {
    const entry = this.#entry(layer, code);
    if (!entry.icon && !entry.isAwaited) {
      entry.isAwaited = true;
      entry.promise.then(this.onNew);
    }
    return entry.icon;
  }

  /** Return a promise of the icon of a code in a layer. */
  get(layer, code) {
    return this.#entry(layer, code).promise;
  }

  #entry(layer, code) {
    if (!this.made.has(layer)) this.made.set(layer, new Map());
    const codes = this.made.get(layer);
    if (!codes.has(code)) {
      const entry = {};
      entry.promise = new Promise((resolve, reject) => {
        this.waiting.push({ layer, code, entry, resolve, reject });
      });
      codes.set(code, entry);
      if (!this.isWorking) this.#work();
    }
    return codes.get(code);
  }

  /** Make what is asked for, giving way to everything else after each frame's worth of work. */
  async #work() {
    this.isWorking = true;
    while (this.waiting.length) {
      await nextFrame();
      const start = performance.now();
      while (this.waiting.length && performance.now() - start < 8) {
        const { layer, code, entry, resolve, reject } = this.waiting.shift();
        try {
          entry.icon = await this.#make(layer, code);
          resolve(entry.icon);
        } catch (error) {
          this.made.get(layer).delete(code); // so that it is made when it is asked for again
          reject(error);
        }
      }
    }
    this.isWorking = false;
  }

  async #make(layer, code) {
    const values = this.model.zeros();
    for (let row = 0; row < layer.height; row += 1) {
      for (let column = 0; column < layer.width; column += 1) values[layer.at(row, column)] = code;
    }
    const { imageShape } = this.model;
    const image = await createImageBitmap(toPixels(await this.model.decode(values), imageShape));
    const [height, width] = [imageShape[0] / layer.height, imageShape[1] / layer.width];
    const icon = element('canvas', { width: Math.ceil(width), height: Math.ceil(height) });
    const [top, left] = [layer.height >> 1, layer.width >> 1];
    icon.getContext('2d').drawImage(image, -Math.floor(left * width), -Math.floor(top * height));
    return icon;
  }
}

function lastCode(model) {
  return model.description.codebook_size - 1;
}

/** Draw a frame around a site, which can be seen on anything. */
function frame(context, [row, column], cell) {
  const width = Math.max(2, cell / 40);
  for (const [colour, inset] of [['#000', 1.5 * width], ['#fff', 0.5 * width]]) {
    Object.assign(context, { strokeStyle: colour, lineWidth: width });
    const size = cell - 2 - 2 * inset;
    context.strokeRect(cell * column + inset, cell * row + inset, size, size);
  }
}

/** Write white on a dark edge, which can be read on anything. */
function label(context, text, x, y) {
  Object.assign(context, { lineWidth: 5, lineJoin: 'round' });
  Object.assign(context, { strokeStyle: '#000b', fillStyle: '#fff' });
  context.strokeText(text, x, y);
  context.fillText(text, x, y);
}

/** A canvas can be in one place of the page only. */
function copyOf(icon) {
  const copy = element('canvas', { className: 'pixels', width: icon.width, height: icon.height });
  copy.getContext('2d').drawImage(icon, 0, 0);
  return copy;
}
