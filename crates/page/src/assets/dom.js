// Styles for lit-html that a strict Content-Security-Policy allows.

import { noChange } from "./vendor/lit-html/lit-html.js";
import { Directive, directive } from "./vendor/lit-html/directive.js";

// Sets properties one by one through the CSSOM. lit-html's own styleMap first writes a style attribute, which a
// Content-Security-Policy without 'unsafe-inline' refuses. Use: html`<i ${css({ width: "3px" })}></i>`
class Css extends Directive {
  last = {};

  render() {
    return noChange;
  }

  update({ element }, [properties]) {
    for (const [name, value] of Object.entries(properties)) {
      if (this.last[name] !== value) element.style.setProperty(name, value);
    }
    this.last = properties;
    return noChange;
  }
}

export const css = directive(Css);

const still = matchMedia("(prefers-reduced-motion: reduce)");

// Animates rows to their new places. Call it while the old order is in the document, and the function it returns once
// the new order is.
export function glide(rows) {
  if (still.matches) return () => {};
  const before = new Map([...rows].map((row) => [row, row.getBoundingClientRect().top]));
  return () => {
    for (const [row, top] of before) {
      const moved = row.isConnected ? top - row.getBoundingClientRect().top : 0;
      if (moved) row.animate([{ transform: `translateY(${moved}px)` }, { transform: "none" }], { duration: 500, easing: "ease" });
    }
  };
}
