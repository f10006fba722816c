// JSON Merge Patch (RFC 7396). Objects that a patch touches are copied and all others are kept, so that views can
// tell by identity whether a part of the state has changed.

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

export function merge(target, patch) {
  if (!isObject(patch)) return patch;
  const merged = isObject(target) ? { ...target } : {};
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete merged[name];
    else merged[name] = merge(merged[name], value);
  }
  return merged;
}
