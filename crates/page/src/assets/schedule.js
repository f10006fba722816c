// At most one rendering per animation frame, however many were requested. None while the page is hidden, since browsers
// then pause frames.

let draw = () => {};
let asked = false;
const after = [];

export const onDraw = (render) => {
  draw = render;
};

export function requestRender() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    draw();
    for (const done of after.splice(0)) done();
  });
}

// Calls `done` once, when the current rendering is in the document.
export const afterRender = (done) => after.push(done);
