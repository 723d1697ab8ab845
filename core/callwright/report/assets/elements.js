// Elements are made one by one and texts become text nodes: nothing that a model or a data set wrote is ever markup.

/** `el("p.note", {title: "why"}, "text", child)`. Functions among the attributes are listeners: `onclick`. */
function el(what, attributes = {}, ...children) {
  const [tag, ...classes] = what.split(".");
  const element = document.createElement(tag);
  return furnished(element, classes, attributes, children);
}

/** The same for the parts of a drawing. */
function svg(what, attributes = {}, ...children) {
  const [tag, ...classes] = what.split(".");
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  return furnished(element, classes, attributes, children);
}

function furnished(element, classes, attributes, children) {
  if (classes.length) element.setAttribute("class", classes.join(" "));
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, String(value));
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Replace all that is in an element. */
function fill(element, ...children) {
  element.replaceChildren(
    ...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

/** A part of the page under a heading. */
function section(id, title, explanation, ...children) {
  return el(
    "section",
    { id, "aria-labelledby": `${id}-title` },
    el("header.section-head", {}, el("h2", { id: `${id}-title` }, title), explanation && el("p", {}, explanation)),
    children,
  );
}

/** A group of buttons of which one is pressed. choices: `[value, label, swatch class]`. */
function choice(label, choices, value, changed) {
  const buttons = choices.map(([own, text, swatch]) =>
    el(
      "button",
      { type: "button", "aria-pressed": own === value, onclick: () => press(own) },
      swatch && el(`i.swatch.${swatch}`),
      text,
    ),
  );
  function press(own) {
    buttons.forEach((button, index) => button.setAttribute("aria-pressed", choices[index][0] === own));
    changed(own);
  }
  return el("div.choice", { role: "group", "aria-label": label }, buttons);
}
