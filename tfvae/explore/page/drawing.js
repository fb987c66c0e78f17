/**
 * One end of an interpolation: a canvas to draw on, or a picture put there.
 *
 * @module
 */

import { button, element, onDrag, toPixels } from './picture.js';

const SIZE = 280; // pixels of the longer side while drawing, at least

export class DrawingPad {
  /**
   * @param {string} name
   * @param {number[]} shape of the images of the model
   * @param {?(image: Float32Array) => void} onDrawn null where nothing can be drawn
   * @param {[string, Function][]} others more buttons
   */
  constructor(name, shape, onDrawn, others) {
    this.shape = shape;
    this.onDrawn = onDrawn;
    this.scale = Math.ceil(SIZE / Math.max(shape[0], shape[1]));
    this.isColour = shape[2] >= 3;
    this.canvas = element('canvas', {
      className: 'pad',
      width: this.scale * shape[1],
      height: this.scale * shape[0],
    });
    this.canvas.setAttribute('aria-label', `${onDrawn ? 'Drawing' : 'Image'} ${name}`);
    this.context = this.canvas.getContext('2d', { willReadFrequently: true });
    this.size = element('input', { type: 'range', min: 0.5, max: 6, step: 0.25, value: 1.75 });
    this.tone = this.isColour
      ? element('input', { type: 'color', value: '#ffd166' })
      : element('input', { type: 'checkbox' });
    const buttons = element('div', { className: 'buttons' });
    this.element = element('div', {}, element('h3', { textContent: name }), this.canvas);
    if (onDrawn) {
      this.element.append(this.#tools());
      buttons.append(button('Clear', () => this.clear()));
      if (this.isColour) buttons.append(button('Flood', () => this.#flood(this.tone.value)));
      onDrag(this.canvas, {
        start: () => (this.last = null),
        move: (x, y) => this.#stroke(x * this.canvas.width, y * this.canvas.height),
        end: () => this.onDrawn(this.toImage()),
      });
    }
    buttons.append(...others.map(([text, action]) => button(text, action)));
    this.element.append(buttons);
    this.#cover('#000');
  }

  /** Make everything black. */
  clear() {
    this.#flood('#000');
  }

  /** Show an image without encoding it. */
  async show(image) {
    const bitmap = await createImageBitmap(toPixels(image, this.shape));
    this.context.imageSmoothingEnabled = false;
    this.context.drawImage(bitmap, 0, 0, this.canvas.width, this.canvas.height);
  }

  /** Return the drawing at the model's size: the mean of the pixels that make one. */
  toImage() {
    const { scale, shape: [height, width, channels] } = this;
    const { data } = this.context.getImageData(0, 0, this.canvas.width, this.canvas.height);
    const image = new Float32Array(height * width * channels);
    for (let y = 0; y < height * scale; y += 1) {
      for (let x = 0; x < width * scale; x += 1) {
        const site = Math.floor(y / scale) * width + Math.floor(x / scale);
        for (let channel = 0; channel < channels; channel += 1) {
          const colour = Math.min(channel, 2);
          image[site * channels + channel] += data[4 * (y * width * scale + x) + colour];
        }
      }
    }
    return image.map((sum) => sum / (255 * scale * scale));
  }

  #tools() {
    return element(
      'div',
      { className: 'tools' },
      element('label', {}, 'Brush', this.size),
      element('label', {}, this.isColour ? 'Colour' : 'Erase', this.tone),
    );
  }

  #flood(colour) {
    this.#cover(colour);
    this.onDrawn(this.toImage());
  }

  #cover(colour) {
    this.context.fillStyle = colour;
    this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
  }

  #stroke(x, y) {
    const { context } = this;
    const grey = this.tone.checked ? '#000' : '#fff';
    Object.assign(context, {
      strokeStyle: this.isColour ? this.tone.value : grey,
      lineWidth: this.size.valueAsNumber * this.scale,
      lineCap: 'round',
    });
    context.beginPath();
    context.moveTo(...(this.last ?? [x, y]));
    context.lineTo(x, y);
    context.stroke();
    this.last = [x, y];
  }
}
