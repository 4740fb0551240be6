/*
 * What it costs to find a line's level, per line: in messages as containers print them, and as they lie in Docker's
 * files; beside what JSON.parse of the same JSON messages costs. No part of the agent but the classifier runs.
 *
 *   npm run bench:classify
 */

import { levelOf, levelOfEscaped } from '../packages/agent/src/classify/level.ts';
import { type LineSet, realisticLines } from './lines.ts';

const rounds = 9;
const linesPerRound = 200_000;

const sets = realisticLines();
const sink = { found: 0 };

const jsonParse = nanosPerLine(sets.json, (set, i) => {
  if (JSON.parse(set.texts[i] as string).level !== undefined) sink.found++;
});
const rows = {
  'JSON messages': scan(sets.json),
  'JSON messages in docker files': scanEscaped(sets.json),
  'JSON, the level last': scan(sets.levelLast),
  text: scan(sets.text),
  'text in docker files': scanEscaped(sets.text),
};

const bytes = (set: LineSet) => set.bytes.reduce((sum, line) => sum + line.length, 0) / set.bytes.length;
console.log(`
                                    ns a line
JSON.parse                     ${jsonParse.toFixed(0).padStart(14)}   (messages of ${bytes(sets.json).toFixed(0)} bytes)`);
for (const [name, ns] of Object.entries(rows)) console.log(`${name.padEnd(31)}${ns.toFixed(0).padStart(14)}`);
console.log();
const figures = {
  jsonNs: Math.round(rows['JSON messages']),
  jsonEscapedNs: Math.round(rows['JSON messages in docker files']),
  textNs: Math.round(rows.text),
  jsonParseNs: Math.round(jsonParse),
  jsonParsePerLevel: Math.round((jsonParse / rows['JSON messages']) * 10) / 10,
};
console.log(JSON.stringify(figures));

function scan(set: LineSet): number {
  return nanosPerLine(set, ({ bytes: all }, i) => {
    const line = all[i] as Buffer;
    if (levelOf(line, 0, line.length)) sink.found++;
  });
}

function scanEscaped(set: LineSet): number {
  return nanosPerLine(set, ({ escaped }, i) => {
    const line = escaped[i] as Buffer;
    if (levelOfEscaped(line, 0, line.length)) sink.found++;
  });
}

/** CPU time, the median of several rounds: one that another process disturbed does not count. */
function nanosPerLine(set: LineSet, each: (set: LineSet, i: number) => void): number {
  const took: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const since = process.cpuUsage().user;
    for (let i = 0; i < linesPerRound; i++) each(set, i % set.texts.length);
    took.push(((process.cpuUsage().user - since) * 1000) / linesPerRound);
  }
  return took.sort((a, b) => a - b)[rounds >> 1] as number;
}
