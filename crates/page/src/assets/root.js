// Where the program answers: the folder above this one, under whatever prefix a proxy gives it.

export const root = new URL("../", import.meta.url);
export const address = (path) => new URL(path, root).href;
