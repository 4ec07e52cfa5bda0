import { type Server, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, test, vi } from 'vitest';
import { readRange } from './events';
import { Problem } from './problem';
import type { Chunk } from '../output/chunks';
import { follow } from './follow';

/** A service whose connections break: real HTTP, cut anywhere, also in the middle of an event. */
const OUTPUT = Array.from({ length: 400 }, (_, index) => `line ${index} ü\n`).join('');
const BYTES = new TextEncoder().encode(OUTPUT);
const PIECE = 97;

let server: Server | undefined;
afterEach(() => {
  server?.closeAllConnections();
  server?.close();
  vi.unstubAllGlobals();
});

function frames(after: number): string {
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

/** @param answer - what each connection in turn does: so many bytes, then a cut; or a status. */
async function serve(answer: (connection: number) => { bytes?: number; status?: number }): Promise<void> {
  let connections = 0;
  server = createServer((request, response) => {
    const { bytes, status } = answer(connections++);
    if (status) {
      response.writeHead(status, { 'content-type': 'application/problem+json' });
      response.end(JSON.stringify({ type: '/problems/x', title: 'x', status, detail: 'x', instance: '' }));
      return;
    }
    const after = Number(new URL(request.url ?? '', 'http://x').searchParams.get('after'));
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.write(Buffer.from(frames(after)).subarray(0, bytes), () => {
      if (bytes !== undefined) response.destroy();
      else response.end();
    });
  });
  await new Promise<void>((resolve) => server!.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const { fetch } = globalThis;
  // A browser knows where the page came from; here it has to be said.
  vi.stubGlobal('fetch', (path: string, init: RequestInit) => fetch(`http://127.0.0.1:${port}${path}`, init));
}

function joined(chunks: Chunk[]): string {
  return new TextDecoder().decode(Buffer.concat(chunks.map((chunk) => chunk.bytes)));
}

test('every byte once, over connections that break anywhere and a service that is away', async () => {
  await serve((connection) =>
    connection === 2 ? { status: 503 } : connection < 6 ? { bytes: 300 + connection * 511 } : {},
  );
  const chunks: Chunk[] = [];
  const told: string[] = [];
  let ended = '';
  const follower = {
    event: (event: Parameters<Parameters<typeof follow>[2]['event']>[0]) => {
      if (event.kind === 'output') chunks.push(event.chunk);
      if (event.kind === 'end') ended = event.command.status;
    },
    lost: () => told.push('lost'),
    back: () => told.push('back'),
  };
  await follow('id', 0, follower, new AbortController().signal);
  expect(joined(chunks)).toBe(OUTPUT);
  expect(ended).toBe('succeeded');
  expect(told).toContain('lost');
  expect(told.at(-1)).toBe('back');
}, 20_000);

test('a no of the service ends it', async () => {
  await serve(() => ({ status: 404 }));
  const follower = { event: () => undefined, lost: () => undefined, back: () => undefined };
  await expect(follow('id', 0, follower, new AbortController().signal)).rejects.toBeInstanceOf(Problem);
});

test('a range is cut to the byte', async () => {
  await serve(() => ({}));
  const { signal } = new AbortController();
  for (const [from, to] of [[0, 1], [1, 98], [96, 500], [1000, BYTES.length]] as const) {
    const bytes = Buffer.concat((await readRange('id', from, to, signal)).map((chunk) => chunk.bytes));
    expect([...bytes]).toEqual([...BYTES.subarray(from, to)]);
  }
});
