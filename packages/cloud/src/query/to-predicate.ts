import type { StoredLine } from '@millrace/wire';
import type { NameColumn, Query, Test } from './ast.ts';
import { fieldNumber, fieldText, fieldValue } from './fields.ts';
import { isWithin } from './parse.ts';
import { compileRegex, messageRegex, regexSource, wholeValueRegex } from './regex.ts';
import { asciiLower, numberIn } from './text.ts';
import { unresolved } from './to-sql.ts';

export type LinePredicate = (line: StoredLine) => boolean;

/** A query as a test of one line. A property holds it and the SQL together. */
export function queryPredicate(query: Query): LinePredicate {
  switch (query.kind) {
    case 'everything':
      return () => true;
    case 'and': {
      const parts = query.parts.map(queryPredicate);
      return (line) => parts.every((part) => part(line));
    }
    case 'or': {
      const parts = query.parts.map(queryPredicate);
      return (line) => parts.some((part) => part(line));
    }
    case 'not': {
      const part = queryPredicate(query.part);
      return (line) => !part(line);
    }
    case 'levels': {
      const levels = new Set(query.levels);
      return (line) => levels.has(line.level);
    }
    case 'stderr':
      return (line) => line.isStdErr === query.isStdErr;
    case 'group':
      throw unresolved();
    case 'devices':
      return (line) => query.devices.has(line.device);
    case 'match': {
      const { target, test } = query;
      if (target.kind === 'message') {
        const matches = messageTest(test);
        return (line) => matches(line.message);
      }
      if (target.kind === 'name') {
        const matches = nameTest(test);
        return (line) => matches(nameOf(line, target.name));
      }
      const matches = fieldTest(test);
      return (line) => {
        const value = fieldValue(line.fields, target.path);
        return value !== undefined && value !== null && matches(value);
      };
    }
  }
}

function messageTest(test: Test): (message: string) => boolean {
  switch (test.kind) {
    case 'text': {
      const text = asciiLower(test.text);
      return (message) => asciiLower(message).includes(text);
    }
    case 'wildcard': {
      const pieces = test.pieces.map((piece) => (typeof piece === 'string' ? asciiLower(piece) : piece));
      const matches = compileRegex(messageRegex(pieces));
      return (message) => matches(asciiLower(message));
    }
    default:
      return nameTest(test);
  }
}

/** Of a name, or any text that is compared as it is. */
export function nameTest(test: Test): (name: string) => boolean {
  switch (test.kind) {
    case 'text':
      return (name) => name === test.text;
    case 'wildcard':
      return compileRegex(wholeValueRegex(test.pieces));
    case 'regex':
      return compileRegex(regexSource(test));
    case 'exists':
      return (name) => name !== '';
    case 'range':
      return () => false;
  }
}

/** Of a value that is there. */
function fieldTest(test: Test): (value: unknown) => boolean {
  switch (test.kind) {
    case 'text': {
      const text = asciiLower(test.text);
      const number = numberIn(test.text);
      return (value) => asciiLower(fieldText(value)) === text || fieldNumber(value) === number;
    }
    case 'wildcard': {
      const pieces = test.pieces.map((piece) => (typeof piece === 'string' ? asciiLower(piece) : piece));
      const matches = compileRegex(wholeValueRegex(pieces));
      return (value) => matches(asciiLower(fieldText(value)));
    }
    case 'regex': {
      const matches = compileRegex(regexSource(test));
      return (value) => matches(fieldText(value));
    }
    case 'exists':
      return () => true;
    case 'range':
      return (value) => isWithin(fieldNumber(value), test.from, test.to) && !Number.isNaN(fieldNumber(value));
  }
}

function nameOf(line: StoredLine, name: NameColumn): string {
  switch (name) {
    case 'device':
      return line.device;
    case 'service':
      return line.serviceName ?? '';
    case 'app':
      return String(line.appId ?? '');
    case 'container':
      return line.containerId ?? '';
  }
}
