/**
 * Images on canvases, and small helpers for elements.
 *
 * @module
 */

/**
 * Return an image as pixels that a canvas takes; values are cut off at 0 and 1.
 *
 * @param {Float32Array} image `[height, width, channels]`; one channel is grey, three are colours
 * @param {number[]} shape
 */
export function toPixels(image, [height, width, channels]) {
  const pixels = new ImageData(width, height);
  for (let site = 0; site < height * width; site += 1) {
    for (let colour = 0; colour < 3; colour += 1) {
      const channel = channels < 3 ? 0 : colour;
      pixels.data[4 * site + colour] = Math.round(255 * image[site * channels + channel]);
    }
    pixels.data[4 * site + 3] = 255;
  }
  return pixels;
}

/** Show an image on a canvas, a pixel of the one for a pixel of the other. */
export function paint(canvas, image, shape) {
  [canvas.height, canvas.width] = shape;
  canvas.getContext('2d').putImageData(toPixels(image, shape), 0, 0);
}

/** Return a new element with properties and children. */
export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  Object.assign(made, properties);
  made.append(...children);
  return made;
}

/** Return a button with what it does. */
export function button(text, action) {
  const made = element('button', { type: 'button', textContent: text });
  made.addEventListener('click', action);
  return made;
}

/**
 * Call back while a pointer is down on a canvas.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {{start?: Function, move: Function, end?: Function}} actions each gets the place as
 *     fractions of the width and of the height, and the event
 */
export function onDrag(canvas, { start = () => {}, move, end = () => {} }) {
  let isDown = false;
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    return [clamp(x, 0, 1 - 1e-9), clamp(y, 0, 1 - 1e-9), event];
  };
  canvas.addEventListener('pointerdown', (event) => {
    isDown = true;
    canvas.setPointerCapture(event.pointerId);
    start(...at(event));
    move(...at(event));
    event.preventDefault();
  });
  canvas.addEventListener('pointermove', (event) => {
    if (isDown) move(...at(event));
  });
  for (const name of ['pointerup', 'pointercancel']) {
    canvas.addEventListener(name, () => {
      if (isDown) end();
      isDown = false;
    });
  }
}

export const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/** Let the browser show what has changed. */
export const nextFrame = () => new Promise((resolve) => requestAnimationFrame(resolve));
