// Turns the results of a panel's queries into what Grafana draws, with Grafana's own library: transformed frames with the
// configuration of each field. What the library lacks is implemented here from the documentation: the wide format of the
// PostgreSQL data source for time series, the transformations "Rows to fields" and "Config from query results", and the list
// of properties.
import { createRequire } from 'node:module';

// The library needs a window and a navigator. Its dependencies would take these for a browser, so they are loaded first.
const require = createRequire(import.meta.url);
require('react-use');
globalThis.window ??= { addEventListener() {} };
globalThis.navigator ??= { languages: ['en'] };
export const grafana = require('@grafana/data');
const { lastValueFrom, map } = require('rxjs');

// == The data source

const values = { time: (text) => (isNaN(text) ? Date.parse(text) : 1000 * Number(text)), number: Number, string: String };

/** The frame of a result: { format, columns: [{ name, type }], rows: [[text or null]] }. Without rows it has no fields. */
function frame(refId, { format, columns, rows }) {
  if (rows.length === 0) return { refId, fields: [], length: 0 };
  const isSeries = format === 'time_series';
  const fields = columns.map(({ name, type: told }, n) => {
    const type = isSeries && name === 'time' ? 'time' : told;
    return { name, type, config: {}, values: rows.map((row) => (row[n] === null ? null : values[type](row[n]))) };
  });
  const long = { refId, fields, length: rows.length };
  return isSeries ? wide(long) : long;
}

/** One row for each time, and one field for each numeric column and each value of the text columns. */
function wide({ refId, fields, length }) {
  const time = fields.find((field) => field.type === 'time');
  const words = fields.filter((field) => field.type === 'string');
  const figures = fields.filter((field) => field.type === 'number');
  const times = [...new Set(time.values)];
  const rows = new Map(times.map((at, row) => [at, row]));
  // With a single numeric column next to `metric`, the metric is the name; otherwise it is a label.
  const isNamed = figures.length === 1 && words.length === 1 && words[0].name === 'metric';
  const series = new Map();
  for (let n = 0; n < length; n++) {
    for (const { name, type, values } of figures) {
      const labels = Object.fromEntries(words.map((word) => [word.name, word.values[n]]));
      const key = JSON.stringify([name, labels]);
      if (!series.has(key)) series.set(key, { ...(isNamed ? { name: labels.metric } : { name, labels }), type, config: {}, values: times.map(() => null) });
      series.get(key).values[rows.get(time.values[n])] = values[n];
    }
  }
  return { refId, fields: [{ ...time, values: times }, ...series.values()], length: times.length };
}

// == Transformations of Grafana's application

/** How a value of a result becomes part of a field's configuration. */
const handlers = {
  color: (color) => ({ color: { mode: 'fixed', fixedColor: color } }),
  displayName: (name) => ({ displayName: name }),
};

/** The column that a transformation maps to a key. */
function column(frame, mappings, key) {
  const name = mappings.find((it) => it.handlerKey === key)?.fieldName;
  const field = frame.fields.find((it) => it.name === name);
  if (name !== undefined && !field && frame.fields.length > 0) throw new Error(`no column ${name} for ${key}`);
  return field;
}

const rowsToFields = ({ mappings }) => map((frames) => frames.map((frame) => {
  const [names, values] = [column(frame, mappings, 'field.name'), column(frame, mappings, 'field.value')];
  if (!names || !values) return frame;
  const set = Object.keys(handlers).map((key) => [handlers[key], column(frame, mappings, key)]).filter(([, field]) => field);
  const fields = names.values.map((name, row) => ({
    name, type: values.type, values: [values.values[row]], config: Object.assign({}, ...set.map(([handler, field]) => handler(field.values[row]))),
  }));
  return { refId: frame.refId, fields, length: 1 };
}));

