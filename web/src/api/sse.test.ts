import { expect, test } from 'vitest';
import { toChunk } from './events';
import { EventStreamParser } from './sse';

const STREAM =
  'retry: 1000\n\nid: 0\nevent: status\ndata: {"status":"running"}\n\n: still here\n\n' +
  'id: 5\nevent: output\ndata: {"text":"a: ü\\n"}\n\nid: 5\nevent: end\ndata: {}\n\n';
const EVENTS = [
  { id: '0', event: 'status', data: '{"status":"running"}' },
  { id: '5', event: 'output', data: '{"text":"a: ü\\n"}' },
  { id: '5', event: 'end', data: '{}' },
];

test('the parser returns the same events wherever the stream is cut', () => {
  for (let cut = 0; cut <= STREAM.length; cut++) {
    const parser = new EventStreamParser();
    expect([...parser.push(STREAM.slice(0, cut)), ...parser.push(STREAM.slice(cut))]).toEqual(EVENTS);
  }
});

test('a carriage return before a newline is not part of the line', () => {
  expect(new EventStreamParser().push(STREAM.replaceAll('\n', '\r\n'))).toEqual(EVENTS);
});

test('an incomplete event is not returned', () => {
  expect(new EventStreamParser().push('id: 1\nevent: output\ndata: {}\n')).toEqual([]);
});

test('text and base64 are decoded to the bytes that the script wrote', () => {
  const event = { stream: 'stdout', position: 7, stream_offset: 7, time: '2026-11-23T16:20:00Z' } as const;
  expect(toChunk({ ...event, text: 'ü' }).bytes).toEqual(new Uint8Array([0xc3, 0xbc]));
  expect(toChunk({ ...event, base64: '/wAK' }).bytes).toEqual(new Uint8Array([255, 0, 10]));
});
