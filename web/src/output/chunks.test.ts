import { expect, test } from 'vitest';
import type { StreamName } from '../api/types';
import { type Chunk, OutputWindow, after, before, newlines } from './chunks';

const encoder = new TextEncoder();
const chunk = (position: number, text: string, stream: StreamName = 'stdout'): Chunk => ({
  position,
  stream,
  time: 0,
  bytes: encoder.encode(text),
});
const text = (window: OutputWindow) =>
  window.chunks.map((part) => new TextDecoder().decode(part.bytes)).join('');

test('what comes twice is kept once, byte for byte', () => {
  const window = new OutputWindow(10);
  window.append(chunk(10, 'abc'));
  expect(window.append(chunk(10, 'abc'))).toBeNull();
  expect(window.append(chunk(12, 'cde'))?.position).toBe(13);
  expect([text(window), window.start, window.end]).toEqual(['abcde', 10, 15]);
});

test('a hole is an error, never silence', () => {
  const window = new OutputWindow(0);
  window.append(chunk(0, 'ab'));
  expect(() => window.append(chunk(3, 'd'))).toThrow('cannot go on at 2');
  expect(() => new OutputWindow(9).prepend([chunk(0, 'abc')])).toThrow('cannot put output');
});

test('earlier output fits in front exactly', () => {
  const window = new OutputWindow(6);
  window.append(chunk(6, 'gh'));
  window.prepend([chunk(0, 'abc'), chunk(3, 'defgh')]);
  expect([text(window), window.start, window.end]).toEqual(['abcdefgh', 0, 8]);
});

test('both ends can be cut anywhere', () => {
  const window = new OutputWindow(0);
  for (const [at, part] of [[0, 'abc'], [3, 'def'], [6, 'ghi']] as const) window.append(chunk(at, part));
  window.dropBefore(4);
  window.dropFrom(7);
  expect([text(window), window.start, window.end, window.bytes]).toEqual(['efg', 4, 7, 3]);
  expect(after(chunk(0, 'ab'), 2)).toBeNull();
  expect(before(chunk(5, 'ab'), 5)).toBeNull();
});

test('lines are found forwards and backwards over chunks', () => {
  const window = new OutputWindow(100);
  window.append(chunk(100, 'tail of\none\ntw'));
  window.append(chunk(114, 'o\nthree\n'));
  expect(window.forward(100, 1)).toBe(108);
  expect(window.forward(100, 3)).toBe(116);
  expect(window.forward(100, 99)).toBe(122);
  expect(window.backward(1)).toBe(116);
  expect(window.backward(2)).toBe(112);
  expect(window.backward(99)).toBe(100);
  expect(window.firstLine()).toBe(108);
  expect(window.firstLine(3)).toBe(100);
  window.append(chunk(122, 'four'));
  expect(window.backward(0)).toBe(122);
  window.dropUnfinishedLine(3);
  expect(window.end).toBe(126);
  window.dropUnfinishedLine();
  expect(window.end).toBe(122);
  expect(newlines(encoder.encode('a\n\nb'))).toBe(2);
});
