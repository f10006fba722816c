// Checks each dashboard against the types of @grafana/schema: the dashboard, its variables, annotations and panels, and the
// options of each kind of panel. Since it is checked as a TypeScript literal, an unknown field is an error too.
//
// node check.mjs DASHBOARD.json…      run by tools/check-dashboards, in a folder that has the packages
import fs from 'node:fs';
import path from 'node:path';
import ts from 'typescript';

const kinds = {
  barchart: 'barchart/panelcfg/x/BarChartPanelCfg',
  bargauge: 'bargauge/panelcfg/x/BarGaugePanelCfg',
  geomap: 'geomap/panelcfg/x/GeomapPanelCfg',
  piechart: 'piechart/panelcfg/x/PieChartPanelCfg',
  stat: 'stat/panelcfg/x/StatPanelCfg',
  'state-timeline': 'statetimeline/panelcfg/x/StateTimelinePanelCfg',
  table: 'table/panelcfg/x/TablePanelCfg',
  timeseries: 'timeseries/panelcfg/x/TimeSeriesPanelCfg',
};
const name = (kind) => kind.replace('-', '');
// Field options missing from the schema: these panels have none, except that a map can hide a field.
const ownFields = { bargauge: '{}', geomap: 'HideableFieldConfig', stat: '{}' };

const types = `
${Object.entries(kinds).map(([kind, file]) => `import type * as ${name(kind)} from '@grafana/schema/dist/types/raw/composable/${file}_types.gen.d.ts';`).join('\n')}
import type { AnnotationQuery, Dashboard, DataQuery, FieldConfig, HideableFieldConfig, MatcherConfig, Panel, RowPanel } from '@grafana/schema';

// JSON has the values of an enum, not its names.
type Plain<T> = T extends string ? \`\${T}\`
  : T extends number | boolean | null | undefined ? T
  : T extends (infer U)[] ? Plain<U>[]
  : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;

// A query of the PostgreSQL data source; it is not in the schema.
interface Query extends DataQuery { editorMode: 'code'; format: 'table' | 'time_series'; rawQuery: true; rawSql: string }
// A property set by an override; the schema allows anything.
type Property<Config, Before extends string = ''> = { [Id in keyof Config & string]-?: { id: \`\${Before}\${Id}\`; value: NonNullable<Config[Id]> } }[keyof Config & string];
type Fields<Custom> = {
  defaults: FieldConfig<Custom>;
  overrides: { matcher: MatcherConfig; properties: (Property<Omit<FieldConfig, 'custom'>> | Property<Custom, 'custom.'>)[] }[];
};
type Typed<Kind extends string, Options, Custom = {}> =
  Omit<Panel<Record<string, unknown>, Custom>, 'type' | 'options' | 'targets' | 'fieldConfig'> & { type: Kind; options: Options; fieldConfig: Fields<Custom>; targets: Query[] };
// The options of the alert list, from Grafana's own code. It has no queries and sets no fields.
interface AlertList {
  viewMode: 'list' | 'stat'; groupMode: 'default' | 'custom'; groupBy: string[]; maxItems: number; sortOrder: 1 | 2 | 3 | 4 | 5; dashboardAlerts: boolean;
  alertName: string; alertInstanceLabelFilter: string; datasource: string; showInstances: boolean; showInactiveAlerts: boolean;
  stateFilter: Record<'firing' | 'pending' | 'recovering' | 'noData' | 'normal' | 'error', boolean>;
}
type Panels = RowPanel
  | (Omit<Panel, 'type' | 'options' | 'targets' | 'fieldConfig' | 'datasource'> & { type: 'alertlist'; options: AlertList })
${Object.keys(kinds).map((kind) => `  | Typed<'${kind}', ${name(kind)}.Options, ${ownFields[kind] ?? `${name(kind)}.FieldConfig`}>`).join('\n')};
export type Checked = Plain<Omit<Dashboard, 'panels' | 'annotations'> & { panels: Panels[]; annotations: { list: AnnotationQuery<Query>[] } }>;
`;

fs.writeFileSync('types.ts', types);
const files = process.argv.slice(2).map((file) => {
  const checked = path.basename(file, '.json') + '.checked.ts';
  fs.writeFileSync(checked, `import type { Checked } from './types';\nexport const dashboard: Checked = ${fs.readFileSync(file, 'utf8')};\n`);
  return checked;
});
const program = ts.createProgram(files, {
  noEmit: true, strict: true, exactOptionalPropertyTypes: true, skipLibCheck: true,
  module: ts.ModuleKind.ESNext, moduleResolution: ts.ModuleResolutionKind.Bundler, target: ts.ScriptTarget.ES2022, types: [],
});
const found = ts.getPreEmitDiagnostics(program);
for (const one of found) {
  const at = one.file?.getLineAndCharacterOfPosition(one.start);
  // The literal begins on the second line of its file.
  const place = at ? `${path.basename(one.file.fileName).replace('.checked.ts', '.json')}:${at.line}: ` : '';
  console.error(place + ts.flattenDiagnosticMessageText(one.messageText, '\n'));
}
console.log(`${files.length - new Set(found.map((one) => one.file?.fileName)).size} of ${files.length} dashboards fit Grafana's schema`);
process.exitCode = found.length === 0 && files.length > 0 ? 0 : 1;
