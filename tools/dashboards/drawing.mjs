// Checks that each panel of each dashboard can be drawn, by running the results of its queries through Grafana's library.
// Then checks that deliberate mistakes are all found.
//
// node drawing.mjs ANSWERS.json DASHBOARD.json…      run by tools/check-dashboards, in a folder that has the packages
import fs from 'node:fs';
import path from 'node:path';
import { drawn, grafana, known, looks } from './grafana.mjs';
import { mistakes } from './mistakes.mjs';

// In pixels: a 1500-pixel window without Grafana's menu, the padding of a table, and the widths of a column.
const TABLE = { width: 1200, padding: 40, column: 150, least: 50 };

/** The faults of a panel that do not depend on query results. */
function wrongAsWritten(panel) {
  const wrong = [];
  const check = (good, what) => good || wrong.push(what);
  const { defaults, overrides } = panel.fieldConfig;
  const set = [...Object.entries(defaults), ...overrides.flatMap((rule) => rule.properties.map(({ id, value }) => [id, value]))];
  for (const [id, value] of set) {
    check(known.property(id), `no property ${id}`);
    if (id === 'unit') check(known.unit(value), `no unit ${value}`);
    if (id === 'color') check(known.colorMode(value.mode) && (value.mode !== 'fixed' || known.color(value.fixedColor)), `no color ${JSON.stringify(value)}`);
    if (id === 'mappings') for (const { color } of mapped(value)) check(known.color(color), `no color ${color}`);
    if (id === 'thresholds') {
      for (const { color } of value.steps) check(known.color(color), `no color ${color}`);
      const steps = value.steps.map((step) => step.value ?? -Infinity);
      check(steps[0] === -Infinity && steps.every((step, n) => n === 0 || steps[n - 1] < step), `thresholds at ${steps}`);
    }
  }
  for (const { id } of panel.transformations ?? []) check(known.transformation(id), `no transformation ${id}`);
  for (const id of [...(panel.options.reduceOptions?.calcs ?? []), ...(panel.options.legend?.calcs ?? [])]) check(known.reducer(id), `no reducer ${id}`);
  return wrong;
}

const mapped = (mappings) => mappings.flatMap((it) => (it.type === 'value' ? Object.values(it.options) : [it.options.result]));

