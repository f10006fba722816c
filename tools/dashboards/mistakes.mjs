// Mistakes in a dashboard that drawing.mjs must find, each with the message it must give.

const override = (panel, field) => panel.fieldConfig.overrides.find((it) => it.matcher.options === field);
const property = (panel, field, id) => override(panel, field).properties.find((it) => it.id === id);

export const mistakes = [
  {
    mistake: 'an override of a field that is not there', board: 'election-night', title: 'Regions', found: /nothing matches .*Turn out/,
    change: (panel) => { override(panel, 'Turnout').matcher.options = 'Turn out'; },
  },
  {
    mistake: 'colours for a field that is not there', board: 'election-night', title: 'Standing', found: /nothing matches .*Candidates/,
    change: (panel) => { panel.transformations[0].options.applyTo.options = '/^Candidates$/'; },
  },
  {
    mistake: 'a code that is taken for a number', board: 'election-night', title: 'Regions', found: /Code: 01 is shown as 1/,
    change: (panel) => { property(panel, 'Code', 'unit').value = 'locale'; },
  },
  {
    mistake: 'columns that lie outside of the panel', board: 'trust', title: 'The accounting identity', found: /columns need/,
    change: (panel) => { delete panel.fieldConfig.defaults.custom.minWidth; },
  },
  {
    mistake: 'a unit that is none', board: 'pipeline', title: 'Append to visible', found: /no unit milliseconds/,
    change: (panel) => { panel.fieldConfig.defaults.unit = 'milliseconds'; },
  },
  {
    mistake: 'a share with all of its decimals', board: 'election-night', title: 'Lead', found: /is shown as \d+\.\d{4}/,
    change: (panel) => { Object.assign(property(panel, 'Of the valid votes', 'unit'), { value: 'none' }); property(panel, 'Of the valid votes', 'decimals').value = 6; },
  },
  {
    mistake: 'a mode of colours that is none', board: 'pipeline', title: 'Lag', found: /no color .*rainbow/,
    change: (panel) => { panel.fieldConfig.defaults.color.mode = 'rainbow'; },
  },
  {
    mistake: 'a colour that is none', board: 'trust', title: 'Rejections by reason', found: /no color .*reddish/,
    change: (panel) => { property(panel, 'already_voted', 'color').value.fixedColor = 'reddish'; },
  },
  {
    mistake: 'thresholds out of order', board: 'pipeline', title: 'Waiting', found: /thresholds at/,
    change: (panel) => { panel.fieldConfig.defaults.thresholds.steps.reverse(); },
  },
  {
    mistake: 'a property that is none', board: 'election-night', title: 'Lead', found: /no property digits/,
    change: (panel) => { property(panel, 'Of the valid votes', 'decimals').id = 'digits'; },
  },
  {
    mistake: 'a transformation that is none', board: 'pipeline', title: 'Waiting', found: /no transformation rowsToColumns/,
    change: (panel) => { panel.transformations[0].id = 'rowsToColumns'; },
  },
  {
    mistake: 'rows whose values are in no column', board: 'election-night', title: 'Channels', found: /no column vote for/,
    change: (panel) => { panel.transformations[0].options.mappings[1].fieldName = 'vote'; },
  },
  {
    mistake: 'words where only numbers are shown', board: 'trust', title: 'Last audit', found: /finds no value to show/,
    change: (panel) => { panel.options.reduceOptions.fields = ''; },
  },
  {
    mistake: 'a layer of a map without its place', board: 'election-night', title: 'Map', found: /the layer Regions wants Lat,/,
    change: (panel) => { panel.options.layers[0].location.latitude = 'Lat'; },
  },
  {
    mistake: 'a chart over a column that is not there', board: 'election-night', title: 'Turnout by hour', found: /no bars over Hour/,
    change: (panel) => { panel.options.xField = 'Hour'; },
  },
  {
    mistake: 'labels that are cut to nothing', board: 'election-night', title: 'Turnout by hour', found: /its labels are cut: \d\d:\d\d/,
    change: (panel) => { panel.options.xTickLabelMaxLength = 0; },
  },
  {
    mistake: 'a chart that is an error while it has no data', board: 'election-night', title: 'Lead over time', found: /no words over time \(before the first vote/,
    change: (panel) => { panel.type = 'state-timeline'; },
  },
];
