import { describeSettings, type Settings } from '@millrace/wire';

/** A program's environment variables for `--help`: name, what it does, default. Wrapped at `columns`. */
export function settingsTable(settings: Settings, columns: number): string {
  const rows = describeSettings(settings);
  const nameWidth = Math.max(...rows.map((row) => row.env.length));
  const textWidth = Math.max(30, Math.min(columns, 120) - nameWidth - 4);
  const lines = rows.flatMap(({ env, help, default: fallback }) => {
    const text = fallback ? `${help} Default: ${fallback}.` : help;
    return wrap(text, textWidth).map((part, i) => `  ${(i === 0 ? env : '').padEnd(nameWidth)}  ${part}`);
  });
  return ['Environment:', ...lines].join('\n');
}

function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line ? `${line} ${word}` : word;
  }
  return [...lines, line];
}
