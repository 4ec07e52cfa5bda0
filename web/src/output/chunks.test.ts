import { expect, test } from 'vitest';
import type { Chunk, StreamName } from '../api/types';
import { OutputWindow, countNewlines, partBefore, partFrom } from './chunks';

const encoder = new TextEncoder();
const chunk = (position: number, text: string, stream: StreamName = 'stdout'): Chunk => ({
  position,
  stream,
  time: 0,
  bytes: encoder.encode(text),
});
const text = (window: OutputWindow) =>
  window.chunks.map((part) => new TextDecoder().decode(part.bytes)).join('');

test('output that arrives twice is kept once, byte for byte', () => {
  const window = new OutputWindow(10);
  window.append(chunk(10, 'abc'));
  expect(window.append(chunk(10, 'abc'))).toBeNull();
  expect(window.append(chunk(12, 'cde'))?.position).toBe(13);
  expect([text(window), window.start, window.end]).toEqual(['abcde', 10, 15]);
});

test('a gap is an error', () => {
  const window = new OutputWindow(0);
  window.append(chunk(0, 'ab'));
  expect(() => window.append(chunk(3, 'd'))).toThrow('cannot append output at 3 after 2');
  expect(() => new OutputWindow(9).prepend([chunk(0, 'abc')])).toThrow('cannot prepend output');
});

test('earlier output is joined exactly', () => {
  const window = new OutputWindow(6);
  window.append(chunk(6, 'gh'));
  window.prepend([chunk(0, 'abc'), chunk(3, 'defgh')]);
  expect([text(window), window.start, window.end]).toEqual(['abcdefgh', 0, 8]);
});

test('both ends can be cut at any position', () => {
  const window = new OutputWindow(0);
  for (const [at, part] of [[0, 'abc'], [3, 'def'], [6, 'ghi']] as const) window.append(chunk(at, part));
  window.dropBefore(4);
  window.dropFrom(7);
  expect([text(window), window.start, window.end, window.bytes]).toEqual(['efg', 4, 7, 3]);
  expect(partFrom(chunk(0, 'ab'), 2)).toBeNull();
  expect(partBefore(chunk(5, 'ab'), 5)).toBeNull();
});

test('lines are found in both directions across chunks', () => {
  const window = new OutputWindow(100);
  window.append(chunk(100, 'tail of\none\ntw'));
  window.append(chunk(114, 'o\nthree\n'));
  expect(window.skipLines(100, 1)).toBe(108);
  expect(window.skipLines(100, 3)).toBe(116);
  expect(window.skipLines(100, 99)).toBe(122);
  expect(window.startOfLastLines(1)).toBe(116);
  expect(window.startOfLastLines(2)).toBe(112);
  expect(window.startOfLastLines(99)).toBe(100);
  expect(window.firstWholeLine()).toBe(108);
  expect(window.firstWholeLine(3)).toBe(100);
  window.append(chunk(122, 'four'));
  expect(window.startOfLastLines(0)).toBe(122);
  window.dropUnfinishedLine(3);
  expect(window.end).toBe(126);
  window.dropUnfinishedLine();
  expect(window.end).toBe(122);
  expect(countNewlines(encoder.encode('a\n\nb'))).toBe(2);
});
