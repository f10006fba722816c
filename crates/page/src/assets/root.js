// The server's root URL: the folder above this one, below any path prefix.

export const root = new URL("../", import.meta.url);
export const address = (path) => new URL(path, root).href;