const configFromData = ({ configRefId, applyTo, mappings }, matched) => map((frames) => {
  const from = frames.find((frame) => frame.refId === configRefId);
  if (!from) throw new Error(`no answer ${configRefId} to take a configuration from`);
  const reduced = (key, otherwise) => {
    const field = column(from, mappings, key);
    const { reducerId = otherwise } = mappings.find((it) => it.handlerKey === key) ?? {};
    return field && grafana.reduceField({ field, reducers: [reducerId] })[reducerId];
  };
  const config = {};
  for (const [key, handler] of Object.entries(handlers)) {
    const value = reduced(key, 'lastNotNull');
    if (value !== undefined && value !== null) Object.assign(config, handler(value));
  }
  const [words, colors] = [reduced('mappings.value', 'allValues'), reduced('mappings.color', 'allValues')];
  if (words) config.mappings = [{ type: 'value', options: Object.fromEntries(words.map((word, index) => [word, { color: colors[index], index }])) }];
  const others = frames.filter((frame) => frame !== from);
  const matches = matcher(applyTo, others, matched);
  return others.map((frame) => ({
    ...frame,
    fields: frame.fields.map((field) => (matches(field, frame, others) ? { ...field, config: { ...field.config, ...config } } : field)),
  }));
});

const ours = { rowsToFields, configFromData };
const theirs = new Map(Object.values(grafana.standardTransformers).map((it) => [it.id, it]));
grafana.standardTransformersRegistry.setInit(() => [...theirs].map(([id, transformation]) => ({ id, name: id, transformation })));

/** A matcher of fields; calls `matched` if any of the frames has a matching field. */
function matcher(options, frames, matched) {
  const matches = grafana.getFieldMatcher(options);
  if (frames.some((frame) => frame.fields.some((field) => matches(field, frame, frames)))) matched(JSON.stringify(options));
  return matches;
}

// == Properties of fields

const standard = {
  unit: grafana.unitOverrideProcessor, decimals: grafana.numberOverrideProcessor, min: grafana.numberOverrideProcessor,
  max: grafana.numberOverrideProcessor, displayName: grafana.displayNameOverrideProcessor, noValue: grafana.stringOverrideProcessor,
  color: grafana.identityOverrideProcessor, mappings: grafana.valueMappingsOverrideProcessor,
  thresholds: grafana.thresholdsOverrideProcessor, links: grafana.dataLinksOverrideProcessor,
};

/** The properties that a panel sets. The schema says which custom ones it may set, see check.mjs. */
function properties({ fieldConfig: { defaults, overrides } }) {
  const own = [...Object.keys(defaults.custom ?? {}).map((id) => `custom.${id}`), ...overrides.flatMap((it) => it.properties.map(({ id }) => id))];
  const item = (id, path, process, isCustom) => ({ id, path, process, isCustom, name: id, shouldApply: () => true });
  return new grafana.Registry(() => [
    ...Object.entries(standard).map(([id, process]) => item(id, id, process, false)),
    ...[...new Set(own)].filter((id) => id.startsWith('custom.')).map((id) => item(id, id.slice('custom.'.length), grafana.identityOverrideProcessor, true)),
  ]);
}

const theme = grafana.createTheme();
const units = new Set(grafana.getValueFormats().flatMap((category) => category.submenu.map((unit) => unit.value)));

export const known = {
  color: (name) => /^(#[0-9a-f]{6}|rgba?\(.*\)|transparent)$/i.test(theme.visualization.getColorByName(name)),
  colorMode: (id) => grafana.fieldColorModeRegistry.getIfExists(id) !== undefined,
  property: (id) => id === 'custom' || id.startsWith('custom.') || id in standard,
  reducer: (id) => grafana.fieldReducers.getIfExists(id) !== undefined,
  transformation: (id) => id in ours || theirs.has(id),
  unit: (id) => units.has(id) || /^(prefix|suffix|time|si|count|currency|bool):./.test(id),
};

// == A panel

/** The frames that a panel is given to draw. Calls `matched` with each matcher that finds a field. */
export async function drawn(panel, answers, matched) {
  const frames = Object.entries(answers).map(([refId, answer]) => frame(refId, answer));
  const steps = (panel.transformations ?? []).map((it) => (it.id in ours ? () => ours[it.id](it.options, matched) : it));
  const transformed = await lastValueFrom(grafana.transformDataFrame(steps, frames));
  for (const rule of panel.fieldConfig.overrides) matcher(rule.matcher, transformed, matched);
  return grafana.applyFieldOverrides({
    data: transformed, fieldConfig: structuredClone(panel.fieldConfig), fieldConfigRegistry: properties(panel),
    replaceVariables: (text) => text, theme, timeZone: 'utc',
  });
}

/** The values that a panel shows as large numbers, bars or slices. */
export const looks = (panel, frames) => grafana.getFieldDisplayValues({
  data: frames, fieldConfig: panel.fieldConfig, reduceOptions: panel.options.reduceOptions, replaceVariables: (text) => text, theme, timeZone: 'utc',
});