/** The faults in what a panel is given to draw. */
function wrongAsDrawn(panel, answers) {
  const wrong = [];
  const frames = answers.filter((frame) => frame.fields.length > 0);
  // A panel without data says so; only this kind reports an error.
  if (frames.length === 0 && panel.type !== 'state-timeline') return wrong;
  const check = (good, what) => good || wrong.push(what);
  const numbers = (frame) => frame.fields.filter((field) => field.type === 'number');
  for (const frame of frames) {
    for (const field of frame.fields) {
      const name = grafana.getFieldDisplayName(field, frame, frames);
      for (const value of new Set(field.values)) {
        if (value === null) continue;
        const shown = grafana.formattedValueToString(field.display(value));
        const isMapped = mapped(field.config.mappings ?? []).some((it) => it.text === shown);
        if (field.type === 'string') check(isMapped || shown === value, `${name}: ${value} is shown as ${shown}`);
        else check(!/NaN|undefined|Infinity|Invalid|\d[eE][+-]?\d|\.\d{4}/.test(shown), `${name}: ${value} is shown as ${shown}`);
      }
    }
  }
  const names = frames.flatMap((frame) => frame.fields.filter((field) => field.type !== 'time').map((field) => grafana.getFieldDisplayName(field, frame, frames)));
  switch (panel.type) {
    case 'stat': case 'bargauge': case 'piechart': {
      const values = looks(panel, frames);
      check(values.every((it) => it.name !== 'No data' && it.display.text !== ''), 'it finds no value to show');
      break;
    }
    case 'timeseries':
      check(frames.every((frame) => frame.fields[0].type === 'time' && numbers(frame).length > 0), 'no figures over time');
      check(new Set(names).size === names.length, `two series of one name: ${names}`);
      break;
    case 'state-timeline':
      check(frames.length === 1 && frames[0].fields.map((field) => field.type).join() === 'time,string', 'no words over time');
      break;
    case 'barchart': {
      const x = frames[0].fields.find((field) => field.name === panel.options.xField);
      check(x && numbers(frames[0]).length > 0, `no bars over ${panel.options.xField}`);
      const labels = x ? x.values.map((value) => grafana.formattedValueToString(x.display(value))) : [];
      check(labels.every((label) => label.length <= panel.options.xTickLabelMaxLength), `its labels are cut: ${labels}`);
      break;
    }
    case 'geomap':
      for (const { name, location, config: { style } } of panel.options.layers) {
        const fields = frames[0].fields.map((field) => field.name);
        const wanted = [location.latitude, location.longitude, style.size.field, style.color.field];
        check(frames.length === 1 && wanted.every((field) => fields.includes(field)), `the layer ${name} wants ${wanted}, and has ${fields}`);
      }
      check(panel.options.layers.some(({ name }) => name === panel.options.view.layer), `no layer ${panel.options.view.layer} to look at`);
      break;
    case 'table': {
      check(frames.length === 1, `${frames.length} tables in one`);
      const room = (panel.gridPos.w / 24) * TABLE.width - TABLE.padding;
      const needed = frames[0].fields.reduce((sum, { config: { custom } }) => sum + Math.max(TABLE.least, custom.width ?? custom.minWidth ?? TABLE.column), 0);
      check(needed <= room, `its columns need ${needed} pixels, and have ${room}`);
      break;
    }
    default: check(false, `nothing is known of panels of the type ${panel.type}`);
  }
  return wrong;
}

/** All faults of the dashboards, by name, in all views. */
async function wrong(boards, views) {
  const found = new Set();
  for (const [name, board] of Object.entries(boards)) {
    for (const panel of board.panels.filter((it) => it.targets)) {
      const say = (what) => found.add(`${name}, ${panel.title}: ${what}`);
      wrongAsWritten(panel).forEach(say);
      const matchers = [...panel.fieldConfig.overrides.map((it) => it.matcher), ...(panel.transformations ?? []).flatMap((it) => it.options.applyTo ?? [])];
      const unused = new Set(matchers.map((it) => JSON.stringify(it)));
      for (const view of views) {
        try {
          const frames = await drawn(panel, view.answers[name][panel.id], (matcher) => unused.delete(matcher));
          wrongAsDrawn(panel, frames).forEach((what) => say(`${what} (${view.name})`));
        } catch (error) {
          say(`${error.message} (${view.name})`);
        }
      }
      for (const matcher of unused) say(`nothing matches ${matcher}`);
    }
  }
  return [...found];
}

const [answers, ...files] = process.argv.slice(2);
const { views } = JSON.parse(fs.readFileSync(answers, 'utf8'));
const boards = Object.fromEntries(files.map((file) => [path.basename(file, '.json'), JSON.parse(fs.readFileSync(file, 'utf8'))]));
const found = await wrong(boards, views);
found.forEach((what) => console.error(what));

const missed = [];
for (const { board, title, mistake, change, found: expected } of mistakes) {
  const panel = structuredClone(boards[board].panels.find((it) => it.title === title));
  change(panel);
  const all = await wrong({ [board]: { panels: [panel] } }, views);
  if (!all.some((what) => expected.test(what))) missed.push(`${mistake} was not found; found instead: ${all.join('; ') || 'nothing'}`);
}
missed.forEach((what) => console.error(what));
const panels = Object.values(boards).flatMap((board) => board.panels).length;
console.log(`${panels} panels in ${views.length} views: ${found.length} faults; ${mistakes.length - missed.length} of ${mistakes.length} deliberate mistakes were found`);
process.exitCode = panels > 0 && views.length > 0 && found.length === 0 && missed.length === 0 ? 0 : 1;
