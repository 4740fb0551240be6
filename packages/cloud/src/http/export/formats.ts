import type { StoredLine } from '@millrace/wire';

/** How lines are written into a file. */
export interface ExportFormat {
  contentType: string;
  /** Of the file's name. */
  extension: string;
  /** Before the first line. */
  head: string;
  encode(line: StoredLine): string;
}

export const exportFormats = ['ndjson', 'csv', 'text'] as const;
export type ExportFormatName = (typeof exportFormats)[number];

/** `keepFormulas`: leave cells of a CSV as they are, also where a spreadsheet would run them. */
export function exportFormat(
  name: ExportFormatName,
  { keepFormulas }: { keepFormulas: boolean },
): ExportFormat {
  switch (name) {
    case 'ndjson':
      return {
        contentType: 'application/x-ndjson',
        extension: 'ndjson',
        head: '',
        encode: (line) => `${JSON.stringify(line)}\n`,
      };
    case 'csv':
      return csvFormat(keepFormulas ? quoted : (cell) => quoted(defused(cell)));
    case 'text':
      return { contentType: 'text/plain; charset=utf-8', extension: 'log', head: '', encode: textLine };
  }
}

const csvColumns: Record<string, (line: StoredLine) => string> = {
  time: ({ timestamp }) => new Date(timestamp).toISOString(),
  device: ({ device }) => device,
  service: ({ serviceName }) => serviceName ?? '',
  level: ({ level }) => level,
  stream: ({ isStdErr }) => (isStdErr ? 'stderr' : 'stdout'),
  message: ({ message }) => message,
  fields: ({ fields }) => (fields ? JSON.stringify(fields) : ''),
  app: ({ appId }) => String(appId ?? ''),
  container: ({ containerId }) => containerId ?? '',
  source: ({ source }) => `${source.type}:${source.name}`,
  id: ({ id }) => id,
  received: ({ receivedAt }) => new Date(receivedAt).toISOString(),
};

/** RFC 4180, in UTF-8. */
function csvFormat(cell: (text: string) => string): ExportFormat {
  const columns = Object.values(csvColumns);
  return {
    contentType: 'text/csv; charset=utf-8; header=present',
    extension: 'csv',
    head: `${Object.keys(csvColumns).join(',')}\r\n`,
    encode: (line) => `${columns.map((column) => cell(column(line))).join(',')}\r\n`,
  };
}

function quoted(cell: string): string {
  return /[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell;
}

/**
 * Spreadsheets run a cell that begins so as a formula, and a device's log is nobody's to trust. With an apostrophe
 * before it, it is text (https://owasp.org/www-community/attacks/CSV_Injection).
 */
function defused(cell: string): string {
  return /^[=+\-@\t\r\n＝＋－＠]/u.test(cell) ? `'${cell}` : cell;
}

// What would end the line, move a terminal's cursor or reorder the text.
const active =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what a file that is looked at must not hold
  /[\u0000-\u0008\u000a-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

const named: Record<string, string> = { '\n': '\\n', '\r': '\\r' };

function textLine({ timestamp, device, serviceName, source, level, message }: StoredLine): string {
  const columns = [device, serviceName ?? source.name, level.padEnd(5), message];
  return `${new Date(timestamp).toISOString()} ${columns.map(onOneLine).join(' ')}\n`;
}

function onOneLine(text: string): string {
  return text.replace(
    active,
    (character) => named[character] ?? `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
