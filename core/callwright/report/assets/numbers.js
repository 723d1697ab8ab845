// How numbers are written.

function number(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (size >= 10000) return Math.round(value).toLocaleString("en");
  if (size >= 100) return value.toFixed(0);
  if (size !== 0 && size < 0.001) return value.toExponential(1).replace("e-0", "e-").replace("-", "−");
  const text = value.toPrecision(digits);
  return (text.includes("e") ? text : text.replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "")).replace("-", "−");
}

function count(value) {
  return value.toLocaleString("en");
}

function percent(value, digits = Math.abs(value) < 0.0995 && value ? 1 : 0) {
  return value === null || value === undefined ? "–" : `${(100 * value).toFixed(digits)}%`;
}

/** Two decimals, so that figures of one kind are of one width. */
function score(value) {
  return value === null || value === undefined
    ? "–"
    : Math.abs(value) < 10
      ? value.toFixed(2).replace("-", "−")
      : number(value);
}

function signed(value, written = number) {
  return value > 0 ? `+${written(value)}` : written(value).replace("-", "−");
}

function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value !== 0 && value < 0.001) return `${number(1e6 * value, 2)} µs`;
  if (value !== 0 && value < 1) return `${number(1000 * value, 2)} ms`;
  return value < 600 ? `${number(value)} s` : clock(value);
}

function clock(value) {
  const whole = Math.round(value),
    hours = Math.floor(whole / 3600),
    minutes = Math.floor(whole / 60) % 60;
  const two = (part) => String(part).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

function plural(amount, word) {
  return `${count(amount)} ${word}${amount === 1 ? "" : "s"}`;
}

/** About `wanted` round numbers from `low` to `high`. */
function ticks(low, high, wanted) {
  const rough = (high - low) / Math.max(1, wanted) || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= rough * 0.999);
  const found = [];
  for (let index = Math.ceil(low / step - 1e-9); index * step <= high + step * 1e-9; index++) found.push(index * step);
  return found;
}

function mean(values) {
  const known = values.filter((value) => value !== null && value !== undefined);
  return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
}

/** Of each place the mean over `width` places around it; gaps stay gaps. */
function smoothed(values, width) {
  if (width <= 1) return values;
  const half = Math.floor(width / 2);
  return values.map((value, index) =>
    value === null || value === undefined ? null : mean(values.slice(Math.max(0, index - half), index + half + 1)),
  );
}
