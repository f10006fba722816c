// The page's view state, kept in the query string so that views can be linked and the back button works.

const ALLOWED = {
  view: ["night", "trust", "pipeline"],
  map: ["leader", "turnout", "coming"],
  chart: ["votes", "share", "lead"],
  lang: [null, "en", "fr"], // null: the browser's preference
  theme: ["auto", "light", "dark"],
  mode: [null, "projector"],
};
const FREE = ["region", "sort", "find"];

let listener = () => {};

export function read(search = location.search) {
  const given = new URLSearchParams(search);
  const query = {};
  for (const [name, values] of Object.entries(ALLOWED)) {
    const value = given.get(name);
    query[name] = values.includes(value) ? value : values[0];
  }
  for (const name of FREE) query[name] = given.get(name) || null;
  return query;
}

export let query = read();

// The page's address with some of its state changed; defaults are left out.
export function link(changes) {
  const given = new URLSearchParams();
  for (const [name, value] of Object.entries({ ...query, ...changes })) {
    const usual = ALLOWED[name]?.[0] ?? null;
    if (value !== null && value !== "" && value !== usual) given.set(name, value);
  }
  const search = given.toString();
  return search ? `?${search}` : location.pathname;
}

export function go(changes, { replace = false } = {}) {
  const target = link(changes);
  if (replace) history.replaceState(null, "", target);
  else history.pushState(null, "", target);
  take();
}

// A click handler for links: navigates without reloading the page, unless the reader wants another tab.
export const follow = (changes, options) => (event) => {
  if (event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  go(changes, options);
};

export function onQuery(listen) {
  listener = listen;
  addEventListener("popstate", take);
}

function take() {
  query = read();
  listener();
}
