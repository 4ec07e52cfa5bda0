import { type Server, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, test, vi } from 'vitest';
import { readRange } from './events';
import { follow } from './follow';
import { Problem } from './problem';
import type { Chunk } from './types';

const OUTPUT = Array.from({ length: 400 }, (_, index) => `line ${index} ü\n`).join('');
const BYTES = new TextEncoder().encode(OUTPUT);
const PIECE = 97;

/** A real HTTP server that cuts its connections anywhere, even in the middle of an event. */
let server: Server | undefined;
afterEach(() => {
  server?.closeAllConnections();
  server?.close();
  vi.unstubAllGlobals();
});

function eventStream(after: number): string {
  let text = `retry: 1000\n\nid: ${after}\nevent: status\ndata: {"status":"running"}\n\n`;
  for (let at = after; at < BYTES.length; at += PIECE) {
    const bytes = BYTES.subarray(at, at + PIECE);
    const stream = (at / PIECE) % 2 < 1 ? 'stdout' : 'stderr';
    const base64 = btoa(String.fromCharCode(...bytes));
    const data = { stream, position: at, stream_offset: 0, time: '2026-11-23T16:20:00Z', base64 };
    text += `id: ${at + bytes.length}\nevent: output\ndata: ${JSON.stringify(data)}\n\n`;
  }
  return `${text}event: end\ndata: {"status":"succeeded"}\n\n`;
}

/** @param behaviour - what each connection does: send at most `bytes`, then cut; or fail with `status`. */
async function serve(behaviour: (connection: number) => { bytes?: number; status?: number }): Promise<void> {
  let connections = 0;
  server = createServer((request, response) => {
    const { bytes, status } = behaviour(connections++);
    if (status) {
      response.writeHead(status, { 'content-type': 'application/problem+json' });
      response.end(JSON.stringify({ type: '/problems/x', title: 'x', status, detail: 'x', instance: '' }));
      return;
    }
    const after = Number(new URL(request.url ?? '', 'http://x').searchParams.get('after'));
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.write(Buffer.from(eventStream(after)).subarray(0, bytes), () => {
      if (bytes !== undefined) response.destroy();
      else response.end();
    });
  });
  await new Promise<void>((resolve) => server!.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const { fetch } = globalThis;
  // A browser resolves paths against the page's address. Node needs the whole address.
  vi.stubGlobal('fetch', (path: string, init: RequestInit) => fetch(`http://127.0.0.1:${port}${path}`, init));
}

function joined(chunks: Chunk[]): string {
  return new TextDecoder().decode(Buffer.concat(chunks.map((chunk) => chunk.bytes)));
}

test('every byte arrives once, although connections break anywhere and the service is away', async () => {
  await serve((connection) =>
    connection === 2 ? { status: 503 } : connection < 6 ? { bytes: 300 + connection * 511 } : {},
  );
  const chunks: Chunk[] = [];
  const reports: string[] = [];
  let ended = '';
  const listener = {
    event: (event: Parameters<Parameters<typeof follow>[2]['event']>[0]) => {
      if (event.kind === 'output') chunks.push(event.chunk);
      if (event.kind === 'end') ended = event.command.status;
    },
    lost: () => reports.push('lost'),
    restored: () => reports.push('restored'),
  };
  await follow('id', 0, listener, new AbortController().signal);
  expect(joined(chunks)).toBe(OUTPUT);
  expect(ended).toBe('succeeded');
  expect(reports).toContain('lost');
  expect(reports.at(-1)).toBe('restored');
}, 20_000);

test('following ends when the service refuses', async () => {
  await serve(() => ({ status: 404 }));
  const listener = { event: () => undefined, lost: () => undefined, restored: () => undefined };
  await expect(follow('id', 0, listener, new AbortController().signal)).rejects.toBeInstanceOf(Problem);
});

test('a range is exact to the byte', async () => {
  await serve(() => ({}));
  const { signal } = new AbortController();
  for (const [from, to] of [[0, 1], [1, 98], [96, 500], [1000, BYTES.length]] as const) {
    const bytes = Buffer.concat((await readRange('id', from, to, signal)).map((chunk) => chunk.bytes));
    expect([...bytes]).toEqual([...BYTES.subarray(from, to)]);
  }
});
