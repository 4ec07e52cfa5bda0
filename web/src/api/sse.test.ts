import { expect, test } from 'vitest';
import { chunkOf } from './events';
import { EventParser } from './sse';

const STREAM =
  'retry: 1000\n\nid: 0\nevent: status\ndata: {"status":"running"}\n\n: still here\n\n' +
  'id: 5\nevent: output\ndata: {"text":"a: ü\\n"}\n\nid: 5\nevent: end\ndata: {}\n\n';
const EVENTS = [
  { id: '0', event: 'status', data: '{"status":"running"}' },
  { id: '5', event: 'output', data: '{"text":"a: ü\\n"}' },
  { id: '5', event: 'end', data: '{}' },
];

test('events are the same wherever the stream is cut', () => {
  for (let cut = 0; cut <= STREAM.length; cut++) {
    const parser = new EventParser();
    expect([...parser.push(STREAM.slice(0, cut)), ...parser.push(STREAM.slice(cut))]).toEqual(EVENTS);
  }
});

test('carriage returns before the end of a line are no part of it', () => {
  expect(new EventParser().push(STREAM.replaceAll('\n', '\r\n'))).toEqual(EVENTS);
});

test('an event that is cut off is none', () => {
  expect(new EventParser().push('id: 1\nevent: output\ndata: {}\n')).toEqual([]);
});

test('text and base64 stand for the bytes the script wrote', () => {
  const event = { stream: 'stdout', position: 7, stream_offset: 7, time: '2026-11-23T16:20:00Z' } as const;
  expect(chunkOf({ ...event, text: 'ü' }).bytes).toEqual(new Uint8Array([0xc3, 0xbc]));
  expect(chunkOf({ ...event, base64: '/wAK' }).bytes).toEqual(new Uint8Array([255, 0, 10]));
});
