// One rendering per animation frame, however many reasons there were. None while the page is hidden: frames then rest.

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

// Called once, when what is being rendered now stands in the document.
export const afterRender = (done) => after.push(done);
