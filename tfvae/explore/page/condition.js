/**
 * The control of the condition: a choice of the class, or a field for each number of a vector.
 *
 * @module
 */

import { element } from './picture.js';

/**
 * Return the control of a model's condition, or null for a model without one.
 *
 * @param model
 * @param {(condition: Int32Array|Float32Array) => void} onChange
 */
export function conditionControl(model, onChange) {
  const { num_classes: classes = 0, condition_size: size = 0 } = model.description;
  if (classes) return classChoice(classes, onChange);
  return size ? vectorFields(size, onChange) : null;
}

function classChoice(classes, onChange) {
  const options = Array.from({ length: classes }, (_, n) => element('option', { text: n, value: n }));
  const select = element('select', { id: 'condition' }, ...options);
  select.addEventListener('input', () => onChange(Int32Array.of(Number(select.value))));
  return element('label', {}, 'Class', select);
}

function vectorFields(size, onChange) {
  const inputs = Array.from({ length: size }, (_, n) => {
    const input = element('input', { type: 'number', step: 'any', value: 0 });
    input.setAttribute('aria-label', `Condition, number ${n + 1}`);
    return input;
  });
  const change = () => onChange(Float32Array.from(inputs, (input) => input.valueAsNumber || 0));
  for (const input of inputs) input.addEventListener('input', change);
  return element('div', { className: 'vector' }, ...inputs);
}
